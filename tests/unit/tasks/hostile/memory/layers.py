"""For each layer, arguments that are likely legal for values of a draft; its weights are made on the way."""

from __future__ import annotations

import random
from collections.abc import Mapping

from tests.unit.tasks.hostile.memory.draft import Draft, divisors
from tests.unit.tasks.hostile.memory.proposals import Propose, indices_like, rank_of

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Argument, Operator, Ref

WIDTHS = (1, 2, 3, 5, 8, 13, 16, 17, 32, 64, 100, 128)
FEW_STEPS, MANY_STEPS = 30, 1000


def _some(rng: random.Random) -> bool:
    return rng.random() < 0.5


def _channels(draft: Draft, value: Ref) -> int:
    channels = draft.numbers(value)[1] if rank_of(draft, value) > 1 else None
    if not channels:
        raise TaskError("the batch is in the place of channels")
    return channels


def _maybe(draft: Draft, rng: random.Random, *shape: int) -> Ref | None:
    return draft.parameter(*shape) if _some(rng) else None


def _linear(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    features, out = draft.numbers(x)[-1:], rng.choice((*WIDTHS, 700))
    if not features or not features[0]:
        raise TaskError("the last dimension depends on the batch")
    return x, draft.parameter(out, features[0]), _maybe(draft, rng, out)


def _matmul(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    a = draft.pick(rank=rng.randint(2, 4))
    rank = rank_of(draft, a)
    inner = draft.numbers(a)[-1]
    match rng.randrange(4):
        case 0 if inner:
            return a, draft.parameter(*((1,) * rng.randint(0, rank - 2)), inner, rng.choice(WIDTHS))
        case 1:
            return a, draft.put(Operator.TRANSPOSE, a, -1, -2)
        case 2 if inner:  # many small matrices with one, which is copied for each
            rows = draft.parameter(rng.choice(WIDTHS), rng.choice(WIDTHS), inner)
            columns = draft.put(Operator.UNSQUEEZE, draft.put(Operator.TRANSPOSE, a, -1, -2), -3)
            return rows, columns
        case _:
            return draft.put(Operator.TRANSPOSE, a, -1, -2), draft.pick(rank=rank)


def _convolution(dims: int) -> Propose:
    def propose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
        x = draft.pick(rank=dims + 2)
        channels = _channels(draft, x)
        groups = rng.choice((1, 1, channels, rng.choice(divisors(channels))))
        out = groups * rng.choice((1, 2, 4)) if groups > 1 else rng.choice(WIDTHS)
        weight = draft.parameter(out, channels // groups, *(rng.choice((1, 2, 3, 5)) for _ in range(dims)))
        bias = _maybe(draft, rng, out)
        return x, weight, bias, *_steps(dims, rng), tuple(rng.choice((1, 1, 2)) for _ in range(dims)), groups

    return propose


def _steps(dims: int, rng: random.Random) -> tuple[Argument, Argument]:
    """Strides, and padding that lets any kernel fit."""
    return tuple(rng.choice((1, 1, 2)) for _ in range(dims)), tuple(rng.choice((0, 1, 2, 4)) for _ in range(dims))


def _transposed(dims: int) -> Propose:
    def propose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
        x = draft.pick(rank=dims + 2)
        channels = _channels(draft, x)
        groups = rng.choice((1, rng.choice(divisors(channels))))
        each = rng.choice((1, 2, 3, 8))
        weight = draft.parameter(channels, each, *(rng.choice((1, 2, 3)) for _ in range(dims)))
        stride = tuple(rng.choice((1, 2)) for _ in range(dims))
        bias = _maybe(draft, rng, each * groups)
        return x, weight, bias, stride, (0,) * dims, tuple(s - 1 for s in stride), groups, (1,) * dims

    return propose


def _window(draft: Draft, rng: random.Random, dims: int) -> tuple[Argument, ...]:
    x = draft.pick(rank=dims + 2)
    kernel = tuple(rng.choice((1, 2, 3)) for _ in range(dims))
    return x, kernel, tuple(rng.choice((1, 2)) for _ in range(dims)), tuple(k // 2 for k in kernel)


def _max_pool(dims: int) -> Propose:
    return lambda draft, rng: (*_window(draft, rng, dims), (1,) * dims, _some(rng))


def _avg_pool(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return *_window(draft, rng, 2), _some(rng), _some(rng)


def _adaptive(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return draft.pick(rank=4), (rng.randint(1, 9), rng.randint(1, 9))


def _upsampled(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick(rank=4)
    return x, tuple(max(1, round((side or 1) * rng.choice((0.5, 1, 2)))) for side in draft.numbers(x)[2:])


def _bilinear(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return *_upsampled(draft, rng), _some(rng)


def _normalised(draft: Draft, rng: random.Random) -> Ref:
    return draft.pick(rank=rng.randint(2, 4))


def _batch_norm_train(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    if draft.trained_batch == 1:
        raise TaskError("one sample has no variance")
    x, weight, bias, mean, variance, eps = _batch_norm_eval(draft, rng)
    return x, weight, bias, mean, variance, 0.1, eps


def _batch_norm_eval(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = _normalised(draft, rng)
    channels = _channels(draft, x)
    weights = _maybe(draft, rng, channels), _maybe(draft, rng, channels)
    return x, *weights, draft.buffer(channels), draft.buffer(channels), 1e-5


def _layer_norm(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    ends = draft.numbers(x)[-rng.randint(1, 2) :]
    if not ends or None in ends:
        raise TaskError("the end depends on the batch")
    shape = tuple(size or 0 for size in ends)
    return x, shape, _maybe(draft, rng, *shape), _maybe(draft, rng, *shape), 1e-5


def _group_norm(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = _normalised(draft, rng)
    channels = _channels(draft, x)
    weight = _maybe(draft, rng, channels)  # PyTorch has no gradient for a bias without a weight
    return x, rng.choice(divisors(channels)), weight, weight and _maybe(draft, rng, channels), 1e-5


def _embedding(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    words = rng.choice((3, 100, 5000))
    try:
        indices = draft.pick("int64")
    except TaskError:
        indices = draft.pick()
    zeros = indices_like(draft, draft.put(Operator.TO_FLOAT32, indices))
    return draft.parameter(words, rng.choice(WIDTHS)), zeros, rng.choice((-1, 2))


def _state(draft: Draft, rng: random.Random, batch: Ref | int, *shape: int) -> Ref:
    """What a recurrent layer begins with, [.., batch, units]: zeros, or learned and the same for every sample."""
    if len(shape) == 1:
        return draft.put(Operator.FULL, (batch, *shape), 0.1)
    if _some(rng):
        return draft.put(Operator.FULL, (shape[0], batch, shape[1]), 0.1)
    return draft.put(Operator.EXPAND, draft.parameter(shape[0], 1, shape[1]), (shape[0], batch, shape[1]))


def _recurrent(gates: int, num_states: int, *flags: bool) -> Propose:
    def propose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
        batch_first = _some(rng)
        x = draft.pick(rank=3)
        if not batch_first:
            x = draft.put(Operator.TRANSPOSE, x, 0, 1)
        numbers = draft.numbers(x)
        steps, features = numbers[1 if batch_first else 0], numbers[2]
        most = MANY_STEPS if rng.random() < 0.03 else FEW_STEPS
        layers = rng.choice((1, 1, 2, 3))
        if not steps or not features or steps * layers > most:
            raise TaskError("too many steps for a draft")
        directions, units, biases = rng.choice((1, 2)), rng.choice(WIDTHS), _some(rng)
        weights: list[Ref] = []
        for layer in range(layers):
            for _ in range(directions):
                taken = features if layer == 0 else units * directions
                weights += [draft.parameter(gates * units, taken), draft.parameter(gates * units, units)]
                weights += [draft.parameter(gates * units) for _ in range(2)] if biases else []
        states = tuple(
            _state(draft, rng, draft.size_of(x, 0 if batch_first else 1), layers * directions, units)
            for _ in range(num_states)
        )
        dropout = rng.choice((0.0, 0.3))
        more = tuple(_some(rng) for _ in flags)
        return x, *states, tuple(weights), biases, layers, dropout, True, directions == 2, batch_first, *more

    return propose


def _cell(gates: int, num_states: int) -> Propose:
    def propose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
        x = draft.pick(rank=2)
        features, units = draft.numbers(x)[1], rng.choice(WIDTHS)
        if not features:
            raise TaskError("the batch is in the place of features")
        states = tuple(_state(draft, rng, draft.size_of(x, 0), units) for _ in range(num_states))
        weights = draft.parameter(gates * units, features), draft.parameter(gates * units, units)
        biases = (draft.parameter(gates * units), draft.parameter(gates * units)) if _some(rng) else (None, None)
        return x, *states, *weights, *biases

    return propose


def _attention(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    query = draft.pick(rank=rng.choice((3, 4, 4, 5)))
    numbers = draft.numbers(query)
    if not numbers[-1] or not numbers[-2]:
        raise TaskError("the batch is in the place of words or features")
    alike = [Ref(v) for v in draft.made if draft.type_of(v) == draft.type_of(query.value)]
    key, value = rng.choice(alike), rng.choice(alike)
    if rng.random() < 0.3:
        value = draft.put(Operator.LINEAR, value, draft.parameter(rng.choice(WIDTHS), numbers[-1]), None)
    dropout = rng.choice((0.0, 0.0, 0.4))
    mask: Ref | None = None
    if _some(rng):
        mask = draft.parameter(numbers[-2], numbers[-2])
        if _some(rng):
            mask = draft.put(Operator.GREATER, mask, -1e9)
        elif _some(rng):
            mask = draft.put(Operator.DETACH, mask)
    return query, key, value, mask, dropout, mask is None and _some(rng), rng.choice((None, 0.5))


def _prelu(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    if _some(rng):
        return x, draft.parameter(1)
    return x, draft.parameter(_channels(draft, x))


LAYERS: Mapping[str, Propose] = {
    "LINEAR": _linear,
    "MATMUL": _matmul,
    "CONV1D": _convolution(1),
    "CONV2D": _convolution(2),
    "CONV3D": _convolution(3),
    "CONV_TRANSPOSE1D": _transposed(1),
    "CONV_TRANSPOSE2D": _transposed(2),
    "MAX_POOL2D": _max_pool(2),
    "MAX_POOL3D": _max_pool(3),
    "AVG_POOL2D": _avg_pool,
    **dict.fromkeys(("ADAPTIVE_AVG_POOL2D", "ADAPTIVE_MAX_POOL2D"), _adaptive),
    "UPSAMPLE_NEAREST2D": _upsampled,
    "UPSAMPLE_BILINEAR2D": _bilinear,
    "BATCH_NORM_TRAIN": _batch_norm_train,
    "BATCH_NORM_EVAL": _batch_norm_eval,
    "LAYER_NORM": _layer_norm,
    "GROUP_NORM": _group_norm,
    "EMBEDDING": _embedding,
    "LSTM": _recurrent(4, 2),
    "GRU": _recurrent(3, 1),
    "RNN": _recurrent(1, 1, True),
    "LSTM_CELL": _cell(4, 2),
    "GRU_CELL": _cell(3, 1),
    "ATTENTION": _attention,
    "PRELU": _prelu,
}
