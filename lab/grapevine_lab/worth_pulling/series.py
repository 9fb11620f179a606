"""The stations' hours: what each learns from, what it holds out, and what nobody sees until the end.

    |<- learnt, a fifth of it held out by `holdout` ->|<- the next two months: what a pulled model is judged by ->|

Windows reach across no seam, as a device cuts them from its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.simulator.datasets.dataset import data_folder, read_arrays
from grapevine_lab.simulator.datasets.weather import DEVIATIONS, FEATURES, MEANS
from grapevine_tasks.pipelines import held_out_stretches, left_stretches

STATIONS: Final = 6
HOURS: Final = 1_440  # sixty days to learn from, and as many to be judged by
PAST, NEXT = 24, 6
DEGREES: Final = float(DEVIATIONS[0])  # an error of 1 is so many °C

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Station:
    """One station's windows: x float32 [n, 24, 4], y float32 [n, 6]."""

    x: Array
    y: Array
    x_held: Array
    y_held: Array
    x_later: Array
    y_later: Array


def stations(holdout: str, first_hour: int) -> list[Station]:
    """Six stations over the same four months. Raises ConfigError where the data set is not there."""
    path = data_folder() / "irish_weather" / "irish_hourly_2017.npz"
    arrays = read_arrays("irish-weather", path, FEATURES)
    hourly = ((np.stack([arrays[name] for name in FEATURES], axis=-1) - MEANS) / DEVIATIONS).astype(np.float32)
    hours = hourly[:, first_hour : first_hour + 2 * HOURS]
    whole = [station for station in hours if np.isnan(station).mean() < 0.01]
    return [_station(each, holdout) for each in whole[:STATIONS]]


def _station(rows: Array, holdout: str) -> Station:
    held = held_out_stretches(HOURS, PAST + NEXT, holdout)
    parts = [left_stretches(HOURS, held), held, [(HOURS, 2 * HOURS)]]
    cut = [pair for part in parts for pair in _windows(rows, part)]
    return Station(x=cut[0], y=cut[1], x_held=cut[2], y_held=cut[3], x_later=cut[4], y_later=cut[5])


def _windows(rows: Array, stretches: list[tuple[int, int]]) -> Iterator[Array]:
    """Features, then targets, of all whole windows of some stretches of rows."""
    cut = [
        np.lib.stride_tricks.sliding_window_view(rows[start:end], PAST + NEXT, axis=0)
        for start, end in stretches
        if end - start >= PAST + NEXT
    ]
    windows = np.moveaxis(np.concatenate(cut), -1, 1)
    windows = windows[~np.isnan(windows).any(axis=(1, 2))]
    yield np.ascontiguousarray(windows[:, :PAST])
    yield np.ascontiguousarray(windows[:, PAST:, 0])


def persistence(station: Station) -> float:
    """The rmse, on the later months, of saying that the temperature stays as it is."""
    return float(np.sqrt(np.mean((station.y_later - station.x_later[:, -1:, 0]) ** 2)))


def save(found: list[Station], path: Path) -> None:
    """As the simulator takes samples of one's own: groups are stations."""
    sizes = [(len(each.x), len(each.x_held)) for each in found]
    groups = [np.repeat(np.arange(len(found)), [size[which] for size in sizes]) for which in (0, 1)]
    np.savez(
        path,
        x=np.concatenate([each.x for each in found]),
        y=np.concatenate([each.y for each in found]),
        x_test=np.concatenate([each.x_held for each in found]),
        y_test=np.concatenate([each.y_held for each in found]),
        groups=groups[0],
        test_groups=groups[1],
    )
