"""Stretches of time and times of day, as people say them."""

from __future__ import annotations

from typing import Final

_UNITS_S: Final = (("years", 365 * 86_400), ("days", 86_400), ("hours", 3_600), ("minutes", 60))


def span(seconds: float) -> str:
    """A stretch of time, in the largest unit of which there are two: `3 hours`, `70 s`."""
    for unit, length_s in _UNITS_S:
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def time_of_day(minute: int) -> str:
    """A time by its minute of the day: `06:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"
