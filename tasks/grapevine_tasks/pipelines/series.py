"""Steps on rows in order of time (window, forecast, difference), and the target that is the features (reconstruct)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import FeatureSpec
from grapevine_tasks.pipelines.columns import chosen_columns
from grapevine_tasks.pipelines.steps import (
    BYTES,
    COLUMNS,
    Argument,
    Arguments,
    Array,
    Form,
    Stack,
    Step,
    need_float,
    shown,
    spec,
    whole,
)

_LENGTH = Argument(low=1, high=65536, is_whole=True)
_STRIDE = Argument(low=1, high=65536, is_whole=True, default=(1.0,))


def _need_rows(name: str, form: Form) -> None:
    if form.is_windowed:
        raise TaskError(f"the step {name} takes the rows of a series, which were cut before it: put it first")
    if len(form.features.shape) > 1:
        raise TaskError(f"the step {name} takes rows [k] or single numbers [], not {shown(form.features)}")


def _need_no_target(name: str, form: Form) -> None:
    if form.derived:
        raise TaskError(f"the step {name} makes the target, and a step before it did: leave one of them out")
    if form.num_classes:
        raise TaskError(f"the step {name} makes the target, which is no class then: set data.num_classes to 0")


def _window_form(form: Form, arguments: Arguments) -> Form:
    _need_rows("window", form)
    shape = (whole(arguments, "length"), *form.features.shape)
    return replace(form, features=_windowed(form, shape), is_windowed=True)


def _windowed(form: Form, shape: tuple[int, ...]) -> FeatureSpec:
    """Rows of columns have the columns of the rows."""
    return replace(spec(form.features, shape), columns=form.features.columns)


def _window(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    length, stride = whole(arguments, "length"), whole(arguments, "stride")
    return _windows(x, length, stride), None if y is None else y[length - 1 :: stride].copy()


def _windows(rows: Array, length: int, stride: int) -> Array:
    """[n, …] to [m, length, …], copied."""
    views = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0)[::stride]
    return np.moveaxis(views, -1, 1).copy(order="C")


def _forecast_form(form: Form, arguments: Arguments) -> Form:
    need_float("forecast", form.features)
    _need_rows("forecast", form)
    _need_no_target("forecast", form)
    rows = form.features.shape
    columns = chosen_columns("forecast", form, arguments)
    shape = (whole(arguments, "horizon"), *((len(columns),) if rows else ()))
    target = spec(form.target or form.features, shape, "float32")
    features = _windowed(form, (whole(arguments, "length"), *rows))
    return replace(form, features=features, target=target, derived=True, is_windowed=True)


def _forecast(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    length, horizon, stride = (whole(arguments, key) for key in ("length", "horizon", "stride"))
    predicted = x[:, chosen_columns("forecast", form, arguments)] if form.features.shape else x
    num_windows = max(0, (len(x) - length - horizon) // stride + 1)
    return (
        _windows(x[: len(x) - horizon], length, stride)[:num_windows],
        _windows(predicted[length:], horizon, stride)[:num_windows],
    )


def _forecast_workspace(before: Stack, after: Stack, arguments: Arguments) -> int:  # noqa: ARG001
    """The predicted columns, before they are cut."""
    return (
        BYTES["float32"] * before.num * len(chosen_columns("forecast", before.form, arguments))
        if before.form.features.shape
        else 0
    )


def _difference_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001 — one signature for all steps
    need_float("difference", form.features)
    _need_rows("difference", form)
    return form


def _difference(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    return np.diff(x, axis=0), None if y is None else y[1:]


def _reconstruct_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001
    need_float("reconstruct", form.features)
    _need_no_target("reconstruct", form)
    target = spec(form.target or form.features, form.features.shape, "float32")
    return replace(form, target=replace(target, columns=()), derived=True)


def _reconstruct(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    return x, x


SERIES_STEPS = {
    "window": Step(
        summary="rows of a series to windows of `length` rows, `stride` rows apart; the target is that of the last row",
        arguments={"length": _LENGTH, "stride": _STRIDE},
        form=_window_form,
        apply=_window,
        makes_y="new",
        rows=lambda arguments: (whole(arguments, "length"), whole(arguments, "stride")),
    ),
    "forecast": Step(
        summary="rows of a series to windows of `length` rows, `stride` rows apart; the target is the `horizon` rows "
        "that follow, of all columns or those numbered in `columns`, from 0",
        arguments={
            "length": _LENGTH,
            "horizon": Argument(low=1, high=65536, is_whole=True, default=(1.0,)),
            "stride": _STRIDE,
            "columns": COLUMNS,
        },
        form=_forecast_form,
        apply=_forecast,
        makes_y="new",
        workspace=_forecast_workspace,
        rows=lambda arguments: (
            whole(arguments, "length") + whole(arguments, "horizon"),
            whole(arguments, "stride"),
        ),
    ),
    "difference": Step(
        summary="each row of a series less the row before it",
        form=_difference_form,
        apply=_difference,
        rows=lambda arguments: (2, 1),  # noqa: ARG005
    ),
    "reconstruct": Step(
        summary="the target is the features, as they are here (autoencoders)",
        form=_reconstruct_form,
        apply=_reconstruct,
        makes_x="view",
        makes_y="features",
    ),
}
