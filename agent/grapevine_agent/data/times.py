"""Times of samples: how a column says them, and how people read them.

A column holds dates, or numbers since 1970 in seconds, milliseconds, microseconds or nanoseconds. Which of these is
told by how large they are: from 1970 to 2200 the largest numbers of two units are a factor of 1,000 apart.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.source import DataSource
from grapevine_agent.spoken import span

LATEST_S: Final = 7_289_654_400.0  # the end of the year 2200: no sample is of a later time, or of one before 1970
UNITS: Final = {1.0: "seconds", 1e-3: "milliseconds", 1e-6: "microseconds", 1e-9: "nanoseconds"}
AHEAD_S: Final = 86_400.0  # that clocks and time zones may differ
# What is larger than the first number is in this unit: as seconds 1e11 would be in the year 5138, as milliseconds
# in 1973, and so on.
_UNITS_S: Final = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))


def times_of(source: DataSource, column: NDArray[Any]) -> tuple[NDArray[np.float64], bool]:
    """A time column [n] since 1970: in seconds, or, if it holds numbers, as they are. What is missing is NaN.

    Raises TaskError when it holds neither dates nor numbers.
    """
    if column.dtype.kind == "M":
        return _seconds(column.astype("datetime64[us]")), False
    if column.dtype.kind in "UO":
        try:
            return _seconds(np.array(column, dtype="datetime64[us]")), False
        except ValueError as error:
            raise source.error(
                f"the time column {source.time!r} holds no dates ({error}); write 2026-03-01T12:00:00, or seconds"
            ) from None
    return column.astype(np.float64), True


def _seconds(dates: NDArray[np.datetime64]) -> NDArray[np.float64]:
    return np.where(np.isnat(dates), np.nan, dates.astype(np.int64) / 1e6)


def unit_s(largest: float) -> float:
    """The unit of numbers of which this is the largest, in seconds."""
    return next((unit for least, unit in _UNITS_S if largest > least), 1.0)


def shown_time(time_s: float, now_s: float) -> str:
    """A time for people, and how far it is ahead of this device's clock, if it is. Never raises."""
    try:
        text = f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time_s:g} s after the beginning of 1970, which is no time"
    return text + (f", {span(time_s - now_s)} ahead of this device's clock" if time_s - now_s > AHEAD_S else "")
