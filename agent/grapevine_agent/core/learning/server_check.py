"""Whether a server's model is one that the task's members can have made.

A server is authorised, and may be broken or hostile all the same. Its voice counts as many as it has contributors, so
its model is looked at before it is believed. It is a mean of members' models: a member that hears some of them knows
how far it should be from its own model, and from theirs: no further than they are from it, and from each other.
Measured on the digits (20 members with 2 or 4 of 10 classes each, 6 with 4; the server lost and back; two seeds each):
from its own at most 1.4 × the median distance of recent updates, and once 2.02 × among five members beside a hostile
server, where a model with its sign flipped, or of random numbers, is 4.6 to 87 times as far away; from theirs at most
1.6 × (6 members). The first is exact. The second, of a sample of 1,024 coordinates, finds a server that has drawn this
member to itself before it was found out.

Members that train slowly, and gossip often, agree with each other between their rounds, and a server's model is of
before: so they count as far apart as a round of training leads, at the least.

What is not recent does not count: who was away, or was suspended, is far from everybody. Where too few updates were
heard lately there is no telling. A server that has a voice keeps it then. One that has none waits, for some rounds at
most: had a hostile one been taken first, it would be near from then on, and everybody else far. Who hears nobody in
that time has nothing to hold it against, and believes it; much later where the server was refused before, or another
one has a voice: beside a good server little is heard of members, and that must not be a hostile one's chance. One that
is about as far away as the other server's model need not wait. A model that is near, and pushes slowly, is not found
here.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.core.learning.guard.guard import LAST_ROUNDS
from grapevine_agent.core.moment import Moment
from grapevine_agent.merge.geometry import squared_distance
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector
from grapevine_proto.sessions import is_ahead

FAR: Final = 2.5  # × the median distance of members' updates from our own model
FAR_FROM_MEMBERS: Final = 2.5  # × the median distance of theirs from each other
OF_SUMS: Final = 3.0  # × both: a sum of members' changes (`fedbuff`) is where no mean of models is
MIN_HEARD: Final = 3  # updates, or senders, below which there is no median to speak of
MAX_HEARD: Final = 16
SKETCH: Final = 1_024  # coordinates
RECENT_ROUNDS: Final = 30.0  # of a distance from our own model, which has moved as all have
FRESH_ROUNDS: Final = 10.0  # of where a member's model is: an honest server is 2.5 × as far from one of 25 rounds ago
WAIT_ROUNDS: Final = 10.0  # for updates to hold a first model against
DOUBTED: Final = 30.0  # × as long: while servers serve members hear little of each other


@dataclass(kw_only=True)
class ServerCheck:
    """See the module's docstring. `is_on`: the task has updates held against how far they usually are."""

    rng: np.random.Generator
    round_interval_s: float
    is_on: bool = True
    is_mean: bool = True  # what the task's servers publish: a mean of models, no sum of changes
    _heard: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_HEARD))  # when, how far away
    _sketches: OrderedDict[str, tuple[float, Vector]] = field(default_factory=OrderedDict)  # sender → when, what
    _coordinates: NDArray[np.int64] | None = None  # that are looked at: nobody else knows them
    _ways: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LAST_ROUNDS))  # see `trained`
    _last_usual: float = 0.0  # how far updates were, when enough were heard for the last time
    _offered_s: dict[str, float] = field(default_factory=dict)  # server → since when its first model waits

    def note(self, sender: str, model: Vector, distance: float, now: Moment) -> None:
        """An update came from a member: this model, float32 [p], so far from our own."""
        if not self.is_on or distance <= 0:
            return
        self._heard.append((_time_s(now), distance))
        self._sketches[sender] = (_time_s(now), self._sketch(model))
        self._sketches.move_to_end(sender)
        if len(self._sketches) > MAX_HEARD:
            self._sketches.popitem(last=False)

    def trained(self, start: Vector, end: Vector) -> None:
        """Our own model went so far in a round of training, which lies in our own hands. Both float32 [p]."""
        if self.is_on:
            sketched = float(np.linalg.norm(self._sketch(end) - self._sketch(start)))
            self._ways.append((math.sqrt(squared_distance(start, end)), sketched))

    def forget(self) -> None:
        """Our own model is another one than it was, and may be far from everybody's."""
        self._heard.clear()
        self._last_usual = 0.0

    def believes(
        self,
        server: str,
        own: Vector,
        model: Vector,
        now: Moment,
        *,
        has_voice: bool,
        was_refused: bool = False,
        others: Sequence[Vector] = (),
    ) -> bool:
        """Whether to take a server's model, or to wait until it can be judged. All vectors float32 [p].

        `others` are the models of other servers that have a voice.
        Raises `WireError("server-far-away")` for one that no mean of members' models can be.
        """
        if not self.is_on:
            return True
        usual = self._usual(now)
        self._last_usual = usual or self._last_usual
        if usual is None:
            since_s = self._offered_s.setdefault(server, _time_s(now))
            wait_rounds = WAIT_ROUNDS * (DOUBTED if was_refused or others else 1.0)
            if has_voice or _time_s(now) - since_s >= wait_rounds * self.round_interval_s:
                return True
            distance = squared_distance(own, model)
            if others:
                return any(distance <= FAR**2 * squared_distance(own, other) for other in others)
            return distance <= self._last_usual**2
        self._offered_s.pop(server, None)
        more = 1.0 if self.is_mean else OF_SUMS
        _refuse_far(server, math.sqrt(squared_distance(own, model)) / usual, more * FAR, "ours")
        _refuse_far(server, self._times_as_far_from_members(model, now), more * FAR_FROM_MEMBERS, "each other")
        return True

    def _usual(self, now: Moment) -> float | None:
        """The median distance of recent updates; None where there were too few."""
        recent = [distance for at_s, distance in self._heard if self._is_recent(at_s, now)]
        return max(median(recent), self._usual_way(0)) if len(recent) >= MIN_HEARD else None

    def _usual_way(self, which: int) -> float:
        """How far our own rounds of training go, lately: 0 whole, 1 in the sketch."""
        return median(ways[which] for ways in self._ways) if self._ways else 0.0

    def _times_as_far_from_members(self, model: Vector, now: Moment) -> float:
        """The median distance of a model from members' recent ones, in medians of theirs; 0: they are too few."""
        recent = [sketch for at_s, sketch in self._sketches.values() if self._is_recent(at_s, now, FRESH_ROUNDS)]
        if len(recent) < MIN_HEARD:
            return 0.0
        members = np.stack(recent).astype(np.float64)
        apart = [float(np.linalg.norm(one - other)) for one, other in itertools.combinations(members, 2)]
        usual = max(median(apart), self._usual_way(1))
        return median(np.linalg.norm(members - self._sketch(model), axis=1).tolist()) / usual if usual > 0 else 0.0

    def _sketch(self, model: Vector) -> Vector:
        if self._coordinates is None:
            self._coordinates = self.rng.choice(model.size, min(SKETCH, model.size), replace=False)
        return model[self._coordinates]

    def _is_recent(self, at_s: float, now: Moment, rounds: float = RECENT_ROUNDS) -> bool:
        return at_s >= _time_s(now) - rounds * self.round_interval_s


def _refuse_far(server: str, times: float, most: float, whom: str) -> None:
    if times > most:
        far = f"{times:.3g} times as far away as members' models are from {whom}"
        raise WireError("server-far-away", f"the model of server {server} is {far}; at most {most:g} times is believed")


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
