"""The shape rules of sizes, and of operators that arrange numbers anew: views, joins, look-ups, padding, resampling."""

# ruff: noqa: ARG001, D103 — a rule takes its operator's arguments, all of them and in order, and is documented there
from __future__ import annotations

import math
from collections.abc import Sequence

from grapevine_proto.errors import TaskError
from grapevine_tasks.opset.shape_rules.common import (
    Types,
    dim_of,
    dims_of,
    need,
    need_float32,
    number_of,
    same_shape,
    tensor,
)
from grapevine_tasks.sizes import ONE, Size, TensorType, fixed


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


def repeat(x: TensorType, times: Sequence[int]) -> Types:
    extra = len(times) - len(x.shape)
    need(extra >= 0, f"{x} has more dimensions than the {len(times)} that are repeated")
    sides = (ONE,) * extra + x.shape
    return tensor((side * Size.constant(n) for side, n in zip(sides, times, strict=True)), x.dtype)


def flip(x: TensorType, dims: Sequence[int]) -> Types:
    dims_of(dims, len(x.shape))
    return (x,)


def index_select(x: TensorType, dim: int, indices: TensorType) -> Types:
    at = dim_of(dim, len(x.shape))
    need(indices.dtype == "int64" and len(indices.shape) == 1, f"the indices are {indices}, not int64 of one dimension")
    need(x.dtype != "bool", f"looks up numbers, not {x}")
    return tensor((*x.shape[:at], indices.shape[0], *x.shape[at + 1 :]), x.dtype)


def gather(x: TensorType, dim: int, indices: TensorType) -> Types:
    at = dim_of(dim, len(x.shape))
    need(indices.dtype == "int64", f"the indices are {indices}, not int64")
    need(x.dtype != "bool", f"looks up numbers, not {x}")
    need(len(indices.shape) == len(x.shape), f"the indices {indices} do not have the dimensions of {x}")
    others = (*x.shape[:at], *x.shape[at + 1 :])
    same_shape((*indices.shape[:at], *indices.shape[at + 1 :]), others, f"all but dimension {dim} of the indices")
    return tensor(indices.shape, x.dtype)


def pad(x: TensorType, amounts: Sequence[int], value: float) -> Types:
    need_float32(x)
    pairs = len(amounts) // 2
    need(len(amounts) == 2 * pairs and pairs <= len(x.shape), f"{list(amounts)} are not pairs of dimensions of {x}")
    shape = list(x.shape)
    for pair in range(pairs):  # the first pair is of the last dimension
        shape[-1 - pair] = shape[-1 - pair] + Size.constant(amounts[2 * pair] + amounts[2 * pair + 1])
    return tensor(shape)


MOST_MIRRORED = 3  # dimensions that PyTorch reflects or replicates


def reflect(x: TensorType, amounts: Sequence[int]) -> Types:
    return _padded(x, amounts, below=1)


def replicate(x: TensorType, amounts: Sequence[int]) -> Types:
    return _padded(x, amounts, below=0)


def _padded(x: TensorType, amounts: Sequence[int], below: int) -> Types:
    """`below`: a reflection has one pixel less to show than there are; a copied edge can be as wide as one likes."""
    need_float32(x)
    pairs = len(amounts) // 2
    fits = len(amounts) == 2 * pairs and 0 < pairs <= MOST_MIRRORED and len(x.shape) == pairs + 2
    need(fits, f"{list(amounts)} are not pairs of the 1 to {MOST_MIRRORED} dimensions of {x} after its channels")
    shape = list(x.shape)
    for pair in range(pairs):
        length = number_of(shape[-1 - pair], "a padded dimension")
        before, after = amounts[2 * pair], amounts[2 * pair + 1]
        need(length > 0 and (not below or max(before, after) < length), f"{x} is too small to be padded by {before}")
        shape[-1 - pair] = Size.constant(length + before + after)
    return tensor(shape)


def pixel_shuffle(x: TensorType, factor: int) -> Types:
    need_float32(x)
    need(len(x.shape) >= 3, f"{x} has no channels, height and width")
    channels = number_of(x.shape[-3], "the number of channels")
    need(channels % factor**2 == 0, f"{channels} channels do not make squares of {factor}")
    scaled = (number_of(size, "an image's side") * factor for size in x.shape[-2:])
    return tensor((*x.shape[:-3], Size.constant(channels // factor**2), *map(Size.constant, scaled)))


def upsample(x: TensorType, output: Sequence[int]) -> Types:
    need_float32(x)
    need(len(x.shape) == 4, f"{x} is not a batch of images")
    for size in x.shape[2:]:
        need(number_of(size, "an image's side") > 0, f"{x} is empty")
    return tensor((*x.shape[:2], *fixed(*output)))


def upsample_bilinear(x: TensorType, output: Sequence[int], corners: bool) -> Types:
    return upsample(x, output)


def to_float32(x: TensorType) -> Types:
    return tensor(x.shape)


def to_int64(x: TensorType) -> Types:
    return tensor(x.shape, "int64")


def same(x: TensorType) -> Types:
    return (x,)


def full(shape: Sequence[Size | None], value: float) -> Types:
    sizes = [size for size in shape if size is not None]
    need(len(sizes) == len(shape), "a shape that is filled has no −1")
    return tensor(sizes)
