"""The shape rules of operators that work number by number, or along dimensions: arithmetic, activations, reductions."""

# ruff: noqa: ARG001, D103 — a rule takes its operator's arguments, all of them and in order, and is documented there
from __future__ import annotations

import math
from collections.abc import Sequence

from grapevine_proto.errors import TaskError
from grapevine_tasks.opset.shape_rules.common import (
    Operand,
    Types,
    broadcast,
    dim_of,
    dims_of,
    need,
    need_float32,
    number_of,
    same_shape,
    tensor,
)
from grapevine_tasks.sizes import ONE, Size, TensorType


def elementwise(x: TensorType, *_: object) -> Types:
    need_float32(x)
    return (x,)


def binary(a: TensorType, b: Operand) -> Types:
    need_float32(a, b if isinstance(b, TensorType) else None)
    return tensor(broadcast(a.shape, b.shape) if isinstance(b, TensorType) else a.shape)


def clamp(x: TensorType, low: float | None, high: float | None) -> Types:
    need_float32(x)
    need(low is not None or high is not None, "clamps to nothing: give low or high")
    return (x,)


def along(x: TensorType, dim: int) -> Types:
    need_float32(x)
    dim_of(dim, len(x.shape))
    return (x,)


def prelu(x: TensorType, slope: TensorType) -> Types:
    need_float32(x, slope)
    count = math.prod(slope.shape, start=ONE)
    need(len(slope.shape) <= 1, f"the slope is {slope}; it is one number, or one for each channel")
    if count != ONE:
        need(len(x.shape) >= 2, f"{x} has no channels")
        same_shape(slope.shape, x.shape[1:2], "the slope")
    return (x,)


def glu(x: TensorType, dim: int) -> Types:
    need_float32(x)
    at = dim_of(dim, len(x.shape))
    half, odd = divmod(number_of(x.shape[at], "the halved dimension"), 2)
    if odd:
        raise TaskError(f"dimension {dim} of {x} has no halves")
    return tensor((*x.shape[:at], Size.constant(half), *x.shape[at + 1 :]))


def compare(a: TensorType, b: Operand) -> Types:
    need(a.dtype != "bool", f"compares numbers, not {a}")
    if isinstance(b, TensorType):
        need(a.dtype == b.dtype, f"{a} and {b} cannot be compared; convert one with TO_FLOAT32")
        return tensor(broadcast(a.shape, b.shape), "bool")
    return tensor(a.shape, "bool")


def where(condition: TensorType, a: Operand, b: Operand) -> Types:
    need(condition.dtype == "bool", f"the condition is {condition}, not the result of a comparison")
    need(isinstance(a, TensorType) or isinstance(b, TensorType), "chooses between two numbers; one must be a tensor")
    shape = condition.shape
    for each in (a, b):
        if isinstance(each, TensorType):
            need_float32(each)
            shape = broadcast(shape, each.shape)
    return tensor(shape)


def logical_not(x: TensorType) -> Types:
    need(x.dtype == "bool", f"takes the result of a comparison, not {x}")
    return (x,)


def logical_both(a: TensorType, b: TensorType) -> Types:
    need(a.dtype == b.dtype == "bool", f"takes the results of comparisons, not {a} and {b}")
    return tensor(broadcast(a.shape, b.shape), "bool")


def reduce(x: TensorType, dims: Sequence[int], keep: bool) -> Types:
    need_float32(x)
    gone = dims_of(dims, len(x.shape))
    need(bool(gone), "names no dims to reduce")
    return tensor(ONE if d in gone else s for d, s in enumerate(x.shape) if keep or d not in gone)


def reduce_one(x: TensorType, dim: int, keep: bool) -> Types:
    return reduce(x, (dim,), keep)


def spread(x: TensorType, dims: Sequence[int], correction: float, keep: bool) -> Types:
    return reduce(x, dims, keep)


def norm(x: TensorType, p: float, dims: Sequence[int], keep: bool) -> Types:
    return reduce(x, dims, keep)


def argmax(x: TensorType, dim: int, keep: bool) -> Types:
    (reduced,) = reduce_one(_not_empty(x, dim), dim, keep)
    assert isinstance(reduced, TensorType)
    return tensor(reduced.shape, "int64")


def extreme(x: TensorType, dim: int, keep: bool) -> Types:
    (reduced,) = reduce_one(_not_empty(x, dim), dim, keep)
    assert isinstance(reduced, TensorType)
    return (reduced, TensorType("int64", reduced.shape))


def _not_empty(x: TensorType, dim: int) -> TensorType:
    elementwise(x)
    need(x.shape[dim_of(dim, len(x.shape))].number != 0, f"dimension {dim} of {x} is empty")
    return x
