"""Arguments for every operator, legal or nearly so.

A draw that a shape rule refuses costs nothing, so nothing here is careful: the shape rules are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.unit.tasks.fuzz.artist import SIDES, Artist
from tests.unit.tasks.fuzz.drawing import Drawn, Handle, indices_below
from tests.unit.tasks.fuzz.layers import LAYERS, Draw

from grapevine_proto.program import Operator as Op


def draw_arguments(artist: Artist, operator: Op) -> tuple[Drawn, ...]:
    """Arguments for this operator."""
    special = SPECIAL.get(operator)
    return artist.by_signature(operator) if special is None else special(artist)


def _any_dtype(a: Artist) -> Handle:
    return a.one_of(a.floats(), a.floats(), a.truths(), a.indices(a.sides(), 5))  # type: ignore[no-any-return]


def _with_dim(a: Artist) -> tuple[Drawn, ...]:
    x = a.floats()
    return x, a.dim(x)


def _halved(a: Artist) -> tuple[Drawn, ...]:
    sides = a.sides(1, 3)
    at = int(a.rng.integers(len(sides)))
    sides[at] *= a.one_of(1, 2, 2)
    return a.floats(sides), at - len(sides)


def _one_reduced(a: Artist) -> tuple[Drawn, ...]:
    return (*_with_dim(a), a.chance(0.5))


def _reduced(a: Artist) -> tuple[Drawn, ...]:
    x = a.floats()
    return x, a.some_dims(x), a.chance(0.5)


def _spread(a: Artist) -> tuple[Drawn, ...]:
    x = a.floats()
    return x, a.some_dims(x), a.real(0, 1024), a.chance(0.5)


def _norm(a: Artist) -> tuple[Drawn, ...]:
    x = a.floats()
    return x, a.one_of(0.5, 1.0, 2.0, 3.0, 16.0), a.some_dims(x), a.chance(0.5)


def _reshape(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    numbers = [size.number for size in a.drawing.shape(x)]
    if None in numbers:
        rest = math.prod(n for n in numbers if n is not None)
        batch = a.drawing.node(Op.SIZE, x, numbers.index(None))[0]
        return x, a.one_of((-1, rest), (batch, -1), (rest, -1), (batch, rest, 1), (-1,), (0, -1))
    total = math.prod(n for n in numbers if n is not None)
    return x, a.one_of((-1,), (total,), (1, total), (total, 1, 1), (-1, 1), ())


def _permute(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    return x, tuple(int(d) for d in a.rng.permutation(len(a.drawing.shape(x))))


def _squeeze(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    ones = [d for d, size in enumerate(a.drawing.shape(x)) if size.number == 1]
    return x, tuple(ones[: a.rng.integers(0, len(ones) + 1)])


def _expand(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    kept: list[Handle | int] = [a.one_of(2, 3, -1) if s.number == 1 else -1 for s in a.drawing.shape(x)]
    return x, tuple([a.one_of(1, 2, 0)] * a.one_of(0, 0, 1) + kept)


def _slice(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    start, end = a.one_of(0, 0, 1, -1, -2, 2**62, -(2**63)), a.one_of(2, 3, -1, 2**62, 2**63 - 1, 0)
    return x, a.dim(x), start, end, a.one_of(1, 1, 2, 3, 65536)


def _select(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    return x, a.dim(x), a.whole(-3, 3)


def _joined(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    others = tuple(a.one_of(x, x, *a.learnt) for _ in range(a.rng.integers(0, 3)))
    return (x, *others), a.dim(x)


def _padded(a: Artist) -> tuple[Drawn, ...]:
    x = a.floats(a.sides(1, 4))
    return x, tuple(int(n) for n in a.rng.integers(0, 3, 2 * a.rng.integers(0, 4))), a.real(-1e6, 1e6)


def _mirrored(a: Artist) -> tuple[Drawn, ...]:
    pairs = int(a.rng.integers(1, 5))
    x = a.floats([int(a.rng.choice(SIDES)) for _ in range(pairs + 1)])
    return x, tuple(int(n) for n in a.rng.integers(0, 3, 2 * pairs))


def _shuffled(a: Artist) -> tuple[Drawn, ...]:
    factor = a.one_of(1, 2, 3)
    return a.floats([*a.sides(0, 1), factor**2 * a.one_of(1, 2), *a.sides(2, 2)]), factor


def _repeated(a: Artist) -> tuple[Drawn, ...]:
    x = _any_dtype(a)
    return x, tuple(int(n) for n in a.rng.integers(1, 3, len(a.drawing.shape(x)) + a.rng.integers(0, 2)))


def _two(a: Artist) -> tuple[Drawn, ...]:
    x = a.floats()
    numbers = [s.number for s in a.drawing.shape(x)]
    same = a.weights(*(n for n in numbers[1:] if n is not None)) if a.chance(0.3) else x
    return x, a.one_of(x, same, a.floats())


def _with_operand(a: Artist) -> tuple[Drawn, ...]:
    x, other = _two(a)
    return x, a.one_of(other, other, a.real(-1e30, 1e30), a.whole(-100, 100))


def _compared(a: Artist) -> tuple[Drawn, ...]:
    if a.chance(0.2):
        x = a.indices(a.sides(), 5)
        return x, a.one_of(x, a.whole(-100, 100), 0.5)
    return _with_operand(a)


def _where(a: Artist) -> tuple[Drawn, ...]:
    x, other = _with_operand(a)
    condition = a.drawing.node(Op.LESS, x, 0.2)[0] if isinstance(x, Handle) else a.truths()
    return condition, *a.one_of((x, other), (other, x), (x, 1), (2.5, x))


def _of_truths(a: Artist) -> tuple[Drawn, ...]:
    x = a.truths()
    return x, a.one_of(x, x, a.truths())


def _looked_up(a: Artist, *, same_rank: bool) -> tuple[Drawn, ...]:
    x = a.one_of(a.floats(a.sides(1, 3)), a.floats(a.sides(1, 3), batched=False))
    at = a.dim(x)
    shape = a.drawing.shape(x)
    length = shape[at].number if -len(shape) <= at < len(shape) else None
    if not same_rank:
        return x, at, a.indices(a.one_of([3], []), length or 1)
    if a.chance(0.5):
        return x, at, a.drawing.node(Op.ARGMAX, x, at, True)[0]
    sides = [size.number or 1 for size in shape]
    if length is not None:
        sides[at] = a.one_of(1, 2, 3)
    if shape and shape[0].number is None:
        return x, at, a.indices(sides[1:], length or 1)
    return x, at, a.drawing.constant(indices_below(a.rng, sides, length or 1))


def _embedding(a: Artist) -> tuple[Drawn, ...]:
    words = a.one_of(1, 2, 5)
    return a.weights(words, a.one_of(1, 3)), a.indices(a.sides(0, 2), words), a.whole(-1, words)


SPECIAL: Mapping[Op, Draw] = {
    **LAYERS,
    **dict.fromkeys((Op.SUM, Op.MEAN, Op.AMAX, Op.AMIN, Op.LOGSUMEXP), _reduced),
    **dict.fromkeys((Op.VARIANCE, Op.DEVIATION), _spread),
    **dict.fromkeys((Op.PROD, Op.ARGMAX, Op.MAX, Op.MIN), _one_reduced),
    **dict.fromkeys((Op.SOFTMAX, Op.LOG_SOFTMAX, Op.CUMSUM, Op.SIZE), _with_dim),
    **dict.fromkeys((Op.CONCATENATE, Op.STACK), _joined),
    **dict.fromkeys((Op.REFLECT, Op.REPLICATE), _mirrored),
    **dict.fromkeys((Op.MAXIMUM, Op.MINIMUM), _two),
    **dict.fromkeys((Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.RSUB), _with_operand),
    **dict.fromkeys((Op.EQUAL, Op.NOT_EQUAL, Op.GREATER, Op.GREATER_EQUAL, Op.LESS, Op.LESS_EQUAL), _compared),
    **dict.fromkeys((Op.LOGICAL_AND, Op.LOGICAL_OR), _of_truths),
    **dict.fromkeys((Op.TO_FLOAT32, Op.TO_INT64, Op.DETACH), lambda a: (_any_dtype(a),)),
    Op.LOGICAL_NOT: lambda a: (a.truths(),),
    Op.GLU: _halved,
    Op.NORM: _norm,
    Op.RESHAPE: _reshape,
    Op.PERMUTE: _permute,
    Op.SQUEEZE: _squeeze,
    Op.EXPAND: _expand,
    Op.SLICE: _slice,
    Op.SELECT: _select,
    Op.PAD: _padded,
    Op.PIXEL_SHUFFLE: _shuffled,
    Op.REPEAT: _repeated,
    Op.WHERE: _where,
    Op.INDEX_SELECT: lambda a: _looked_up(a, same_rank=False),
    Op.GATHER: lambda a: _looked_up(a, same_rank=True),
    Op.FLIP: lambda a: (x := _any_dtype(a), a.some_dims(x)),
    Op.EMBEDDING: _embedding,
}
