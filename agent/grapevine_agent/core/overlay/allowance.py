"""How fast a group may grow: at most to twice its size in an interval, and by a few where it is small."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST = 32  # newcomers that are taken in an interval, however few are there


@dataclass(kw_only=True)
class Allowance:
    """Room for newcomers to a group, anew in each interval.

    A crowd of n that starts together is whole after about log₂(n/32) intervals; a crowd of invented peers comes in
    no faster, and the doubling says how much of what is there it can be after each interval.
    """

    interval_s: float
    first: int = FIRST
    _room: int = 0
    _since_s: float = -math.inf

    def room(self, now_s: float, group: int) -> int:
        """How many newcomers a group of so many may take now."""
        if now_s - self._since_s >= self.interval_s:
            self._since_s, self._room = now_s, max(self.first, group)
        return self._room

    def take(self, now_s: float, group: int) -> bool:
        """Whether there is room for one more, which is taken then."""
        if self.room(now_s, group) < 1:
            return False
        self._room -= 1
        return True
