"""The shape rules of recurrent layers, attention, embeddings, comparisons, resampling and reductions with options.

They keep to what `shape_rules` says of all of them.
"""

# ruff: noqa: ARG001, D103 — as in shape_rules
from __future__ import annotations

import math
from collections.abc import Sequence

from grapevine_proto.errors import TaskError
from grapevine_tasks.shape_rules import (
    Operand,
    Types,
    broadcast,
    dim_of,
    dims_of,
    elementwise,
    need,
    need_float32,
    number_of,
    reduce,
    same_shape,
    tensor,
)
from grapevine_tasks.sizes import ONE, Shape, Size, TensorType, fixed

# --- dtypes ---------------------------------------------------------------------------------------


def to_int64(x: TensorType) -> Types:
    return tensor(x.shape, "int64")


def same(x: TensorType) -> Types:
    return (x,)


def full(shape: Sequence[Size | None], value: float) -> Types:
    sizes = [size for size in shape if size is not None]
    need(len(sizes) == len(shape), "a shape that is filled has no −1")
    return tensor(sizes)


# --- comparisons ----------------------------------------------------------------------------------


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


# --- looking up -----------------------------------------------------------------------------------


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


def flip(x: TensorType, dims: Sequence[int]) -> Types:
    dims_of(dims, len(x.shape))
    return (x,)


# --- padding and resampling -----------------------------------------------------------------------


def reflect(x: TensorType, amounts: Sequence[int]) -> Types:
    return _padded(x, amounts, below=1)


def replicate(x: TensorType, amounts: Sequence[int]) -> Types:
    return _padded(x, amounts, below=0)


def _padded(x: TensorType, amounts: Sequence[int], below: int) -> Types:
    """`below`: a reflection has one pixel less to show than there are; a copied edge can be as wide as one likes."""
    need_float32(x)
    pairs = len(amounts) // 2
    fits = len(amounts) == 2 * pairs and 0 < pairs < len(x.shape) - 1 and len(x.shape) == pairs + 2
    need(fits, f"{list(amounts)} are not pairs of the dimensions of {x} after its channels")
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


def repeat(x: TensorType, times: Sequence[int]) -> Types:
    extra = len(times) - len(x.shape)
    need(extra >= 0, f"{x} has more dimensions than the {len(times)} that are repeated")
    sides = (ONE,) * extra + x.shape
    return tensor((side * Size.constant(n) for side, n in zip(sides, times, strict=True)), x.dtype)


def upsample(x: TensorType, output: Sequence[int]) -> Types:
    need_float32(x)
    need(len(x.shape) == 4, f"{x} is not a batch of images")
    for size in x.shape[2:]:
        need(number_of(size, "an image's side") > 0, f"{x} is empty")
    return tensor((*x.shape[:2], *fixed(*output)))


def upsample_bilinear(x: TensorType, output: Sequence[int], corners: bool) -> Types:
    return upsample(x, output)


def transposed_convolution(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Types:
    need_float32(x, weight, bias)
    rank = len(stride) + 2
    need(len(x.shape) == len(weight.shape) == rank, f"{x} and the weight {weight} must have {rank} dimensions")
    channels, per_group, *kernel = (number_of(size, "a dimension of the weight") for size in weight.shape)
    need(x.shape[1] == Size.constant(channels), f"{x} does not have {channels} channels, as the weight {weight} asks")
    need(channels % groups == 0 and per_group > 0, f"{channels} channels do not make {groups} groups")
    if bias is not None:
        same_shape(bias.shape, fixed(per_group * groups), "the bias")
    spatial = []
    for k, size in enumerate(x.shape[2:]):
        length = number_of(size, "a dimension that a kernel slides over")
        need(output_padding[k] < max(stride[k], dilation[k]), "output_padding must be less than stride or dilation")
        reach = dilation[k] * (kernel[k] - 1) + output_padding[k] + 1
        made = (length - 1) * stride[k] - 2 * padding[k] + reach
        need(length > 0 and kernel[k] > 0 and made > 0, f"a kernel of {kernel[k]} leaves nothing of {length}")
        spatial.append(made)
    return tensor((x.shape[0], *fixed(per_group * groups, *spatial)))


# --- embeddings, recurrent layers, attention ------------------------------------------------------


def embedding(weight: TensorType, indices: TensorType, padding: int) -> Types:
    need_float32(weight)
    need(indices.dtype == "int64", f"the indices are {indices}, not int64")
    need(len(weight.shape) == 2, f"the weight {weight} is not [words, numbers]")
    words = number_of(weight.shape[0], "the number of words")
    need(-1 <= padding < words, f"padding {padding} is not one of {words} words")
    return tensor((*indices.shape, weight.shape[1]))


def lstm(
    x: TensorType,
    hidden: TensorType,
    cell: TensorType,
    weights: Sequence[TensorType],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Types:
    same_shape(cell.shape, hidden.shape, "the cell")
    output = _recurrent(x, hidden, weights, 4, biases, layers, bidirectional, batch_first)
    need_float32(cell)
    return (output, hidden, cell)


def gru(
    x: TensorType,
    hidden: TensorType,
    weights: Sequence[TensorType],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Types:
    return (_recurrent(x, hidden, weights, 3, biases, layers, bidirectional, batch_first), hidden)


def rnn(
    x: TensorType,
    hidden: TensorType,
    weights: Sequence[TensorType],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    relu: bool,
) -> Types:
    return (_recurrent(x, hidden, weights, 1, biases, layers, bidirectional, batch_first), hidden)


def _recurrent(
    x: TensorType,
    hidden: TensorType,
    weights: Sequence[TensorType],
    gates: int,
    biases: bool,
    layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> TensorType:
    """The output [batch, steps, directions · units] (or steps first), once every weight has its place."""
    need_float32(x, hidden, *weights)
    need(len(x.shape) == 3 and len(hidden.shape) == 3, f"{x} and the hidden state {hidden} must have three dimensions")
    directions = 2 if bidirectional else 1
    batch, steps = x.shape[:2] if batch_first else (x.shape[1], x.shape[0])
    units, features = (number_of(each.shape[-1], "the last dimension") for each in (hidden, x))
    need(number_of(steps, "the number of steps") > 0, f"{x} has no steps")
    same_shape(hidden.shape, (Size.constant(layers * directions), batch, Size.constant(units)), "the hidden state")
    wanted: list[Shape] = []
    for layer in range(layers):
        taken = features if layer == 0 else units * directions
        for _ in range(directions):
            wanted += [fixed(gates * units, taken), fixed(gates * units, units)]
            wanted += [fixed(gates * units)] * 2 if biases else []
    need(len(weights) == len(wanted), f"has {len(weights)} weights, expected {len(wanted)}")
    for k, (weight, shape) in enumerate(zip(weights, wanted, strict=True)):
        same_shape(weight.shape, shape, f"weight {k}")
    return TensorType("float32", (*x.shape[:2], Size.constant(units * directions)))


def lstm_cell(
    x: TensorType,
    hidden: TensorType,
    cell: TensorType,
    input_weight: TensorType,
    hidden_weight: TensorType,
    input_bias: TensorType | None,
    hidden_bias: TensorType | None,
) -> Types:
    need_float32(cell)
    same_shape(cell.shape, hidden.shape, "the cell")
    return (*_cell(x, hidden, input_weight, hidden_weight, input_bias, hidden_bias, 4), cell)


def gru_cell(
    x: TensorType,
    hidden: TensorType,
    input_weight: TensorType,
    hidden_weight: TensorType,
    input_bias: TensorType | None,
    hidden_bias: TensorType | None,
) -> Types:
    return _cell(x, hidden, input_weight, hidden_weight, input_bias, hidden_bias, 3)


def _cell(
    x: TensorType,
    hidden: TensorType,
    input_weight: TensorType,
    hidden_weight: TensorType,
    input_bias: TensorType | None,
    hidden_bias: TensorType | None,
    gates: int,
) -> Types:
    need_float32(x, hidden, input_weight, hidden_weight, input_bias, hidden_bias)
    need(len(x.shape) == len(hidden.shape) == 2, f"{x} and the hidden state {hidden} must have two dimensions")
    same_shape(hidden.shape[:1], x.shape[:1], "the hidden state's batch")
    units, features = (number_of(each.shape[1], "the last dimension") for each in (hidden, x))
    same_shape(input_weight.shape, fixed(gates * units, features), "the input's weight")
    same_shape(hidden_weight.shape, fixed(gates * units, units), "the hidden state's weight")
    need((input_bias is None) == (hidden_bias is None), "has one bias of two")
    for bias in (input_bias, hidden_bias):
        if bias is not None:
            same_shape(bias.shape, fixed(gates * units), "a bias")
    return (hidden,)


def attention(
    query: TensorType,
    key: TensorType,
    value: TensorType,
    mask: TensorType | None,
    dropout: float,
    causal: bool,
    scale: float | None,
) -> Types:
    need_float32(query, key, value)
    ranks = {len(each.shape) for each in (query, key, value)}
    need(len(ranks) == 1 and min(ranks) >= 3, f"{query}, {key} and {value} must all have three dimensions, or all four")
    same_shape(key.shape[:-2], query.shape[:-2], "the key's beginning")
    same_shape(value.shape[:-1], key.shape[:-1], "the value's beginning")
    same_shape(key.shape[-1:], query.shape[-1:], "the key's end")
    if mask is not None:
        need(mask.dtype in ("float32", "bool"), f"the mask is {mask}")
        need(not causal, "has a mask and is causal; give one of the two")
        pairs = (*query.shape[:-1], key.shape[-2])
        same_shape(broadcast(mask.shape, pairs), pairs, "the mask")
    return tensor((*query.shape[:-1], value.shape[-1]))


# --- activations and reductions -------------------------------------------------------------------


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
