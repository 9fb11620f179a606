"""What was used today: bytes that left, joules and seconds of training.

A day is one of local time, from midnight to midnight. Clocks are wrong now and then, and what a day allows must neither
be had twice for that nor be kept from its owner:

    the clock goes on to a later day    a new day, unless one began here less than `LEAST_DAY_S` ago: then the same
    the clock is behind the day         the same day (a board without a clock of its own begins in 1970), until that
                                        has lasted for a whole day in which it ran: then a new one

How long something lasts is told by the monotonic clock, and the time in which the device was suspended counts. How long
the clock has been behind is kept across restarts: a board that is switched off each night adds it up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from grapevine_agent.core.governor.times import day_of
from grapevine_agent.core.moment import Moment

LEAST_DAY_S: Final = 20 * 3600.0  # a day is never shorter, be it that summer time begins in it
LONGEST_BEHIND_S: Final = 24 * 3600.0
MOST_OFFSET_S: Final = 86_400
_LARGEST: Final = 1 << 62


@dataclass(kw_only=True)
class Day:
    """See the module's docstring. `number`: local days since the epoch; 0: none has begun."""

    number: int = 0
    bytes_sent: int = 0
    joules: float = 0.0
    training_s: float = 0.0
    bytes_given: int = 0  # of those sent, or promised: to others than the members of our tasks
    utc_offset_s: int = 0  # of local time, when it was last looked at
    _began_s: float = -math.inf  # where it began in this process
    _behind_s: float = 0.0  # for how long the clock has been behind it
    _behind_at_s: float = math.inf  # when that was last looked at in this process

    def look(self, now: Moment, utc_offset_s: int) -> bool:
        """Whether a new day has begun; then nothing of it is used."""
        self.utc_offset_s = utc_offset_s
        today, now_s = day_of(now.wall_ms, utc_offset_s), now.monotonic_s + now.suspended_s
        if today >= self.number:
            self._behind_s, self._behind_at_s = 0.0, math.inf
        if today == self.number:
            return False
        if today < self.number:
            self._behind_s += max(0.0, now_s - self._behind_at_s)
            self._behind_at_s = now_s
            if self._behind_s < LONGEST_BEHIND_S:
                return False
        elif now_s - self._began_s < LEAST_DAY_S:
            self.number = today
            return False
        is_first = not self.number
        self.number, self._behind_s, self._behind_at_s = today, 0.0, math.inf
        if is_first:  # whatever was used since the start was used today
            return False
        self._began_s = now_s
        self.bytes_sent, self.joules, self.training_s, self.bytes_given = 0, 0.0, 0.0, 0
        return True

    def to_save(self) -> dict[str, float]:
        """As plain values."""
        return {
            "day": self.number,
            "bytes": self.bytes_sent,
            "bytes_given": self.bytes_given,
            "joules": self.joules,
            "training_s": self.training_s,
            "utc_offset_s": self.utc_offset_s,
            "behind_s": self._behind_s,
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """What `to_save` gave. What is no count is 0: a file that is damaged costs a day's counters."""
        return cls(
            number=int(_count(saved.get("day"))),
            bytes_sent=int(_count(saved.get("bytes"))),
            joules=_count(saved.get("joules")),
            training_s=_count(saved.get("training_s")),
            bytes_given=int(_count(saved.get("bytes_given"))),
            utc_offset_s=_offset(saved.get("utc_offset_s")),
            _behind_s=_count(saved.get("behind_s")),
        )


def _offset(value: object) -> int:
    return value if type(value) is int and abs(value) <= MOST_OFFSET_S else 0


def _count(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _LARGEST else 0.0  # type: ignore[operator,arg-type]
