"""How fast a group may grow: at most to twice its size in an interval, and by a few where it is small."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FIRST = 32  # newcomers that are taken at once, and in an interval, however few are there


@dataclass(kw_only=True)
class Allowance:
    """Room for newcomers to a group, which fills up within `interval_s`.

    A crowd that starts together is whole after log₂(n/32) intervals; a crowd of invented peers comes in
    no faster, and the doubling says how much of what is there it can be after each interval.
    """

    interval_s: float
    _room: float = field(default=float(FIRST))
    _updated_s: float = -math.inf

    def room(self, now_s: float, group: int) -> float:
        """How many newcomers a group of so many may take now."""
        most = float(max(FIRST, group))
        if now_s > self._updated_s:
            elapsed_s = now_s - self._updated_s
            self._room = min(most, self._room + most * min(1.0, elapsed_s / self.interval_s))
            self._updated_s = now_s
        return self._room

    def take(self, now_s: float, group: int) -> bool:
        """Whether there is room for one more, which is taken then."""
        if self.room(now_s, group) < 1.0:
            return False
        self._room -= 1.0
        return True
