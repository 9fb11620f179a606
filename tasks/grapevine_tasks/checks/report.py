"""What a check is given and what it finds: a device's limits, and the report on a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from grapevine_tasks.sizes import Size, TensorType, ValueType

MIB = 2**20
EVALUATION_BATCH = 256  # samples at a time when a model is evaluated


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """What a device is ready to run. Bytes and operations are at the largest batch of each graph."""

    largest_batch: int = EVALUATION_BATCH  # of the train graph
    smallest_batch: int = 2  # of the train graph; a batch of one sample has no spread
    evaluation_batch: int = EVALUATION_BATCH  # of the eval graph, whose smallest batch is always 1
    num_nodes: int = 4096  # of both graphs together
    num_parameters: int = 50_000_000
    constant_bytes: int = 256 * 1024
    intermediate_bytes: int = 256 * MIB  # of any one value
    memory_bytes: int = 2048 * MIB  # of training and evaluating, bounded from above
    train_flops: int = 10**12  # of one training step


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One line of a graph as a table, for people who review it."""

    number: int  # of the node's first result
    operator: str
    arguments: str
    types: tuple[ValueType, ...]  # of its results, for any batch
    flops: int  # forward, at the largest batch of its graph

    @property
    def results(self) -> str:
        """The types of its results, for people."""
        return ", ".join(map(str, self.types))


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a checked program is and costs, with batches of `largest_batch` to train."""

    largest_batch: int
    num_parameters: int
    num_buffers: int  # float32 elements, not tensors
    num_nodes: int
    operators: Mapping[str, int]  # name: how often it occurs in the train graph
    output: str
    flops_per_sample: int  # to use the model, at a batch of one
    train_flops: int  # of one step: forward, and twice that for the gradients
    largest_intermediate_bytes: int
    memory_bytes: int  # that a trainer never takes more than; `estimate_memory` says what it takes, about
    train: tuple[NodeReport, ...] = field(repr=False)
    eval: tuple[NodeReport, ...] = field(repr=False)
    output_type: TensorType = field(repr=False)
    train_values: tuple[ValueType, ...] = field(repr=False)  # the types of all values, by number
    eval_values: tuple[ValueType, ...] = field(repr=False)
    train_cost: Cost = field(repr=False)
    eval_cost: Cost = field(repr=False)


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of a forward pass: a polynomial of the batch, of numbers of any size."""

    coefficients: tuple[int, ...] = ()

    def at(self, batch: int) -> int:
        """How many at this batch."""
        return sum(c * batch**k for k, c in enumerate(self.coefficients))

    def __add__(self, size: Size) -> Cost:
        return Cost(tuple(a + b for a, b in zip_longest(self.coefficients, size.coefficients, fillvalue=0)))
