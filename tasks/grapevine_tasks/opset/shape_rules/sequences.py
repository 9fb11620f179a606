"""The shape rules of embeddings, recurrent layers and attention."""

# ruff: noqa: ARG001, D103 — a rule takes its operator's arguments, all of them and in order, and is documented there
from __future__ import annotations

from collections.abc import Sequence

from grapevine_tasks.opset.shape_rules.common import Types, broadcast, need, need_float32, number_of, same_shape, tensor
from grapevine_tasks.sizes import Shape, Size, TensorType, fixed


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
