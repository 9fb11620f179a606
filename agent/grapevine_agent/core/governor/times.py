"""Local time, for quiet hours and for days: minutes since midnight, by the wall clock as it is.

All times that come in and go out are Unix milliseconds; `utc_offset_s` makes local ones of them. Where summer time
begins or ends within a span, its end is an hour wrong until the shell tells the new offset.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, TypeAlias

from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.spoken import time_of_day
from grapevine_proto.application import DAY_MINUTES

_MINUTE_MS: Final = 60_000

Span: TypeAlias = tuple[int, int]  # minutes since midnight: from, until; over midnight if until < from


def day_of(wall_ms: int, utc_offset_s: int) -> int:
    """The local day, counted from the epoch."""
    return (wall_ms + 1000 * utc_offset_s) // DAY_MS


def day_ends_ms(wall_ms: int, utc_offset_s: int) -> int:
    """The next local midnight."""
    return (day_of(wall_ms, utc_offset_s) + 1) * DAY_MS - 1000 * utc_offset_s


def quiet_until_ms(spans: Iterable[Span], wall_ms: int, utc_offset_s: int) -> int:
    """When the spans that hold now are over, those that follow without a gap included; 0: none holds.

    Spans that fill the whole day end never; then it is the same time tomorrow.
    """
    spans, until_ms = tuple(spans), wall_ms
    for _ in range(len(spans) + 1):
        left_ms = max((_left_ms(span, until_ms, utc_offset_s) for span in spans), default=0)
        if not left_ms or until_ms - wall_ms >= DAY_MS:
            break
        until_ms += left_ms
    return min(until_ms, wall_ms + DAY_MS) if until_ms > wall_ms else 0


def next_quiet_ms(spans: Iterable[Span], wall_ms: int, utc_offset_s: int) -> float:
    """When the next span begins; inf: there is none."""
    local_ms = wall_ms + 1000 * utc_offset_s
    waits = ((start * _MINUTE_MS - local_ms) % DAY_MS or DAY_MS for start, _ in spans)
    return wall_ms + min(waits, default=math.inf)


def clock_words(at_ms: int, wall_ms: int, utc_offset_s: int) -> str:
    """A time of the day, with the days between where it is not today: `07:00`, `07:00 in 2 days`."""
    minutes = (at_ms + 1000 * utc_offset_s) // _MINUTE_MS % DAY_MINUTES
    days = day_of(at_ms, utc_offset_s) - day_of(wall_ms, utc_offset_s)
    later = "" if days == 0 else " tomorrow" if days == 1 else f" in {days} days"
    return time_of_day(minutes) + later


def _left_ms(span: Span, wall_ms: int, utc_offset_s: int) -> int:
    """Of a span that holds, what is left of it; 0: it does not hold."""
    start, until = span
    local_ms = (wall_ms + 1000 * utc_offset_s) % DAY_MS
    start_ms, until_ms = start * _MINUTE_MS, until * _MINUTE_MS
    passed_ms, length_ms = (local_ms - start_ms) % DAY_MS, (until_ms - start_ms) % DAY_MS
    return length_ms - passed_ms if passed_ms < length_ms else 0
