"""What a check is given and what it finds: a device's limits, and the report on a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from grapevine_proto.errors import TaskError
from grapevine_tasks.sizes import Size, TensorType, ValueType

MIB = 2**20
EVALUATION_BATCH = 256  # samples at a time when a model is evaluated


class ValueTaskError(TaskError):
    """What is wrong with one value of a program: `value` is its number in the graph ("train" or "eval")."""

    def __init__(self, graph: str, value: int, message: str) -> None:
        super().__init__(message)
        self.graph = graph
        self.value = value


@dataclass(frozen=True)
class Cost:
    """Operations or bytes: a polynomial of the batch, of numbers of any size."""

    coefficients: tuple[int, ...] = ()

    def at(self, batch: int) -> int:
        """How many at this batch."""
        return sum(c * batch**k for k, c in enumerate(self.coefficients))

    def __add__(self, other: Cost | Size) -> Cost:
        return Cost(tuple(a + b for a, b in zip_longest(self.coefficients, other.coefficients, fillvalue=0)))


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a device has to do: arithmetic, reading and writing memory, and starting kernels."""

    flops: int = 0  # floating-point operations
    bytes_moved: int = 0  # read and written
    num_kernels: int = 0  # that run one after the other

    def __add__(self, other: Work) -> Work:
        return Work(
            flops=self.flops + other.flops,
            bytes_moved=self.bytes_moved + other.bytes_moved,
            num_kernels=self.num_kernels + other.num_kernels,
        )

    def times(self, number: int) -> Work:
        """So many times the same."""
        return Work(
            flops=number * self.flops, bytes_moved=number * self.bytes_moved, num_kernels=number * self.num_kernels
        )


@dataclass(frozen=True, kw_only=True)
class WorkByBatch:
    """The same, as polynomials of the batch."""

    flops: Cost
    bytes_moved: Cost
    num_kernels: Cost

    def at(self, batch: int) -> Work:
        """The work at this batch."""
        return Work(
            flops=self.flops.at(batch), bytes_moved=self.bytes_moved.at(batch), num_kernels=self.num_kernels.at(batch)
        )


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """What a device is ready to run. Bytes and work are at the largest batch of each graph."""

    largest_batch: int = EVALUATION_BATCH  # of the train graph
    smallest_batch: int = 2  # of the train graph; a batch of one sample has no spread
    evaluation_batch: int = EVALUATION_BATCH  # of the eval graph, whose smallest batch is always 1
    num_nodes: int = 4096  # of both graphs together
    num_parameters: int = 50_000_000
    constant_bytes: int = 256 * 1024
    intermediate_bytes: int = 256 * MIB  # of any one value
    memory_bytes: int = 2048 * MIB  # of training and evaluating, bounded from above
    train_flops: int = 10**12  # of one training step
    train_bytes_moved: int = 10**12  # likewise, read and written
    train_kernels: int = 10**7  # likewise, started one after the other
    evaluation_flops: int = 4 * 10**12  # of one batch
    evaluation_bytes_moved: int = 10**12
    evaluation_kernels: int = 10**7


_ANY = 2**62
# For looking at a program, not for running it: nothing is refused for being large, only for being unsound.
TO_LOOK_AT = ProgramLimits(
    num_parameters=_ANY,
    intermediate_bytes=_ANY,
    memory_bytes=_ANY,
    train_flops=_ANY,
    train_bytes_moved=_ANY,
    train_kernels=_ANY,
    evaluation_flops=_ANY,
    evaluation_bytes_moved=_ANY,
    evaluation_kernels=_ANY,
)


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One line of a graph as a table, for people who review it."""

    number: int  # of the node's first result
    operator: str
    arguments: str
    types: tuple[ValueType, ...]  # of its results, for any batch
    flops: int  # forward, at the largest batch of its graph
    bytes_moved: int  # likewise: read and written

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
    training_step: Work  # forward, backward (taken to be twice that) and the optimiser
    evaluation: Work  # of one batch, at the largest
    largest_intermediate_bytes: int
    memory_bytes: int  # that a trainer never takes more than; `estimate_memory` says what it takes, about
    train: tuple[NodeReport, ...] = field(repr=False)
    eval: tuple[NodeReport, ...] = field(repr=False)
    output_type: TensorType = field(repr=False)
    train_values: tuple[ValueType, ...] = field(repr=False)  # the types of all values, by number
    eval_values: tuple[ValueType, ...] = field(repr=False)
    training_step_by_batch: WorkByBatch = field(repr=False)
    evaluation_by_batch: WorkByBatch = field(repr=False)
