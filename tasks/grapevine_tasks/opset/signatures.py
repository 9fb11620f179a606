"""The words in which operators are described: what an argument may be, what is known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from grapevine_tasks.opset import costs
from grapevine_tasks.opset.shape_rules.common import Types


class Kind(StrEnum):
    """What an argument may be; `program.proto` explains each word."""

    TENSOR = "tensor"
    OPERAND = "operand"
    TENSORS = "tensors"
    SIZE = "size"
    SIZES = "sizes"
    INTEGER = "integer"
    INTEGERS = "integers"
    REAL = "real"
    FLAG = "flag"


@dataclass(frozen=True)
class Slot:
    """One argument of an operator: its name, its kind and its bounds."""

    name: str
    kind: Kind
    low: float = -math.inf
    high: float = math.inf
    length: int | None = None  # of INTEGERS; None: any
    optional: bool = False

    def __str__(self) -> str:
        words = f"integer[{self.length or ''}]" if self.kind is Kind.INTEGERS else str(self.kind)
        bounds = f" {_plain(self.low)}..{_plain(self.high)}" if math.isfinite(self.high) else ""
        return f"{self.name}: {words}{'?' if self.optional else ''}{bounds}"


def _plain(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() and abs(bound) < 2**53 else f"{bound:g}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """All that is known of an operator without running it.

    `shape` maps the resolved arguments to the types of the results, `flops` estimates the
    floating-point operations of the forward pass, `workspace` the float32 elements that a device
    may allocate beside the results while it runs, `num_kernels` how many kernels start one after the other.
    """

    slots: tuple[Slot, ...]
    shape: Callable[..., Types]
    flops: costs.Cost = costs.no_cost
    workspace: costs.Cost = field(default=costs.no_cost)
    num_kernels: costs.Cost = field(default=costs.one_kernel)
    num_results: int = 1

    def signature(self) -> str:
        """The operator's line in `program.proto`."""
        return f"({', '.join(map(str, self.slots))}) -> {self.num_results}"


# --- arguments that recur -------------------------------------------------------------------------


def tensor(name: str) -> Slot:
    """A tensor."""
    return Slot(name, Kind.TENSOR)


def maybe(name: str) -> Slot:
    """A tensor, or nothing."""
    return Slot(name, Kind.TENSOR, optional=True)


def integers(name: str, low: int, high: int, length: int | None = None) -> Slot:
    """A list of whole numbers, written out."""
    return Slot(name, Kind.INTEGERS, low, high, length)


def window(dimensions: int) -> tuple[Slot, Slot, Slot]:
    """What slides over so many dimensions."""
    return (
        integers("kernel", 1, 256, dimensions),
        integers("stride", 1, 256, dimensions),
        integers("padding", 0, 128, dimensions),
    )


def strides(dimensions: int) -> tuple[Slot, ...]:
    """How a convolution's kernel slides over so many dimensions."""
    stride, padding = window(dimensions)[1:]
    return stride, padding, integers("dilation", 1, 64, dimensions), Slot("groups", Kind.INTEGER, 1, 65536)


X, WEIGHT, BIAS = tensor("x"), maybe("weight"), maybe("bias")
DIM = Slot("dim", Kind.INTEGER, -8, 8)
DIMS = integers("dims", -8, 8)
EPS = Slot("eps", Kind.REAL, 1e-12, 1)
BINARY = (tensor("a"), Slot("b", Kind.OPERAND))
TWO_TENSORS = (tensor("a"), tensor("b"))
TWO_SIZES = (Slot("a", Kind.SIZE), Slot("b", Kind.SIZE))
KEEP = Slot("keep", Kind.FLAG)
CEIL = Slot("ceil", Kind.FLAG)
STATISTICS = (tensor("mean"), tensor("variance"))
LARGEST_OPERAND = 1e30  # well inside float32; in a mask it stands for infinity
NUMBER = 1e6  # constants of activations are small; a bound keeps them finite in float32


def real(name: str, low: float = -NUMBER, high: float = NUMBER, optional: bool = False) -> Slot:
    """A number, within the bounds of an activation's constants unless others are given."""
    return Slot(name, Kind.REAL, low, high, optional=optional)
