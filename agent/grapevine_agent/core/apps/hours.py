"""Whether a component is active now, by the hours and days of its schedule: pure."""

from __future__ import annotations

from typing import Final

from grapevine_agent.spoken import time_of_day
from grapevine_proto.application import DAY_MINUTES, DAYS, Hours

EPOCH_WEEKDAY: Final = 3  # 1 January 1970 was a Thursday


def is_active(hours: Hours | None, wall_ms: int) -> bool:
    """Whether it is, at this time (unix milliseconds). A span that goes over midnight is of the day it begins on."""
    if hours is None:
        return True
    minutes = wall_ms // 60_000 + hours.utc_offset_minutes
    day, minute = (minutes // DAY_MINUTES + EPOCH_WEEKDAY) % 7, minutes % DAY_MINUTES
    today, yesterday = _is_day(hours, day), _is_day(hours, (day - 1) % 7)
    if not hours.spans:
        return today
    for begin, end in hours.spans:
        if begin < end and today and begin <= minute < end:
            return True
        if begin > end and ((today and minute >= begin) or (yesterday and minute < end)):
            return True
    return False


def in_words(hours: Hours) -> str:
    """`22:00-06:00 on mon, tue (UTC+01:00)`."""
    spans = ", ".join(f"{time_of_day(begin)}-{time_of_day(end)}" for begin, end in hours.spans) or "all day"
    days = f" on {', '.join(DAYS[day] for day in hours.days)}" if hours.days else ""
    return f"{spans}{days} ({offset(hours.utc_offset_minutes)})"


def offset(minutes: int) -> str:
    """How far a place's clock is from UTC: `UTC`, `UTC-03:30`."""
    if not minutes:
        return "UTC"
    return f"UTC{'-' if minutes < 0 else '+'}{time_of_day(abs(minutes))}"


def _is_day(hours: Hours, day: int) -> bool:
    return not hours.days or day in hours.days
