"""One node with all that its memory depends on, and what it takes: between the walk over a graph and the two tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from grapevine_proto.program import Argument, Node, Ref
from grapevine_tasks.sizes import TensorType, ValueType

FLOAT_BYTES = 4
Gradient = Literal["new", "same", "part"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A node of a checked graph, at one size of the batch. Values are numbers."""

    node: Node
    makes: range  # its results
    types: Sequence[ValueType]  # of all values
    sizes: Sequence[int]  # of all values, in bytes; of sizes: 0
    batch: int
    scattered: AbstractSet[int]  # values whose elements may lie in another order than their shape says
    learning: AbstractSet[int]  # values that gradients are wanted of

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """The tensors that it reads, in order; one that it reads twice, twice."""
        return tuple(value for value in references(self.node) if isinstance(self.types[value], TensorType))

    @cached_property
    def learns(self) -> bool:
        """Whether autograd records it."""
        return any(value in self.learning for value in self.reads)

    @cached_property
    def read_bytes(self) -> int:
        """Of all tensors that it reads."""
        return sum(self.sizes[value] for value in self.reads)

    @cached_property
    def made_bytes(self) -> int:
        """Of all its results."""
        return sum(self.sizes[value] for value in self.makes)

    @property
    def first_bytes(self) -> int:
        """Of its first argument and its first result."""
        return self.sizes[self.reads[0]] + self.sizes[self.makes[0]] if self.reads else 0

    def shape_of(self, value: int) -> tuple[int, ...]:
        """The shape of a tensor, in numbers."""
        kind = self.types[value]
        assert isinstance(kind, TensorType)
        return tuple(size.at(self.batch) for size in kind.shape)

    def bytes_of(self, argument: Argument) -> int:
        """Of a tensor that is an argument."""
        return self.sizes[argument.value] if isinstance(argument, Ref) else 0


@dataclass(frozen=True, kw_only=True)
class NodeMemory:
    """What an operator takes beside its results, in bytes.

    `keeps`: values that must live until the backward pass; `kept_bytes`: what lives as long, beside them.
    `forward_bytes`: what its kernels take and give back; `backward_bytes`: likewise, with the gradients that they make.
    `is_view`: its result lies on its first argument's memory; `copied_bytes`: and may be a copy as well.
    `is_scattered`: its results' elements may not be in order.
    `gradient`: whether an argument's gradient is new memory, or the result's own ("same"; "part" of it).
    """

    keeps: tuple[int, ...] = ()
    kept_bytes: int = 0
    forward_bytes: int = 0
    backward_bytes: int = 0
    is_view: bool = False
    copied_bytes: int = 0
    is_scattered: bool = False
    gradient: Gradient = "new"


def references(node: Node) -> Iterator[int]:
    """The values that a node refers to, in order."""
    for argument in node.arguments:
        if isinstance(argument, Ref):
            yield argument.value
        elif isinstance(argument, tuple):
            yield from (item.value for item in argument if isinstance(item, Ref))


def num_elements(shape: Sequence[int]) -> int:
    """How many numbers a tensor of this shape holds."""
    return math.prod(shape)
