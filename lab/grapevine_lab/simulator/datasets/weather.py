"""Hourly weather at 25 Irish stations in 2017: a day of it, and the temperature one hour later.

Publisher: Met Éireann (CC BY 4.0), as the R package aimsir17 has it. The file holds float32
[25, 8760] arrays `temp` (°C), `rhum` (%), `rain` (mm) and `dewpt_derived` (°C, from temperature and
humidity by Magnus' formula), with NaN for what is missing, and the names in `station`. These are the
four features of Chisme's weather scenario (section IV-A), whose windows the paper does not give.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from grapevine_lab.simulator.datasets.dataset import Dataset, DatasetFacts, DatasetPlan, missing, read_arrays

IRISH_WEATHER: Final = DatasetFacts(
    name="irish-weather",
    num_samples=174_118,
    num_test=43_177,
    grouped_by="station",
    num_groups=25,
    has_test_groups=True,
)

FEATURES: Final = ("temp", "rhum", "rain", "dewpt_derived")
# Mean and standard deviation of each feature over all stations and the hours before the cut. One pair for all
# stations, so that what makes a station's climate its own stays in its samples; from the training part only.
MEANS: Final = np.array([10.998, 82.723, 0.11738, 8.0002], np.float32)
DEVIATIONS: Final = np.array([4.2738, 11.818, 0.45855, 4.1224], np.float32)

PAST_HOURS: Final = 24
_TRAIN_SHARE = 0.8


def load_irish_weather(plan: DatasetPlan, folder: Path) -> Dataset:
    """Windows of 24 hours, float32 [n, 24, 4] in the order of `FEATURES`; y is the next hour's temperature, [n, 1].

    All standardised by `MEANS` and `DEVIATIONS`, so an RMSE of 1 is 4.27 °C. Windows with a missing
    number are left out. Chronological: a window is for training when the hour to predict lies in the
    first 80 % of the year, else for testing. Groups are stations, 0 to 24 in the order of the file.
    """
    path = folder / "irish_weather" / "irish_hourly_2017.npz"
    if not path.exists():
        raise missing(
            plan.name,
            path,
            "make it from `observations` of the R package aimsir17: "
            f"float32 arrays {', '.join(FEATURES)}, each [stations, hours], NaN where missing",
        )
    arrays = read_arrays(plan.name, path, FEATURES)
    hourly = (np.stack([arrays[name] for name in FEATURES], axis=-1) - MEANS) / DEVIATIONS
    cut = int(_TRAIN_SHARE * hourly.shape[1])
    x, y, stations = _windows(hourly[:, :cut])
    # The first hour to test on is predicted from the last day of the training part.
    x_test, y_test, test_stations = _windows(hourly[:, cut - PAST_HOURS :])
    return Dataset(
        name=plan.name,
        kind="weather-24x4",
        x=x,
        y=y,
        x_test=x_test,
        y_test=y_test,
        groups=stations,
        test_groups=test_stations,
        grouped_by="station",
    )


def _windows(hourly: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """All complete windows of [stations, hours, features], station by station and in order of time."""
    windows = sliding_window_view(hourly, PAST_HOURS + 1, axis=1)  # [stations, windows, features, hours]
    is_complete = ~np.isnan(windows).any(axis=(2, 3))
    stations, starts = np.nonzero(is_complete)
    x = np.ascontiguousarray(windows[stations, starts, :, :PAST_HOURS].transpose(0, 2, 1), np.float32)
    y = hourly[stations, starts + PAST_HOURS, :1].astype(np.float32)
    return x, y, stations.astype(np.int64)
