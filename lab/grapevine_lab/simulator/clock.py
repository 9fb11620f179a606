"""Virtual time: what happens next, and when.

Events are plain facts, not functions, so that a clock can be kept in a checkpoint. Two events at the
same moment happen in the order in which they were put down, whatever they are.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from grapevine_agent.core.moment import Moment

EPOCH_MS = 1_750_000_000_000  # the wall clock at virtual time 0

Event = TypeVar("Event")


@dataclass
class VirtualClock(Generic[Event]):
    """A queue of events in the order of their times, in seconds since the run began."""

    now_s: float = 0.0
    _queue: list[tuple[float, int, Event]] = field(default_factory=list)
    _count: int = 0

    def at(self, time_s: float, event: Event) -> None:
        """Let `event` happen at `time_s`, or now if that has passed."""
        self._count += 1
        heapq.heappush(self._queue, (max(time_s, self.now_s), self._count, event))

    def next_s(self) -> float:
        """When the next event happens; infinite if there is none."""
        return self._queue[0][0] if self._queue else math.inf

    def take(self) -> Event:
        """Move to the next event, and take it. Raises IndexError if there is none."""
        self.now_s, _, event = heapq.heappop(self._queue)
        return event

    def moment(self) -> Moment:
        """Now, as the core wants it, by a clock that is right."""
        return Moment(monotonic_s=self.now_s, wall_ms=EPOCH_MS + int(self.now_s * 1000))


@dataclass
class WallClock:
    """How wrong one device's wall clock is. Its monotonic clock is right, as the kernel's is."""

    ahead_s: float = 0.0  # of the right time, at `since_s`
    ppm: float = 0.0  # that it goes too fast
    since_s: float = 0.0

    def set(self, now_s: float, *, ahead_s: float | None = None, ppm: float | None = None) -> None:
        """Set it, or change how fast it goes."""
        self.ahead_s = self.wrong_by_s(now_s) if ahead_s is None else ahead_s
        self.ppm = self.ppm if ppm is None else ppm
        self.since_s = now_s

    def wrong_by_s(self, now_s: float) -> float:
        """How far it is ahead of the right time; behind it if that is negative."""
        return self.ahead_s + self.ppm * 1e-6 * (now_s - self.since_s)

    def moment(self, right: Moment) -> Moment:
        """What this device takes for now."""
        if not self.ahead_s and not self.ppm:
            return right
        wrong_ms = int(1000 * self.wrong_by_s(right.monotonic_s))
        return Moment(monotonic_s=right.monotonic_s, wall_ms=right.wall_ms + wrong_ms)
