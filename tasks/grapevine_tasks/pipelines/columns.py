"""Which columns or channels a step is for, and steps that put several columns in the place of one: one-hot, cyclic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_tasks.pipelines.steps import (
    ALL_COLUMNS,
    AT_ONCE,
    BYTES,
    COLUMNS,
    MAX_NUMBERS,
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
    whole,
)

_LARGE: Final = 1e9


def chosen_columns(name: str, form: Form, arguments: Arguments) -> list[int]:
    """The columns or channels that a step is for, by number. Raises TaskError when there are no such ones."""
    given = arguments["columns"]
    if is_for_all(arguments):
        return list(range(form.num_channels))
    columns = [int(number) for number in given]
    if form.channel_axis is None:
        raise TaskError(f"the step {name}: {shown(form.features)} has no columns or channels: leave `columns` out")
    if not columns or min(columns) < 0 or max(columns) >= form.num_channels or len(set(columns)) < len(columns):
        raise TaskError(
            f"the step {name}: columns is {columns}; write numbers from 0 to {form.num_channels - 1}, each once, "
            "or leave it out to take all"
        )
    return columns


def is_for_all(arguments: Arguments) -> bool:
    """Whether a step is for all columns, and for features that have none."""
    return tuple(arguments["columns"]) == ALL_COLUMNS


def views(x: Array, name: str, form: Form, arguments: Arguments) -> Iterator[Array]:
    """The chosen columns or channels of features [n, …], each a view [n, …]; for all columns that is all at once."""
    axis = form.channel_axis
    if is_for_all(arguments) or axis is None:
        yield x
        return
    channels = np.moveaxis(x, axis + 1, 0)
    for column in chosen_columns(name, form, arguments):
        yield channels[column]


# --- several columns in the place of one ----------------------------------------------------------


def _widened(form: Form, columns: list[int], endings: list[str]) -> Form:
    """The form in which each of these columns has become as many as there are endings of their names."""
    *rows, width = form.features.shape
    wide = spec(form.features, (*rows, width + len(columns) * (len(endings) - 1)), "float32")
    names = form.features.columns
    if len(names) == width and wide.shape[-1] <= MAX_NUMBERS:
        told = [
            [f"{name}{ending}" for ending in endings] if place in columns else [name]
            for place, name in enumerate(names)
        ]
        wide = replace(wide, columns=tuple(name for each in told for name in each))
    return replace(form, features=wide)


def _need_columns(name: str, form: Form) -> None:
    if form.channel_axis is None or form.channel_axis != len(form.features.shape) - 1:
        raise TaskError(f"the step {name} takes columns of [k] or windows [rows, k], not {shown(form.features)}")


def _starts(num: int, columns: list[int], width: int) -> list[int]:
    """Where each of `num` columns begins once the chosen ones are `width` columns."""
    chosen = set(columns)
    starts, at = [], 0
    for place in range(num):
        starts.append(at)
        at += width if place in chosen else 1
    return starts


def _one_hot_form(form: Form, arguments: Arguments) -> Form:
    classes = whole(arguments, "classes")
    if is_for_all(arguments):
        if form.features.dtype != "int64":
            raise TaskError(
                f"the step one-hot takes int64 features, not {shown(form.features)}: write for which `columns` it is, "
                "or leave it out"
            )
        return replace(form, features=spec(form.features, (*form.features.shape, classes), "float32"))
    _need_columns("one-hot", form)
    columns = chosen_columns("one-hot", form, arguments)
    num = math.prod(form.features.shape[:-1]) * (form.num_channels + len(columns) * (classes - 1))
    endings = [f"={k}" for k in range(classes)] if num <= MAX_NUMBERS else [""] * classes
    return _widened(form, columns, endings)


def _one_hot(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    classes = whole(arguments, "classes")
    if is_for_all(arguments):
        return hot(x, classes, "one-hot", form), y
    columns = chosen_columns("one-hot", form, arguments)
    wide = np.zeros((*x.shape[:-1], form.num_channels + len(columns) * (classes - 1)), np.float32)
    chosen = set(columns)
    for place, start in enumerate(_starts(form.num_channels, columns, classes)):
        if place not in chosen:
            wide[..., start] = x[..., place]
            continue
        for span in spans(len(x), max(1, math.prod(x.shape[1:-1]))):
            numbers = x[span][..., place]
            if (at := _put_ones(numbers, wide[span][..., start : start + classes], classes)) is not None:
                found = f"{numbers[tuple(at)]:g}"
                said = f"the step one-hot is for whole numbers from 0 to {classes - 1}, and there is {found}"
                at[0] += span.start
                raise NumberRefused.at(said, form, at, place)
    return wide, y


def _put_ones(numbers: Array, made: Array, classes: int) -> Array | None:
    """Of whole numbers [n, …] ones in [n, …, classes]; missing numbers stay missing. Where one is that is none."""
    missing = np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(numbers.shape, bool)
    bad = ~missing & ((numbers < 0) | (numbers >= classes) | (numbers != np.floor(numbers)))
    if bad.any():
        first: Array = np.argwhere(bad)[0]
        return first
    at = np.nonzero(~missing)
    made[(*at, numbers[at].astype(np.int64))] = 1
    made[missing] = np.nan
    return None


def hot(numbers: Array, num_classes: int, name: str, form: Form | None) -> Array:
    """[n, …] whole numbers, of features of a form or of the target, to [n, …, classes] of 0 and 1.

    Raises NumberRefused for one that is no class.
    """
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < num_classes:
        place = np.argwhere((numbers < 0) | (numbers >= num_classes))[0]
        said = f"the step {name} is for 0 to {num_classes - 1}, and there is {numbers[tuple(place)]}"
        raise NumberRefused(said, int(place[0]), "target") if form is None else NumberRefused.at(said, form, place)
    made = np.zeros((numbers.size, num_classes), np.float32)
    flat = numbers.reshape(-1)
    for span in spans(len(flat), 1):
        made[np.arange(span.start, span.stop), flat[span]] = 1
    return made.reshape(*numbers.shape, num_classes)


def hot_workspace(before: Stack, after: Stack, arguments: Arguments) -> int:  # noqa: ARG001 — one signature for all steps
    """Where the ones are: of columns their places in each axis, and which numbers are missing or wrong."""
    if "columns" not in arguments or is_for_all(arguments):
        return 4 * BYTES["int64"] * AT_ONCE
    rank = 1 + len(before.form.features.shape)
    return (3 + rank) * BYTES["int64"] * _at_once(before)


def _at_once(before: Stack) -> int:
    """How many numbers of one column are looked at in one go."""
    each = max(1, math.prod(before.form.features.shape[:-1]))
    return min(before.num, per_span(each)) * each


def _cyclic_form(form: Form, arguments: Arguments) -> Form:
    need_float("cyclic", form.features)
    _need_columns("cyclic", form)
    return _widened(form, chosen_columns("cyclic", form, arguments), [" sin", " cos"])


def _cyclic(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    columns = chosen_columns("cyclic", form, arguments)
    turn = 2 * math.pi / arguments["period"][0]
    wide = np.empty((*x.shape[:-1], form.num_channels + len(columns)), np.float32)
    chosen = set(columns)
    for place, start in enumerate(_starts(form.num_channels, columns, 2)):
        if place not in chosen:
            wide[..., start] = x[..., place]
            continue
        for span in spans(len(x), max(1, math.prod(x.shape[1:-1]))):
            angles = x[span][..., place].astype(np.float64)
            angles *= turn
            np.sin(angles, out=wide[span][..., start], casting="same_kind")
            np.cos(angles, out=wide[span][..., start + 1], casting="same_kind")
    return wide, y


def _cyclic_workspace(before: Stack, after: Stack, arguments: Arguments) -> int:  # noqa: ARG001
    """Angles of a stretch of numbers, and what NumPy casts on the way."""
    return 3 * 8 * _at_once(before)


COLUMN_STEPS: Mapping[str, Step] = {
    "one-hot": Step(
        summary="each whole number of the features to `classes` numbers, of which one is 1: of all int64 features "
        "along a new last axis, or of some `columns` in their place",
        arguments={"classes": Argument(low=2, high=65536, is_whole=True), "columns": COLUMNS},
        form=_one_hot_form,
        apply=_one_hot,
        workspace=hot_workspace,
    ),
    "cyclic": Step(
        summary="each column to the sine and cosine of its share of a `period`, in its place: 24 for hours, 7 for days "
        "of the week",
        arguments={"period": Argument(low=1 / _LARGE, high=_LARGE), "columns": COLUMNS},
        form=_cyclic_form,
        apply=_cyclic,
        workspace=_cyclic_workspace,
    ),
}
