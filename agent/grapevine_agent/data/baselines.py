"""What a model without any learning comes to on a device's held-out samples: what a metric is to be held against.

majority class   of the training samples; of top-5-accuracy the five most frequent ones, of several yes-or-no
                 numbers each one's more frequent side
mean             of the training samples, each number's own
last value       of a forecast: all goes on as it was in the last row that is known (persistence)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import spans

MAJORITY, MEAN, LAST_VALUE = "majority class", "mean", "last value"
_FORECAST: Final = "forecast"

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A figure in the task's metric, and what makes it."""

    name: str
    value: float


def is_forecast(contract: DataContract) -> bool:
    """Whether the target is rows that follow on those that the model sees."""
    return any(step.name == _FORECAST for step in contract.pipeline)


def up_to_forecast(contract: DataContract) -> DataContract:
    """The contract without the steps after its forecast: the last known row stands at the end of the features."""
    place = next(place for place, step in enumerate(contract.pipeline) if step.name == _FORECAST)
    return replace(contract, pipeline=contract.pipeline[: place + 1])


def of_last_value(metric: str, x: Array, y: Array, contract: DataContract) -> Baseline | None:
    """Persistence on test samples made by `up_to_forecast`: x [n, rows(, k)], y [n, horizon(, columns)]."""
    last = x[:, -1]
    if last.ndim > 1:
        given = next(step for step in contract.pipeline if step.name == _FORECAST).arguments.get("columns", (-1.0,))
        columns = [int(number) for number in given]
        last = last if columns == [-1] else last[:, columns]
    return _of_errors(metric, LAST_VALUE, y, lambda span: last[span, None])


def of_training(metric: str, y: Array, y_test: Array) -> Baseline | None:
    """The baseline that training targets [n, …] give on test targets [m, …]; None where there is nothing to test on."""
    if not len(y) or not len(y_test):
        return None
    if metric in ("accuracy", "top-5-accuracy"):
        counts = np.bincount(y.reshape(-1).astype(np.int64))
        most = np.argsort(-counts, kind="stable")[: 5 if metric == "top-5-accuracy" else 1]
        return Baseline(name=MAJORITY, value=float(np.isin(y_test, most).mean()))
    if metric == "binary-accuracy":
        side = y.mean(axis=0, dtype=np.float64) > 0.5
        return Baseline(name=MAJORITY, value=float(((y_test > 0.5) == side).mean()))
    mean = y.mean(axis=0, dtype=np.float64).astype(np.float32)
    return _of_errors(metric, MEAN, y_test, lambda _span: mean)


def _of_errors(metric: str, name: str, y: Array, predicted: Any) -> Baseline | None:
    """Mean of squares, its root, or mean of absolutes, some samples at a time."""
    if not y.size or metric not in ("mse", "rmse", "mae"):
        return None
    total = 0.0
    for span in spans(len(y), math.prod(y.shape[1:])):
        error = y[span] - predicted(span)
        total += float(
            np.abs(error).sum(dtype=np.float64) if metric == "mae" else np.square(error).sum(dtype=np.float64)
        )
    mean = total / y.size
    value = math.sqrt(mean) if metric == "rmse" else mean
    return Baseline(name=name, value=value) if math.isfinite(value) else None
