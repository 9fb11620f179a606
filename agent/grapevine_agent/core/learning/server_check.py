"""Whether a server's model is one that the task's members can have made.

A server is authorised, and may be broken or hostile all the same. Its voice counts as many as it has contributors, so
its model is looked at before it is believed. It is a mean of members' models: a member that hears some of them knows
how far from its own it should be, which is no further than they are. Measured on the digits (20 members with 2 or 4 of
10 classes each, 6 with 4; the server lost and back; two seeds each): at most 1.4 × the median distance of recent
updates, where a model with its sign flipped, or of random numbers, is 4.6 to 87 times as far away.

What is not recent does not count: who was away, or was suspended, is far from everybody. Where too few updates were
heard lately there is no telling, and the server is believed: a member that hears nobody else has nothing to hold it
against. A model that is near, and pushes slowly, is not found here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from grapevine_agent.core.moment import Moment
from grapevine_agent.merge.geometry import squared_distance
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector
from grapevine_proto.sessions import is_ahead

FAR: Final = 2.5  # × the median distance of recent updates
MIN_HEARD: Final = 3  # below it there is no median to speak of
MAX_HEARD: Final = 16
RECENT_ROUNDS: Final = 30.0


@dataclass(kw_only=True)
class ServerCheck:
    """See the module's docstring. `is_on`: the task has updates held against how far they usually are."""

    round_interval_s: float
    is_on: bool = True
    _heard: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_HEARD))  # when, how far away

    def note(self, distance: float, now: Moment) -> None:
        """An update came from a member, so far from our own model."""
        if distance > 0:
            self._heard.append((_time_s(now), distance))

    def forget(self) -> None:
        """Our own model is another one than it was, and may be far from everybody's."""
        self._heard.clear()

    def check(self, server: str, own: Vector, model: Vector, now: Moment) -> None:
        """Raise `WireError("far-away")` for a model that no mean of members' models can be. Both float32 [p]."""
        usual = self._usual(now)
        if not self.is_on or usual is None:
            return
        distance = math.sqrt(squared_distance(own, model))
        if distance > FAR * usual:
            times = f"{distance / usual:.3g} times as far from ours as updates of members are"
            raise WireError("far-away", f"the model of server {server} is {times}; at most {FAR:g} times is believed")

    def _usual(self, now: Moment) -> float | None:
        """The median distance of recent updates; None where there were too few."""
        since_s = _time_s(now) - RECENT_ROUNDS * self.round_interval_s
        recent = [distance for at_s, distance in self._heard if at_s >= since_s]
        return median(recent) if len(recent) >= MIN_HEARD else None


def check_date(server: str, dated_ms: int, made_ms: int, wall_ms: int) -> None:
    """Raise `WireError("from-the-future")` for a server's word that is dated more than a day ahead (unix milliseconds).

    Unless our own clock is before `made_ms`, when the task was made: then it is ours that is wrong.
    """
    if wall_ms >= made_ms and is_ahead(dated_ms, wall_ms):
        hours = (dated_ms - wall_ms) / 3_600_000
        raise WireError("from-the-future", f"an advert of server {server}, dated {hours:.0f} hours ahead")


def _time_s(now: Moment) -> float:
    """Runs on while the device is suspended: what it heard before is not recent after it."""
    return now.monotonic_s + now.suspended_s
