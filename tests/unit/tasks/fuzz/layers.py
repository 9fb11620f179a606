"""Arguments of layers: convolutions, pools, norms, recurrent layers, attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tests.unit.tasks.fuzz.artist import Artist
from tests.unit.tasks.fuzz.drawing import Drawn, Handle

from grapevine_proto.program import Operator as Op

Draw: TypeAlias = Callable[[Artist], tuple[Drawn, ...]]
EPS = 1e-5


def _many(a: Artist, choices: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(a.one_of(*choices) for _ in range(number))


def _image(a: Artist, channels: int, dimensions: int) -> Handle:
    return a.floats([channels, *(a.one_of(1, 2, 3, 5) for _ in range(dimensions))], batched=a.chance(0.95))


def _convolution(dimensions: int) -> Draw:
    def draw(a: Artist) -> tuple[Drawn, ...]:
        groups, per_group, out = a.one_of(1, 1, 2), a.one_of(1, 2), a.one_of(1, 2)
        kernel = _many(a, (1, 2, 3), dimensions)
        return (
            _image(a, groups * per_group, dimensions),
            a.weights(groups * out, per_group, *kernel),
            a.maybe(groups * out),
            _many(a, (1, 2, 256), dimensions),
            _many(a, (0, 1, 2), dimensions),
            _many(a, (1, 1, 2), dimensions),
            groups,
        )

    return draw


def _transposed(dimensions: int) -> Draw:
    def draw(a: Artist) -> tuple[Drawn, ...]:
        groups, per_group, out = a.one_of(1, 1, 2), a.one_of(1, 2), a.one_of(1, 2)
        return (
            _image(a, groups * per_group, dimensions),
            a.weights(groups * per_group, out, *_many(a, (1, 2, 3), dimensions)),
            a.maybe(groups * out),
            _many(a, (1, 2, 3), dimensions),
            _many(a, (0, 1, 2), dimensions),
            _many(a, (0, 0, 1, 2), dimensions),
            groups,
            _many(a, (1, 1, 2), dimensions),
        )

    return draw


def _max_pool(dimensions: int) -> Draw:
    def draw(a: Artist) -> tuple[Drawn, ...]:
        return (
            _image(a, a.one_of(1, 2), dimensions),
            _many(a, (1, 2, 3), dimensions),
            _many(a, (1, 2, 3), dimensions),
            _many(a, (0, 0, 1), dimensions),
            _many(a, (1, 1, 2, 3), dimensions),
            a.chance(0.5),
        )

    return draw


def _avg_pool(a: Artist) -> tuple[Drawn, ...]:
    x, kernel, stride, padding, _, ceil = _max_pool(2)(a)
    return x, kernel, stride, padding, ceil, a.chance(0.5)


def _adaptive(a: Artist) -> tuple[Drawn, ...]:
    return _image(a, 2, 2), _many(a, (1, 2, 3), 2)


def _channels(a: Artist) -> tuple[Handle, int]:
    channels = a.one_of(1, 2, 4)
    return a.floats([channels, *a.sides(0, 3)], batched=a.chance(0.95)), channels


def _batch_norm_eval(a: Artist) -> tuple[Drawn, ...]:
    x, c = _channels(a)
    make = a.drawing.parameter if a.chance(0.1) else a.drawing.buffer
    return x, a.maybe(c), a.maybe(c), make([c]), make([c]), EPS


def _batch_norm_train(a: Artist) -> tuple[Drawn, ...]:
    *given, eps = _batch_norm_eval(a)
    return *given, a.one_of(0.0, 0.1, 1.0), eps


def _layer_norm(a: Artist) -> tuple[Drawn, ...]:
    shape = a.sides(1, 2)
    return a.floats([*a.sides(0, 2), *shape]), tuple(shape), a.maybe(*shape), a.maybe(*shape), EPS


def _group_norm(a: Artist) -> tuple[Drawn, ...]:
    x, c = _channels(a)
    return x, a.one_of(1, 2, c), a.maybe(c), a.maybe(c), EPS


def _linear(a: Artist) -> tuple[Drawn, ...]:
    features, out = a.one_of(1, 3), a.one_of(1, 2)
    return a.floats([*a.sides(0, 2), features]), a.weights(out, features), a.maybe(out)


def _matmul(a: Artist) -> tuple[Drawn, ...]:
    inner = a.one_of(1, 3)
    left = a.floats([*a.sides(0, 2), a.one_of(1, 2), inner])
    right = a.one_of(a.weights(inner, 2), a.floats([inner, a.one_of(1, 2)]), a.floats([*a.sides(1, 2), inner, 2]))
    return left, right


def _layers(a: Artist, gates: int, *, cell: bool, relu: bool) -> tuple[Drawn, ...]:
    layers, directions = a.one_of(1, 1, 2), a.one_of(1, 2)
    features, units, steps = a.one_of(1, 3), a.one_of(1, 2), a.one_of(1, 3)
    biases, batch_first = a.chance(0.5), a.chance(0.7)
    x = a.floats([steps, features])
    if not batch_first:
        x = a.drawing.node(Op.TRANSPOSE, x, 0, 1)[0]
    zeros = a.drawing.node(Op.SIZE, x, 0 if batch_first else 1)[0]
    states = [a.drawing.node(Op.FULL, (layers * directions, zeros, units), 0.0)[0] for _ in range(2 if cell else 1)]
    weights: list[Handle | int] = []
    for layer in range(layers):
        taken = features if layer == 0 else units * directions
        for _ in range(directions):
            weights += [a.weights(gates * units, taken), a.weights(gates * units, units)]
            weights += [a.weights(gates * units), a.weights(gates * units)] if biases else []
    flags: list[Any] = [biases, layers, a.one_of(0.0, 0.5, 1.0), a.chance(0.7), directions == 2, batch_first]
    return x, *states, tuple(weights), *flags, *([a.chance(0.5)] if relu else [])


def _cell(a: Artist, gates: int, *, cell: bool) -> tuple[Drawn, ...]:
    features, units = a.one_of(1, 3), a.one_of(1, 2)
    x = a.floats([features])
    states = [a.floats([units], batched=True) for _ in range(2 if cell else 1)]
    biased = a.chance(0.7)
    biases = [a.weights(gates * units) if biased else None for _ in range(2)]
    return x, *states, a.weights(gates * units, features), a.weights(gates * units, units), *biases


def _attention(a: Artist) -> tuple[Drawn, ...]:
    heads, inside, width, queries, keys = a.sides(0, 2), a.one_of(1, 3), a.one_of(1, 2), a.one_of(1, 2), a.one_of(1, 3)
    query = a.floats([*heads, queries, inside], batched=True)
    key, value = a.floats([*heads, keys, inside], batched=True), a.floats([*heads, keys, width], batched=True)
    scores = a.weights(queries, keys)
    mask = a.one_of(None, None, scores, a.drawing.node(Op.LESS, scores, 5.0)[0])
    return query, key, value, mask, a.one_of(0.0, 0.3, 1.0), a.chance(0.3), a.one_of(None, 0.0, 0.5)


def _upsampled(a: Artist) -> tuple[Drawn, ...]:
    return _image(a, 2, 2), _many(a, (1, 2, 4), 2)


def _prelu(a: Artist) -> tuple[Drawn, ...]:
    x, c = _channels(a)
    return x, a.weights(*a.one_of((), (1,), (c,)))


LAYERS: Mapping[Op, Draw] = {
    Op.LINEAR: _linear,
    Op.MATMUL: _matmul,
    Op.CONV1D: _convolution(1),
    Op.CONV2D: _convolution(2),
    Op.CONV3D: _convolution(3),
    Op.CONV_TRANSPOSE1D: _transposed(1),
    Op.CONV_TRANSPOSE2D: _transposed(2),
    Op.MAX_POOL2D: _max_pool(2),
    Op.MAX_POOL3D: _max_pool(3),
    Op.AVG_POOL2D: _avg_pool,
    Op.ADAPTIVE_AVG_POOL2D: _adaptive,
    Op.ADAPTIVE_MAX_POOL2D: _adaptive,
    Op.BATCH_NORM_TRAIN: _batch_norm_train,
    Op.BATCH_NORM_EVAL: _batch_norm_eval,
    Op.LAYER_NORM: _layer_norm,
    Op.GROUP_NORM: _group_norm,
    Op.LSTM: lambda a: _layers(a, 4, cell=True, relu=False),
    Op.GRU: lambda a: _layers(a, 3, cell=False, relu=False),
    Op.RNN: lambda a: _layers(a, 1, cell=False, relu=True),
    Op.LSTM_CELL: lambda a: _cell(a, 4, cell=True),
    Op.GRU_CELL: lambda a: _cell(a, 3, cell=False),
    Op.ATTENTION: _attention,
    Op.PRELU: _prelu,
    Op.UPSAMPLE_NEAREST2D: _upsampled,
    Op.UPSAMPLE_BILINEAR2D: lambda a: (*_upsampled(a), a.chance(0.5)),
}
