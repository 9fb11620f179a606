"""When more strangers wait than can be listened to one by one: for a moment, everybody's heartbeats are.

One subscription brings whoever is really there within an interval, however many others only say so. It
ends as soon as no more newcomers may be taken, and comes back sooner or later by what it has brought: after
an interval if it brought anybody, else after 2, 4, … `MOST_INTERVALS` ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LASTS_INTERVALS = 1.25  # everybody beats once in an interval
MOST_INTERVALS = 64


@dataclass(kw_only=True)
class RollCall:
    """See the module's docstring. Times are monotonic seconds."""

    heartbeat_s: float
    is_open: bool = False
    _until_s: float = -math.inf
    _next_s: float = -math.inf
    _gap_intervals: int = 1
    _num_found: int = 0

    def found(self) -> None:
        """A newcomer was heard."""
        self._num_found += 1

    def tick(self, now_s: float, *, is_wanted: bool, has_room: bool) -> bool:
        """Begin or end it in time. Whether it is open is another than before."""
        if self.is_open:
            if now_s < self._until_s and has_room and is_wanted:
                return False
            self.is_open = False
            self._gap_intervals = 1 if self._num_found else min(2 * self._gap_intervals, MOST_INTERVALS)
            self._next_s = now_s + self._gap_intervals * self.heartbeat_s
            return True
        if now_s < self._next_s or not is_wanted or not has_room:
            return False
        self.is_open, self._num_found = True, 0
        self._until_s = now_s + LASTS_INTERVALS * self.heartbeat_s
        return True

    def next_change_s(self, *, is_wanted: bool, has_room: bool) -> float:
        """When `tick` has something to do next."""
        if self.is_open:
            return self._until_s if is_wanted and has_room else -math.inf
        return self._next_s if is_wanted and has_room else math.inf
