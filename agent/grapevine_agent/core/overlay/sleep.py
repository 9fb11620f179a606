"""When this device is connected, and when it sleeps: minutes of each hour, by the clock on the wall.

    awake ── its window is over ──▶ asleep          "offline, until …" is said, then every connection ends
      ▲                               │
      │ a broker has it again         │ its window begins (and up to a tenth of it later, drawn each time)
      │                               ▼
      └────────────────────────── connecting

Windows begin at multiples of `every_s` since the epoch, so devices that have the same `every_s` meet. Each draws a
moment of its own within the first tenth, at most half a minute: all of them at once would be a crowd at the broker's
door. Training goes on meanwhile. After a start a device is awake for `online_s` first, whatever the clock says: its
owner wants to see it, and what it said before it was switched off may be long ago.

*Away* is a device from falling asleep until a broker has it again. What it does not hear then says nothing of anybody:
it suspects, asks and sends to nobody, and goes on where it stopped.

Clocks that are wrong. What was planned is held by the monotonic clock: no step makes a sleep longer than it was to be,
nor ends a window. A step forward ends a sleep whose end has passed by it; so does a machine that was suspended, whose
monotonic clock stood still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import MOST_ASLEEP_S, SleepPlan
from grapevine_proto.messages import PeerState

LATER_SHARE, LATER_S = 0.1, 30.0  # of a window, and in seconds: so much later than its beginning it wakes, at most


@dataclass(kw_only=True)
class Sleep:
    """See the module's docstring. `plan`: None for a device that does not sleep."""

    plan: SleepPlan | None
    rng: np.random.Generator
    is_asleep: bool = False  # no connection is wanted
    is_away: bool = False
    until_ms: int = 0  # while it is asleep
    _change_s: float = math.inf  # monotonic

    def start(self, now: Moment) -> None:
        """The process begins."""
        if self.plan is not None:
            self._change_s = now.monotonic_s + self.plan.online_s

    def tick(self, now: Moment) -> Literal["", "sleeps", "wakes"]:
        """Whether it falls asleep now, or wakes up."""
        if self.plan is None:
            return ""
        if self.is_asleep:
            if now.monotonic_s < self._change_s and now.wall_ms < self.until_ms:
                return ""
            self.is_asleep, self.until_ms = False, 0
            self._change_s = now.monotonic_s + (_left_s(self.plan, now.wall_ms) or self.plan.online_s)
            return "wakes"
        if now.monotonic_s < self._change_s:
            return ""
        if left_s := _left_s(self.plan, now.wall_ms):
            self._change_s = now.monotonic_s + left_s
            return ""
        return self._fall_asleep(self.plan, now)

    def _fall_asleep(self, plan: SleepPlan, now: Moment) -> Literal["", "sleeps"]:
        most_later_s = min(LATER_SHARE * plan.online_s, LATER_S)
        next_s = _next_s(plan, now.wall_ms)
        if next_s <= most_later_s:  # a window that the clock did not give ends just before one that it gives
            self._change_s = now.monotonic_s + next_s + plan.online_s
            return ""
        sleep_s = next_s + float(self.rng.uniform(0.0, most_later_s))
        self.is_asleep = self.is_away = True
        self.until_ms = now.wall_ms + math.ceil(sleep_s * 1000)
        self._change_s = now.monotonic_s + sleep_s
        return "sleeps"

    def connected(self) -> bool:
        """A broker has it. Whether that ends an absence."""
        was_away, self.is_away = self.is_away, False
        return was_away

    def deadline_s(self) -> float:
        """When `tick` has something to do next, as far as the monotonic clock knows."""
        return self._change_s


def _left_s(plan: SleepPlan, wall_ms: int) -> float:
    """Of the window that is open, in seconds; 0: none is."""
    return max(0.0, plan.online_s - wall_ms / 1000 % plan.every_s)


def _next_s(plan: SleepPlan, wall_ms: int) -> float:
    """Until the next window begins."""
    return plan.every_s - wall_ms / 1000 % plan.every_s


def asleep_for_s(state: PeerState, *, created_at_ms: int, wall_ms: int, is_fresh: bool) -> float:
    """For how long from now a peer sleeps that says this of itself, in seconds; 0: it does not.

    What is said just now is taken by its length, since nobody's clock need be right for that. What a broker retained
    was said at some time: it lasts as long as our clock says, and no longer than it was to last.
    """
    if state.online or not state.goodbye or not state.asleep_until_ms:
        return 0.0
    said_s = (state.asleep_until_ms - created_at_ms) / 1000
    left_s = said_s if is_fresh else min(said_s, (state.asleep_until_ms - wall_ms) / 1000)
    return min(max(0.0, left_s), MOST_ASLEEP_S)
