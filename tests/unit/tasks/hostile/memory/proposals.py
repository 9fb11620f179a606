"""For each operator that is no layer, arguments that are likely legal for values of a draft."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeAlias

from tests.unit.tasks.hostile.memory.draft import Draft, divisors

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Argument, Operator, Ref

Propose: TypeAlias = Callable[[Draft, random.Random], tuple[Argument, ...]]
BIG = 2**40  # an end of a slice that takes all


def _unary(*constants: Callable[[random.Random], Argument]) -> Propose:
    return lambda draft, rng: (draft.pick(), *(constant(rng) for constant in constants))


def _flag(rng: random.Random) -> bool:
    return rng.random() < 0.5


def _real(low: float, high: float) -> Callable[[random.Random], Argument]:
    return lambda rng: rng.uniform(low, high)


def _any_type(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return (draft.pick(None),)


def rank_of(draft: Draft, value: Ref) -> int:
    return len(draft.type_of(value.value).shape)


def dim_of(draft: Draft, value: Ref, rng: random.Random) -> int:
    """Any dimension, counted from either end."""
    rank = rank_of(draft, value)
    if not rank:
        raise TaskError("a single number has no dimensions")
    return rng.randrange(rank) - rng.choice((0, rank))


def fixed_dim(draft: Draft, value: Ref, rng: random.Random) -> int:
    """A dimension that does not depend on the batch."""
    dims = [dim for dim, size in enumerate(draft.numbers(value)) if size is not None]
    if not dims:
        raise TaskError("every dimension depends on the batch")
    return rng.choice(dims)


def other_operand(draft: Draft, value: Ref, rng: random.Random, *, numbers: bool = True) -> Argument:
    """A number, a parameter, or a value: of the same shape, or one that broadcasts with it."""
    sizes = draft.numbers(value)
    match rng.randrange(6):
        case 0 if numbers:
            return rng.uniform(0.1, 2.0)
        case 1:  # a parameter for the last dimensions
            taken = rng.randint(0, len(sizes))
            return draft.parameter(*(1 if size is None or rng.random() < 0.2 else size for size in sizes[taken:]))
        case 2:  # one more dimension for both
            return draft.put(Operator.UNSQUEEZE, draft.pick(), rng.choice((0, 1, -1)))
        case 3:
            return draft.pick()
        case _:
            alike = [v for v in draft.made if draft.type_of(v) == draft.type_of(value.value)]
            return Ref(rng.choice(alike))


def _binary(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, other_operand(draft, x, rng)


def _two_tensors(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    pair = (x, other_operand(draft, x, rng, numbers=False))
    return pair if _flag(rng) else pair[::-1]


def _where(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    condition = draft.put(Operator.GREATER, x, other_operand(draft, x, rng))
    return condition, x, other_operand(draft, x, rng)


def _bools(count: int) -> Propose:
    def propose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
        x = draft.pick()
        return tuple(draft.put(Operator.LESS, x, rng.uniform(0, 1)) for _ in range(count))

    return propose


def _clamp(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return draft.pick(), rng.choice((None, -0.5)), 0.5


# --- sizes and shapes -----------------------------------------------------------------------------


def _size(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick(None)
    return x, dim_of(draft, x, rng)


def _two_sizes(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return draft.put(Operator.SIZE, Ref(0), 0), 1


def _less(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    return draft.put(Operator.INT_MUL, draft.put(Operator.SIZE, Ref(0), 0), 3), draft.put(Operator.SIZE, Ref(0), 0)


def _reshape(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    numbers = draft.numbers(x)
    if numbers[:1] == (None,) and None not in numbers[1:]:
        whole = draft.reshaped(x, 2)
        n = draft.numbers(whole)[1] or 0
        side = rng.choice(divisors(n))
        return x, (draft.size_of(x, 0), side, n // side)
    return x, tuple(draft.size_of(x, dim) for dim in range(len(numbers)))


def _permute(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, tuple(rng.sample(range(rank_of(draft, x)), rank_of(draft, x)))


def _transpose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, dim_of(draft, x, rng), dim_of(draft, x, rng)


def _unsqueeze(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick(None)
    return x, rng.randint(0, rank_of(draft, x))


def _squeeze(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.put(Operator.UNSQUEEZE, draft.pick(None), 1)
    return x, (1,)


def _expand(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.put(Operator.UNSQUEEZE, draft.pick(), rng.choice((0, 1, -1)))
    sizes = [draft.size_of(x, dim) for dim in range(rank_of(draft, x))]
    return x, tuple(rng.randint(2, 8) if size == 1 else size for size in sizes)


def _slice(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    dim = fixed_dim(draft, x, rng)
    length = draft.numbers(x)[dim] or 0
    return rng.choice(((x, dim, 0, BIG, 1), (x, dim, length // 3, length, 1), (x, dim, 0, length, 2)))


def _select(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick(None)
    dim = fixed_dim(draft, x, rng)
    return x, dim, rng.randrange(draft.numbers(x)[dim] or 0)


def _several(draft: Draft, rng: random.Random) -> tuple[Ref, ...]:
    x = draft.pick()
    alike = [Ref(v) for v in draft.made if draft.type_of(v) == draft.type_of(x.value)]
    numbers = draft.numbers(x)
    if None not in numbers and _flag(rng):
        alike.append(draft.parameter(*(number or 0 for number in numbers)))
    return tuple(rng.choice(alike) for _ in range(rng.randint(1, 5)))


def _concatenate(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    tensors = _several(draft, rng)
    return tensors, dim_of(draft, tensors[0], rng)


def _stack(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    tensors = _several(draft, rng)
    return tensors, rng.randint(0, rank_of(draft, tensors[0]))


def _pad(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    pairs = rng.randint(1, max(1, min(2, rank_of(draft, x))))
    return x, tuple(rng.randint(0, 3) for _ in range(2 * pairs)), 0.5


def _pad_edges(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    pairs = rng.randint(1, 3)
    x = draft.pick(rank=pairs + 2)
    sides = draft.numbers(x)[2:]
    return x, tuple(rng.randint(0, min(2, (side or 1) - 1)) for side in reversed(sides) for _ in range(2))


def _full(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return tuple(draft.size_of(x, dim) for dim in range(rank_of(draft, x))), 0.5


def _pixel_shuffle(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick(rank=4)
    channels = draft.numbers(x)[1] or 0
    factors = [f for f in (1, 2, 3, 4, 8) if channels % f**2 == 0]
    return x, rng.choice(factors)


def _repeat(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    extra = rng.randint(0, 1)
    return x, tuple(rng.choice((1, 1, 2, 3)) for _ in range(rank_of(draft, x) + extra))


def _along(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, dim_of(draft, x, rng)


def _flip(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick(None)
    return x, _dims(draft, x, rng)


def _glu(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    even = [dim for dim, size in enumerate(draft.numbers(x)) if size is not None and size % 2 == 0]
    if not even:
        raise TaskError("nothing has halves")
    return x, rng.choice(even)


# --- looking up -----------------------------------------------------------------------------------


def indices_like(draft: Draft, shaped_like: Ref) -> Ref:
    """Zeros, whatever the values are: places that are there in any dimension."""
    never = draft.put(Operator.LESS, shaped_like, -1e30), draft.put(Operator.GREATER, shaped_like, 1e30)
    return draft.put(Operator.TO_INT64, draft.put(Operator.LOGICAL_AND, *never))


def _index_select(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    dim = fixed_dim(draft, x, rng)
    zeros = draft.put(Operator.FULL, (rng.choice((1, 3, 64, 1000)),), 0.0)
    return x, dim, draft.put(Operator.TO_INT64, zeros)


def _gather(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, fixed_dim(draft, x, rng), indices_like(draft, x)


# --- reductions -----------------------------------------------------------------------------------


def _dims(draft: Draft, value: Ref, rng: random.Random) -> tuple[int, ...]:
    rank = rank_of(draft, value)
    if not rank:
        raise TaskError("a single number has no dimensions")
    return tuple(rng.sample(range(rank), rng.randint(1, rank)))


def _reduce(*constants: Callable[[random.Random], Argument]) -> Propose:
    def propose(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
        x = draft.pick()
        return x, _dims(draft, x, rng), *(constant(rng) for constant in constants), _flag(rng)

    return propose


def _reduce_one(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, dim_of(draft, x, rng), _flag(rng)


def _norm(draft: Draft, rng: random.Random) -> tuple[Argument, ...]:
    x = draft.pick()
    return x, rng.choice((0.5, 1.0, 1.5, 2.0, 3.0, 16.0)), _dims(draft, x, rng), _flag(rng)


_PLAIN = "NEG ABS EXP LOG SQRT RSQRT RECIPROCAL SIN COS FLOOR SIGN ERF RELU SILU SIGMOID TANH HARDSWISH HARDSIGMOID"
_MORE_PLAIN = "MISH LOG_SIGMOID LOG1P EXPM1 NORMAL"
_COMPARISONS = "EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL"

PROPOSALS: Mapping[str, Propose] = {
    **dict.fromkeys(f"{_PLAIN} {_MORE_PLAIN}".split(), _unary()),
    **dict.fromkeys(f"ADD SUB MUL DIV RSUB {_COMPARISONS}".split(), _binary),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), _two_tensors),
    "POW": _unary(lambda rng: rng.choice((0.0, 0.5, 1.0, 2.0, 3.0, -1.0, 2.5))),
    "CLAMP": _clamp,
    "WHERE": _where,
    "LOGICAL_NOT": _bools(1),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR"), _bools(2)),
    "DROPOUT": _unary(lambda rng: rng.choice((0.0, 0.3, 1.0))),
    "BERNOULLI": _unary(_real(0, 1)),
    "LEAKY_RELU": _unary(_real(-0.5, 0.5)),
    "ELU": _unary(_real(0.5, 2), _real(0.5, 2), _real(0.5, 2)),
    "GELU": _unary(_flag),
    "HARDTANH": _unary(_real(-1, 0), _real(0, 1)),
    "SOFTPLUS": _unary(_real(0.5, 2), _real(5, 20)),
    **dict.fromkeys(("TO_FLOAT32", "TO_INT64", "DETACH"), _any_type),
    "SIZE": _size,
    **dict.fromkeys(("INT_ADD", "INT_MUL", "INT_FLOORDIV"), _two_sizes),
    "INT_SUB": _less,
    "RESHAPE": _reshape,
    "PERMUTE": _permute,
    "TRANSPOSE": _transpose,
    "UNSQUEEZE": _unsqueeze,
    "SQUEEZE": _squeeze,
    "EXPAND": _expand,
    "SLICE": _slice,
    "SELECT": _select,
    "CONCATENATE": _concatenate,
    "STACK": _stack,
    "PAD": _pad,
    **dict.fromkeys(("REFLECT", "REPLICATE"), _pad_edges),
    "FULL": _full,
    "PIXEL_SHUFFLE": _pixel_shuffle,
    "REPEAT": _repeat,
    **dict.fromkeys(("CUMSUM", "SOFTMAX", "LOG_SOFTMAX"), _along),
    "FLIP": _flip,
    "GLU": _glu,
    "INDEX_SELECT": _index_select,
    "GATHER": _gather,
    **dict.fromkeys(("SUM", "MEAN", "AMAX", "AMIN", "LOGSUMEXP"), _reduce()),
    **dict.fromkeys(("VARIANCE", "DEVIATION"), _reduce(_real(0, 1))),
    **dict.fromkeys(("PROD", "ARGMAX", "MAX", "MIN"), _reduce_one),
    "NORM": _norm,
}
