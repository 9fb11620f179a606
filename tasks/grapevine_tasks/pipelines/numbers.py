"""Steps that compute on numbers, wherever they stand: normalise, standardise, clip, log1p, flatten."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_tasks.pipelines.columns import chosen_columns, hot, hot_workspace, is_for_all, views
from grapevine_tasks.pipelines.steps import (
    COLUMNS,
    Argument,
    Arguments,
    Array,
    Form,
    NumberRefused,
    Stack,
    Step,
    need_float,
    per_span,
    shown,
    spans,
    spec,
)

_LARGE = 1e9
_LEAST_DEVIATION = 1e-6  # of a column: one that never changes is only moved to 0
_AT_ONCE = 2**22  # numbers that statistics are taken of at a time, in float64


def _normalise_form(form: Form, arguments: Arguments) -> Form:
    need_float("normalise", form.features)
    num = len(chosen_columns("normalise", form, arguments))
    for key in ("mean", "std"):
        if len(arguments[key]) not in (1, num):
            raise TaskError(
                f"the step normalise: {key} has {len(arguments[key])} numbers, and {shown(form.features)} has "
                f"{num} columns or channels that it is for: write 1 or as many (of images, put channels-first before)"
            )
    return form


def _normalise(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    if not is_for_all(arguments):
        for k, view in enumerate(views(x, "normalise", form, arguments)):
            own_mean, own_std = (arguments[key][k if len(arguments[key]) > 1 else 0] for key in ("mean", "std"))
            np.subtract(view, np.float32(own_mean), out=view)
            np.divide(view, np.float32(own_std), out=view)
        return x, y
    mean, std = (_along_channels(arguments[key], form) for key in ("mean", "std"))
    np.subtract(x, mean, out=x)
    return np.divide(x, std, out=x), y


def _along_channels(numbers: tuple[float, ...], form: Form) -> Array:
    """Float32 that broadcasts with [n, …] along the columns or channels."""
    axis, rank = form.channel_axis, len(form.features.shape)
    array = np.array(numbers, np.float32)
    if len(numbers) == 1 or axis is None:
        return array.reshape(())
    return array.reshape([-1 if k == axis else 1 for k in range(rank)])


def _standardise_form(form: Form, arguments: Arguments) -> Form:
    need_float("standardise", form.features)
    chosen_columns("standardise", form, arguments)
    return form


def _learn_statistics(x: Array, form: Form, arguments: Arguments) -> Arguments:
    """Mean and standard deviation of each column or channel that is chosen, missing numbers left out."""
    axis = form.channel_axis
    channels = x[None] if axis is None else np.moveaxis(x, axis + 1, 0)
    means, deviations = [], []
    for column in chosen_columns("standardise", form, arguments):
        mean, std = _statistics(channels[column])
        means.append(mean)
        deviations.append(std)
    return {"mean": tuple(means), "std": tuple(deviations), "columns": arguments["columns"]}


def _statistics(channel: Array) -> tuple[float, float]:
    """Mean and deviation of [n, …], read twice and piece by piece."""
    sums = [(float(piece.sum(dtype=np.float64)), len(piece)) for piece in _present(channel)]
    num = sum(length for _, length in sums)
    if not num:
        return 0.0, 1.0
    mean = sum(total for total, _ in sums) / num
    square = sum(_squared_errors(piece, mean) for piece in _present(channel)) / num
    std = math.sqrt(square)
    return mean, std if std > _LEAST_DEVIATION * max(1.0, abs(mean)) else 1.0


def _squared_errors(piece: Array, mean: float) -> float:
    errors = piece.astype(np.float64)
    errors -= mean
    return float(np.square(errors, out=errors).sum())


def _present(channel: Array) -> Iterator[Array]:
    """The numbers of [n, …] that are not missing, in order, `_AT_ONCE` at a time; each piece lasts until the next."""
    piece = np.empty(min(_AT_ONCE, channel.size), np.float32)
    filled = 0
    for span in spans(len(channel), math.prod(channel.shape[1:])):
        block = channel[span].reshape(-1)
        block = block[~np.isnan(block)]
        while len(block):
            taken = block[: len(piece) - filled]
            piece[filled : filled + len(taken)] = taken
            block, filled = block[len(taken) :], filled + len(taken)
            if filled == _AT_ONCE:
                yield piece
                filled = 0
    if filled:
        yield piece[:filled]


def _learn_workspace(before: Stack) -> int:
    """Of one channel a piece in float32 and float64; a block, which of it is missing, and what is not."""
    numbers_each = before.x_numbers // before.form.num_channels
    block = min(before.num, per_span(numbers_each)) * numbers_each
    return 12 * min(_AT_ONCE, before.num * numbers_each) + 9 * block


def _clip_form(form: Form, arguments: Arguments) -> Form:
    need_float("clip", form.features)
    chosen_columns("clip", form, arguments)
    low, high = arguments["low"][0], arguments["high"][0]
    if low >= high:
        raise TaskError(f"the step clip: low is {low:g} and high is {high:g}; write a low below high")
    return form


def _clip(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    low, high = (np.float32(arguments[key][0]) for key in ("low", "high"))
    for view in views(x, "clip", form, arguments):
        np.clip(view, low, high, out=view)
    return x, y


def _log1p_form(form: Form, arguments: Arguments) -> Form:
    need_float("log1p", form.features)
    chosen_columns("log1p", form, arguments)
    return form


def _log1p(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    for k, view in enumerate(views(x, "log1p", form, arguments)):
        for span in spans(len(x), math.prod(form.features.shape)):
            low = view[span] <= -1
            if low.any():
                place = np.argwhere(low)[0]
                said = (
                    f"the step log1p has no value at or below -1, and there is {view[span][tuple(place)]:g}: put clip "
                    "before it, or change data.offset"
                )
                place[0] += span.start
                column = None if is_for_all(arguments) else chosen_columns("log1p", form, arguments)[k]
                raise NumberRefused.at(said, form, place, column)
        np.log1p(view, out=view)
    return x, y


def _log1p_workspace(before: Stack, after: Stack, arguments: Arguments) -> int:  # noqa: ARG001 — one signature for all
    return before.x_at_once()  # which numbers are too small


def _flatten_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001
    features = spec(form.features, (math.prod(form.features.shape),))
    return replace(form, features=features, is_windowed=False)


def _flatten(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    return x.reshape(len(x), math.prod(form.features.shape)), y


def _flatten_target_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001
    if form.target is None or form.num_classes:
        raise TaskError("the step flatten-target needs a target that is no class: put it after forecast or reconstruct")
    return replace(form, target=spec(form.target, (math.prod(form.target.shape),)))


def _flatten_target(
    x: Array,
    y: Array | None,
    form: Form,
    arguments: Arguments,  # noqa: ARG001
) -> tuple[Array, Array | None]:
    assert form.target is not None and y is not None  # noqa: PT018 — both by _flatten_target_form
    return x, y.reshape(len(y), math.prod(form.target.shape))


def _one_hot_target_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001
    if form.target is None or form.target.dtype != "int64" or not form.num_classes:
        raise TaskError("the step one-hot-target takes a target of classes: set data.num_classes, or leave it out")
    target = spec(form.target, (*form.target.shape, form.num_classes), "float32")
    return replace(form, target=target, num_classes=0)


def _one_hot_target(
    x: Array,
    y: Array | None,
    form: Form,
    arguments: Arguments,  # noqa: ARG001
) -> tuple[Array, Array | None]:
    assert y is not None
    return x, hot(y, form.num_classes, "one-hot-target", None)


NUMBER_STEPS = {
    "normalise": Step(
        summary="(x − mean) / std, with one number for all or one for each column or channel",
        arguments={
            "mean": Argument(low=-_LARGE, high=_LARGE, is_list=True),
            "std": Argument(low=1 / _LARGE, high=_LARGE, is_list=True),
            "columns": COLUMNS,
        },
        form=_normalise_form,
        apply=_normalise,
        makes_x="in place",
    ),
    "standardise": Step(
        summary="(x − mean) / std of each column or channel, measured on the device's own training samples",
        arguments={"columns": COLUMNS},
        form=_standardise_form,
        apply=_normalise,
        makes_x="in place",
        learn=_learn_statistics,
        learn_workspace=_learn_workspace,
    ),
    "clip": Step(
        summary="numbers below `low` become `low`, above `high` become `high`",
        arguments={
            "low": Argument(low=-_LARGE, high=_LARGE),
            "high": Argument(low=-_LARGE, high=_LARGE),
            "columns": COLUMNS,
        },
        form=_clip_form,
        apply=_clip,
        makes_x="in place",
    ),
    "log1p": Step(
        summary="log(1 + x); numbers must be above −1",
        arguments={"columns": COLUMNS},
        form=_log1p_form,
        apply=_log1p,
        makes_x="in place",
        workspace=_log1p_workspace,
    ),
    "flatten": Step(
        summary="features of any shape to one row of numbers", form=_flatten_form, apply=_flatten, makes_x="view"
    ),
    "flatten-target": Step(
        summary="a target of any shape to one row of numbers",
        form=_flatten_target_form,
        apply=_flatten_target,
        makes_x="view",
    ),
    "one-hot-target": Step(
        summary="the target's class to `data.num_classes` numbers, of which one is 1",
        form=_one_hot_target_form,
        apply=_one_hot_target,
        makes_x="view",
        makes_y="new",
        workspace=hot_workspace,
    ),
}
