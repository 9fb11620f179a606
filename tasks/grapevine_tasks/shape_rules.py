"""The shape rule of every operator: from the types of its arguments to the types of its results.

A rule gets the arguments in the order of the operator's signature, already resolved: tensors as
`TensorType`, sizes as `Size`, lists as tuples, numbers as numbers. It returns one type per result
or raises TaskError, and it must hold for every batch size: dimensions are compared as polynomials.
"""

# ruff: noqa: ARG001, D103 — a rule takes its operator's arguments, all of them and in order, and is documented there
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from grapevine_proto.errors import TaskError
from grapevine_tasks.sizes import ONE, Shape, Size, TensorType, ValueType, fixed

Types: TypeAlias = tuple[ValueType, ...]
Operand: TypeAlias = TensorType | int | float
MOST_DIMENSIONS = 8


# --- what the rules share -------------------------------------------------------------------------


def need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TaskError(otherwise)


def need_float32(*tensors: TensorType | None) -> None:
    for each in tensors:
        need(each is None or each.dtype == "float32", f"takes float32, not {each}; convert it with TO_FLOAT32")


def tensor(shape: Iterable[Size], dtype: str = "float32") -> tuple[TensorType]:
    dimensions = tuple(shape)
    need(len(dimensions) <= MOST_DIMENSIONS, f"tensors have at most {MOST_DIMENSIONS} dimensions")
    return (TensorType(dtype, dimensions),)


def dim_of(dim: int, rank: int) -> int:
    need(-rank <= dim < rank, f"dim {dim} is outside a tensor of {rank} dimensions")
    return dim % rank


def dims_of(dims: Sequence[int], rank: int) -> tuple[int, ...]:
    counted = tuple(dim_of(d, rank) for d in dims)
    need(len(set(counted)) == len(counted), f"dims {list(dims)} name a dimension twice")
    return counted


def number_of(size: Size, what: str) -> int:
    number = size.number
    if number is None:
        raise TaskError(f"{what} must not depend on the batch, but is {size}")
    return number


def same_shape(a: Shape, b: Shape, what: str) -> None:
    need(a == b, f"{what} has the shape [{_join(a)}], expected [{_join(b)}]")


def _join(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    result = []
    for x, y in zip((ONE,) * (rank - len(a)) + a, (ONE,) * (rank - len(b)) + b, strict=True):
        if not (x in (y, ONE) or y == ONE):
            raise TaskError(f"[{_join(a)}] and [{_join(b)}] do not broadcast for every batch size")
        result.append(y if x == ONE else x)
    return tuple(result)


# --- sizes ----------------------------------------------------------------------------------------


def size(x: TensorType, dim: int) -> Types:
    return (x.shape[dim_of(dim, len(x.shape))],)


def int_add(a: Size, b: Size) -> Types:
    return (a + b,)


def int_sub(a: Size, b: Size) -> Types:
    return (a - b,)


def int_mul(a: Size, b: Size) -> Types:
    return (a * b,)


def int_floordiv(a: Size, b: Size) -> Types:
    return (a.floor_divided(b),)


# --- shapes ---------------------------------------------------------------------------------------


def reshape(x: TensorType, shape: Sequence[Size | None]) -> Types:
    known = math.prod((s for s in shape if s is not None), start=ONE)
    left: Size | None = ONE
    if None in shape:
        need(shape.count(None) == 1, "only one dimension of a shape can be −1")
        left = x.num_elements.exactly_divided(known)
    if left is None or known * left != x.num_elements:
        raise TaskError(f"{x} does not have {known} elements for every batch size")
    return tensor((left if s is None else s for s in shape), x.dtype)


def permute(x: TensorType, dims: Sequence[int]) -> Types:
    order = dims_of(dims, len(x.shape))
    need(len(order) == len(x.shape), f"dims {list(dims)} do not name every dimension of {x}")
    return tensor((x.shape[d] for d in order), x.dtype)


def transpose(x: TensorType, dim0: int, dim1: int) -> Types:
    shape = list(x.shape)
    a, b = dim_of(dim0, len(shape)), dim_of(dim1, len(shape))
    shape[a], shape[b] = shape[b], shape[a]
    return tensor(shape, x.dtype)


def unsqueeze(x: TensorType, dim: int) -> Types:
    at = dim_of(dim, len(x.shape) + 1)
    return tensor((*x.shape[:at], ONE, *x.shape[at:]), x.dtype)


def squeeze(x: TensorType, dims: Sequence[int]) -> Types:
    gone = dims_of(dims, len(x.shape))
    for d in gone:
        need(x.shape[d] == ONE, f"dimension {d} of {x} is not 1 and cannot be squeezed")
    return tensor((s for d, s in enumerate(x.shape) if d not in gone), x.dtype)


def expand(x: TensorType, shape: Sequence[Size | None]) -> Types:
    extra = len(shape) - len(x.shape)
    need(extra >= 0, f"{x} has more dimensions than the shape that it is expanded to")
    result = []
    for old, new in zip((None,) * extra + x.shape, shape, strict=True):
        wanted = old if new is None else new
        if wanted is None or old not in (None, ONE, wanted):
            raise TaskError(f"dimension {old} of {x} cannot be expanded to {new}")
        result.append(wanted)
    return tensor(result, x.dtype)


def slice_(x: TensorType, dim: int, start: int, end: int, step: int) -> Types:
    at = dim_of(dim, len(x.shape))
    if start == 0 and step == 1 and end >= 2**31:
        return tensor(x.shape, x.dtype)
    length = number_of(x.shape[at], f"the sliced dimension {dim}")
    taken = Size.constant(len(range(length)[start:end:step]))
    return tensor((*x.shape[:at], taken, *x.shape[at + 1 :]), x.dtype)


def select(x: TensorType, dim: int, index: int) -> Types:
    at = dim_of(dim, len(x.shape))
    length = number_of(x.shape[at], f"the dimension {dim} that is selected from")
    need(-length <= index < length, f"index {index} is outside dimension {dim} of {x}")
    return tensor((*x.shape[:at], *x.shape[at + 1 :]), x.dtype)


def concatenate(tensors: Sequence[TensorType], dim: int) -> Types:
    first = tensors[0]
    at = dim_of(dim, len(first.shape))
    total = Size.constant(0)
    for x in tensors:
        if x != first:
            need(x.dtype == first.dtype and len(x.shape) == len(first.shape), f"{x} and {first} cannot be concatenated")
            rest = (*first.shape[:at], *first.shape[at + 1 :])
            same_shape((*x.shape[:at], *x.shape[at + 1 :]), rest, "a concatenated tensor")
        total = total + x.shape[at]
    return tensor((*first.shape[:at], total, *first.shape[at + 1 :]), first.dtype)


def stack(tensors: Sequence[TensorType], dim: int) -> Types:
    first = tensors[0]
    at = dim_of(dim, len(first.shape) + 1)
    for x in tensors:
        if x != first:
            raise TaskError(f"{x} and {first} cannot be stacked")
    return tensor((*first.shape[:at], Size.constant(len(tensors)), *first.shape[at:]), first.dtype)


def pad(x: TensorType, amounts: Sequence[int], value: float) -> Types:
    need_float32(x)
    pairs = len(amounts) // 2
    need(len(amounts) == 2 * pairs and pairs <= len(x.shape), f"{list(amounts)} are not pairs of dimensions of {x}")
    shape = list(x.shape)
    for pair in range(pairs):  # the first pair is of the last dimension
        shape[-1 - pair] = shape[-1 - pair] + Size.constant(amounts[2 * pair] + amounts[2 * pair + 1])
    return tensor(shape)


def to_float32(x: TensorType) -> Types:
    return tensor(x.shape)


# --- element by element ---------------------------------------------------------------------------


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


def reduce(x: TensorType, dims: Sequence[int], keep: bool) -> Types:
    need_float32(x)
    gone = dims_of(dims, len(x.shape))
    need(bool(gone), "names no dims to reduce")
    return tensor(ONE if d in gone else s for d, s in enumerate(x.shape) if keep or d not in gone)


# --- layers ---------------------------------------------------------------------------------------


def linear(x: TensorType, weight: TensorType, bias: TensorType | None) -> Types:
    need_float32(x, weight, bias)
    need(len(weight.shape) == 2 and len(x.shape) >= 1, f"the weight {weight} is not [out, in]")
    out, features = weight.shape
    need(x.shape[-1] == features, f"{x} does not end with {features}, as the weight {weight} asks")
    if bias is not None:
        same_shape(bias.shape, (out,), "the bias")
    return tensor((*x.shape[:-1], out))


def matmul(a: TensorType, b: TensorType) -> Types:
    need_float32(a, b)
    need(len(a.shape) >= 2 and len(b.shape) >= 2, f"{a} and {b} must both have two dimensions or more")
    need(a.shape[-1] == b.shape[-2], f"{a} and {b} cannot be multiplied")
    return tensor((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))


def convolution(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Types:
    need_float32(x, weight, bias)
    rank = len(stride) + 2
    need(len(x.shape) == len(weight.shape) == rank, f"{x} and the weight {weight} must have {rank} dimensions")
    out, per_group, *kernel = (number_of(s, "a dimension of the weight") for s in weight.shape)
    channels = number_of(x.shape[1], "the number of channels")
    fits = channels == per_group * groups and out % groups == 0 and out > 0
    need(fits, f"{x} has {channels} channels; the weight {weight} in {groups} groups does not fit")
    if bias is not None:
        same_shape(bias.shape, fixed(out), "the bias")
    spatial = [_slid(x.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i]) for i in range(len(stride))]
    return tensor((x.shape[0], Size.constant(out), *spatial))


def _slid(length: Size, kernel: int, stride: int, padding: int, dilation: int, ceil: bool = False) -> Size:
    have = number_of(length, "a dimension that a kernel slides over")
    room = have + 2 * padding - dilation * (kernel - 1) - 1
    need(room >= 0 and kernel > 0, f"a kernel of {kernel} with dilation {dilation} does not fit {have} + 2·{padding}")
    steps = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (steps - 1) * stride >= have + padding:
        steps -= 1  # the last window may not begin in the padding
    return Size.constant(steps)


def max_pool(
    x: TensorType,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> Types:
    need_float32(x)
    n = len(kernel)
    need(len(x.shape) == n + 2, f"{x} must have {n + 2} dimensions")
    need(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)), "padding is more than half of the kernel")
    spatial = (_slid(x.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i], ceil) for i in range(n))
    return tensor((*x.shape[:2], *spatial))


def avg_pool(
    x: TensorType,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    count_padding: bool,
) -> Types:
    return max_pool(x, kernel, stride, padding, (1,) * len(kernel), ceil)


def adaptive_pool(x: TensorType, output: Sequence[int]) -> Types:
    need_float32(x)
    need(len(x.shape) == len(output) + 2, f"{x} must have {len(output) + 2} dimensions")
    for length in x.shape[2:]:
        need(number_of(length, "a pooled dimension") > 0, f"{x} is empty")
    return tensor((*x.shape[:2], *fixed(*output)))


def batch_norm_train(
    x: TensorType,
    weight: TensorType | None,
    bias: TensorType | None,
    mean: TensorType,
    variance: TensorType,
    momentum: float,
    eps: float,
) -> Types:
    return (*batch_norm_eval(x, weight, bias, mean, variance, eps), mean, variance)


def batch_norm_eval(
    x: TensorType,
    weight: TensorType | None,
    bias: TensorType | None,
    mean: TensorType,
    variance: TensorType,
    eps: float,
) -> Types:
    need_float32(x, weight, bias, mean, variance)
    need(len(x.shape) >= 2, f"{x} has no channels")
    for each, what in ((weight, "the weight"), (bias, "the bias"), (mean, "the mean"), (variance, "the variance")):
        if each is not None:
            same_shape(each.shape, x.shape[1:2], what)
    return (x,)


def layer_norm(
    x: TensorType,
    shape: Sequence[int],
    weight: TensorType | None,
    bias: TensorType | None,
    eps: float,
) -> Types:
    need_float32(x, weight, bias)
    normalised = fixed(*shape)
    need(0 < len(shape) <= len(x.shape), f"{x} does not end with {list(shape)}")
    same_shape(x.shape[-len(shape) :], normalised, "the end of the tensor")
    for each, what in ((weight, "the weight"), (bias, "the bias")):
        if each is not None:
            same_shape(each.shape, normalised, what)
    return (x,)


def group_norm(
    x: TensorType,
    groups: int,
    weight: TensorType | None,
    bias: TensorType | None,
    eps: float,
) -> Types:
    need_float32(x, weight, bias)
    need(len(x.shape) >= 2, f"{x} has no channels")
    channels = number_of(x.shape[1], "the number of channels")
    need(channels % groups == 0, f"{channels} channels do not make {groups} groups")
    for each, what in ((weight, "the weight"), (bias, "the bias")):
        if each is not None:
            same_shape(each.shape, x.shape[1:2], what)
    return (x,)
