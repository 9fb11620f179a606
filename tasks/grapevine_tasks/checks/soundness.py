"""Arguments that fit an operator's signature and shapes, and with which it can still only fail or never learn.

A shape rule says what comes out; what stands here says when that is worth nothing: an exception at a batch
of one sample, NaN whatever goes in, or the same numbers for every input. Each check gets the resolved
arguments and the smallest batch that there may be, and raises TaskError with the value and what is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Operator as Op
from grapevine_tasks.opset.shape_rules.common import need
from grapevine_tasks.sizes import ONE, Size, TensorType

Arguments: TypeAlias = tuple[Any, ...]
Check: TypeAlias = Callable[[Arguments, int], None]

_LARGEST_EXPONENT = 80  # of e, that leaves room in float32
_ONE_SAMPLE = "; where a batch may be a single sample, set training.batch_size and data.minimum_samples to 2 or more"


def check_soundness(operator: Op, arguments: Arguments, smallest_batch: int) -> None:
    """Raise TaskError when this node can only fail, or gives the same whatever it is given."""
    check = _CHECKS.get(operator)
    if check is not None:
        check(arguments, smallest_batch)


def _product(sizes: Sequence[Size]) -> Size:
    return math.prod(sizes, start=ONE)


def _need_values(values: Size, more_than: float, smallest_batch: int, what: str, remedy: str) -> None:
    """Enough values at the smallest batch; the remedy of a larger batch only where that is one."""
    have = values.at(smallest_batch)
    if have <= more_than:
        grows = values.number is None and smallest_batch == 1
        raise TaskError(
            f"{what} {have} value{'s' * (have != 1)} at a batch of {smallest_batch}: {remedy}{_ONE_SAMPLE * grows}"
        )


def _batch_norm(arguments: Arguments, smallest_batch: int) -> None:
    x: TensorType = arguments[0]
    values = _product((x.shape[0], *x.shape[2:]))
    _need_values(values, 1, smallest_batch, f"a channel of {x} has", "2 or more are needed to normalise them")


def _group_norm(arguments: Arguments, smallest_batch: int) -> None:
    x: TensorType = arguments[0]
    per_group = x.shape[1].floor_divided(Size.constant(arguments[1]))
    values = _product((per_group, *x.shape[2:]))
    _need_values(
        values, 1, smallest_batch, f"a group of {x} has", f"alone, it becomes 0; use fewer groups than {arguments[1]}"
    )


def _layer_norm(arguments: Arguments, smallest_batch: int) -> None:
    values = Size.constant(math.prod(arguments[1]))
    remedy = "alone, it becomes 0; normalise over more"
    _need_values(values, 1, smallest_batch, f"the shape {list(arguments[1])} has", remedy)


def _spread(arguments: Arguments, smallest_batch: int) -> None:
    x, dims, correction = arguments[:3]
    values = _product([x.shape[d] for d in dims])
    remedy = f"more than its correction {correction:g} are needed"
    _need_values(values, correction, smallest_batch, f"the dimensions {list(dims)} of {x} have", remedy)


def _bounds(arguments: Arguments, smallest_batch: int) -> None:  # noqa: ARG001
    _, low, high = arguments
    if low is not None and high is not None:
        need(low < high, f"low is {low:g} and high {high:g}, which leaves one number at most: low must be less")


def _divisor(arguments: Arguments, smallest_batch: int) -> None:  # noqa: ARG001
    divisor = arguments[1]
    need(isinstance(divisor, TensorType) or divisor != 0, f"divides by {divisor}: give another number")


def _dropped(place: int) -> Check:
    def check(arguments: Arguments, smallest_batch: int) -> None:  # noqa: ARG001
        share = arguments[place]
        need(share < 1, f"drops a share of {share:g}, which is everything: give less than 1")

    return check


def _attention(arguments: Arguments, smallest_batch: int) -> None:
    _dropped(4)(arguments, smallest_batch)
    need(arguments[6] != 0, "has a scale of 0, with which all keys count alike: give a number above 0, or none")


def _softplus(arguments: Arguments, smallest_batch: int) -> None:  # noqa: ARG001
    threshold = arguments[2]
    need(
        threshold <= _LARGEST_EXPONENT,
        f"threshold is {threshold:g}; e to that power is no float32: give {_LARGEST_EXPONENT} or less",
    )


def _between_layers(arguments: Arguments, smallest_batch: int) -> None:  # noqa: ARG001
    at = next(k for k, each in enumerate(arguments) if isinstance(each, tuple))
    layers, share, train = arguments[at + 2 : at + 5]
    dead = layers > 1 and train and share >= 1
    need(not dead, f"drops a share of {share:g} between its {layers} layers, which is everything: give less than 1")


_CHECKS: Mapping[Op, Check] = {
    Op.BATCH_NORM_TRAIN: _batch_norm,
    Op.GROUP_NORM: _group_norm,
    Op.LAYER_NORM: _layer_norm,
    Op.VARIANCE: _spread,
    Op.DEVIATION: _spread,
    Op.CLAMP: _bounds,
    Op.HARDTANH: _bounds,
    Op.DIV: _divisor,
    Op.DROPOUT: _dropped(1),
    Op.ATTENTION: _attention,
    Op.SOFTPLUS: _softplus,
    Op.LSTM: _between_layers,
    Op.GRU: _between_layers,
    Op.RNN: _between_layers,
}
