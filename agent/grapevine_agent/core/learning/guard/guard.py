"""Defence in depth, for each update, before it is merged: is this a model that one of the crowd could have?

    finite, of the right shape, no number above 10³⁰            `intake`        non-finite, wrong-shape, out-of-range
    its sender was turned away again and again                  `quarantine`    quarantined
    the same model as its sender's last one                     here            unchanged
    further from one's own than both their ages lead            here            out-of-reach
    further from the crowd's centre than `FAR` spreads          `crowd`         far-away
        (of less than 8 models more: of 5, 4 times as far)
    buffers: further than `VERY_FAR` spreads, and their length  here            far-away
    further than `NEAR` spreads                                 here            taken, with NEAR/distance of its share
        (of less than 8 models more, as above)
    more than `BEHIND` widths behind the crowd along a line     `crowd`         against-the-crowd
        (of n models 1 + 6/n times as many)
    its sender usually holds the crowd back                     `scores`        holds-back
    its sender's models do badly on our own samples             `shadow`        does-badly
    further from one's own model than 3 × the usual             `merge/clip`    moved nearer
    more of a merge than `max_share`                            `merge/voices`  bounded

What is judged is what a minority cannot move: medians over senders, each of whom counts once, by its newest model.
Where fewer than `LEAST` models are known there is no crowd, and of two there is no telling who lies; then reach, clips
and shares bound what one sender does. *Reach*: all models of a task began at the same one, and none goes further in an
optimiser step than ours does, by a factor of `REACH`. In the first rounds, where a lie would do most harm, that is not
far. A model that was poisoned then comes back, since its owner hears the crowd later, and refuses what had pulled it
away. Who steps far more shortly than others, or began with a model that others had trained, cannot say by its own
steps how far they have come. So what most senders do, `LEAST` at least, is nobody's lie (`suspects`): they are out of
our reach because it is short, and behind the crowd because the crowd has turned.

Nothing but the shadow asks what a model knows. A device that has four of ten classes cannot say of a model with the
other six that it is bad; it can say that nobody else is anywhere near. What passes there, therefore, is what pulls
gently: a model within the crowd that has learned wrong labels moves it as much as its share. Where members keep models
of their own (`personal`) there are crowds within the crowd, and the strategy weighs them itself: only what is very far
is refused.

Theory: medians over peers as in Yin et al. 2018; outliers found in a random sample of the coordinates as in
Shejwalkar and Houmansadr 2021 (DnC), by a median absolute deviation in place of their fixed number of outliers. Cost:
one gather of `SAMPLE` numbers and a few dot products for an update, and a median over senders once a round; 4·`SAMPLE`
bytes a sender.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import numpy as np

from grapevine_agent.core.learning.guard.crowd import LARGEST, Crowd, Sample, View, length
from grapevine_agent.core.learning.guard.quarantine import STRIKES, Quarantine
from grapevine_agent.core.learning.guard.scores import Scores
from grapevine_agent.core.learning.guard.suspects import Suspects
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector

LEAST: Final = 5  # models, one's own included, before there is a crowd
MANY: Final = 8  # below it how far apart they are is known badly
MORE: Final = 1.0  # as far again is believed for each one that is missing
FAR: Final = 5.0
VERY_FAR: Final = 20.0  # where members keep models of their own
NEAR: Final = 3.0
BEHIND: Final = 3.0
FEWER: Final = 6.0  # a width that was found of so many models may be half of what it should be

A_ROUND: Final = 0.5  # of the way that our own rounds go: members who agree are as far apart, at the least
LAST_ROUNDS: Final = 5  # of our own, of which the median counts

REACH: Final = 1.25

FAULTS: Final = frozenset({"non-finite", "out-of-range", "wrong-shape"})  # of an update, found before it comes here


@dataclass(frozen=True, kw_only=True)
class Turned:
    """A sender that is not listened to from now on: for so many rounds, and why."""

    sender: str
    rounds: int
    why: str


@dataclass(kw_only=True)
class Guard:
    """See the module's docstring. Of one task, whose models have `size` parameters and `num_buffers` buffers."""

    size: int
    num_buffers: int = 0
    rng: np.random.Generator  # secret: who knows what it draws can be where nobody looks
    personal: bool = False
    is_on: bool = True
    is_member: bool = True  # our own model is one of the crowd's; a server's is not, and may be an old one
    quarantine: Quarantine = field(default_factory=Quarantine)
    _scores: Scores = field(default_factory=Scores)
    _view: View | None = None
    _buffers_view: View | None = None
    _viewed: tuple[int, int] = (-1, 0)  # in which round, and how many senders were known
    _num_judged: int = 0  # updates, since then
    _speed: float = 0.0  # the longest way of a step of our own, in the sample; 0: we have not trained yet
    _ways: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_ROUNDS))  # of our own rounds, in the sample
    _out: Suspects = field(default_factory=Suspects)  # of reach
    _behind: Suspects = field(default_factory=Suspects)  # the crowd
    _turned: list[Turned] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._crowd = Crowd(size=self.size, rng=self.rng)
        self._buffers = Crowd(size=self.num_buffers, rng=self.rng)

    def turn(self, *, is_on: bool) -> None:
        """From now on updates are judged, or none is: then everybody is listened to."""
        self.is_on = is_on
        if not is_on:
            self.quarantine = Quarantine()

    def check(self, sender: str, round_: int) -> None:
        """Raise `WireError` for a sender that is not listened to. Costs nothing: ask before an update is decoded."""
        if self.is_on:
            self.quarantine.check(sender, round_)

    @contextmanager
    def finding_faults(self, sender: str, round_: int) -> Iterator[None]:
        """What is found inside of an update that no honest sender sends is held against its sender, and passed on."""
        try:
            yield
        except WireError as fault:
            if self.is_on and fault.reason in FAULTS:
                self._strike(sender, str(fault), round_)
            raise

    def trained(self, start: Vector, end: Vector, num_steps: int) -> None:
        """So far a model goes in so many optimiser steps: our own has just done it. Both float32 [p]."""
        if self.is_on and self.size and num_steps > 0:
            way = length(self._crowd.sample(end) - self._crowd.sample(start))
            self._speed = max(self._speed, way / num_steps)
            self._ways.append(way)

    def judge(
        self,
        sender: str,
        parameters: Vector,
        own: Vector,
        round_: int,
        *,
        steps: int | None = None,
        buffers: Vector | None = None,
    ) -> float:
        """How much of an update's share it is to have, in (0, 1]. Vectors float32 [p], [b]; `round_` is our own.

        `steps`: the optimiser steps that are between the two models at most, their ages together; None: nobody knows,
        or our own did not begin where the others' did, and how far we go in a step does not say how far they went.
        Raises `WireError` for an update that is not to be merged.
        """
        if not self.is_on or self.size == 0:
            return 1.0
        sample = self._crowd.sample(parameters)
        self._refuse_out_of_reach(sender, sample, own, steps)
        view, last = self._look(own, round_), self._crowd.last(sender)
        self._crowd.put(sender, sample)
        if buffers is not None and self.num_buffers:
            self._refuse_far_buffers(sender, buffers, round_)
        if view is None or view.num < LEAST:
            return 1.0
        is_crowd = not self.personal and view.num >= MANY and view.spread > 0
        if is_crowd and last is not None and np.array_equal(last, sample):
            raise WireError("unchanged", f"an update of {sender} holds the same model as its last one")
        distance = view.distance(sample)
        wider = 1 + MORE * max(0, MANY - view.num)
        far = (VERY_FAR if self.personal else FAR) * wider
        if distance > far:
            said = f"{distance:.3g} times as far from the crowd as usual; {far:g} is too far"
            self._refuse("far-away", f"an update of {sender} is {said}", sender, round_)
        if is_crowd:
            self._follow(sender, sample, view, round_)
        self.quarantine.taken(sender)
        return 1.0 if self.personal else min(1.0, NEAR * wider / distance) if distance > 0 else 1.0

    def take_turned(self) -> list[Turned]:
        """Who was put into quarantine since this was last asked."""
        turned, self._turned = self._turned, []
        return turned

    def _refuse_out_of_reach(self, sender: str, sample: Sample, own: Vector, steps: int | None) -> None:
        """Refuse what no training leads to: all models of a task began at the same one."""
        if steps is None or not self._speed:
            return
        way, most = length(sample - self._crowd.sample(own)), REACH * self._speed * steps
        self._out.note(sender, failed=way > most)
        if way > most and not self._out.are_most(self._crowd.senders(), least=LEAST):
            times = f"{way / most:.3g} times as far from ours as {REACH:g} × {steps} optimiser steps like our own lead"
            raise WireError("out-of-reach", f"an update of {sender} is {times}")

    def _refuse_far_buffers(self, sender: str, buffers: Vector, round_: int) -> None:
        """Refuse what is no other's running mean or variance: these follow the data, and differ as that does."""
        largest = np.minimum(np.abs(buffers).max(), LARGEST)  # one number in thousands can be as bad as all
        sample = np.append(self._buffers.sample(buffers), np.float32(largest))
        if self._num_judged == 1 or len(self._buffers) < 2 * LEAST:  # the crowd has just been looked at
            self._buffers_view = self._buffers.look(None, moved=False)
        view = self._buffers_view
        self._buffers.put(sender, sample)
        if view is not None and view.num >= LEAST - 1:
            most = max(VERY_FAR * view.spread, length(view.centre))
            if 0 < most < (far := length(sample - view.centre)):
                said = f"{far:.3g} away from the middle of the crowd's; {most:.3g} is too far"
                self._refuse("far-away", f"the buffers of {sender} are {said}", sender, round_)

    def _follow(self, sender: str, sample: Sample, view: View, round_: int) -> None:
        """Refuse what is behind the crowd, or comes of one who usually is."""
        widths = [line.of(sample) for line in (view.movement, view.outwards) if line is not None]
        holds_back = view.movement is not None and self._scores.note(sender, widths[0])
        most = BEHIND * (1 + FEWER / view.num)
        is_behind = min(widths, default=0.0) < -most
        self._behind.note(sender, failed=is_behind)
        if is_behind and not self._behind.are_most(self._crowd.senders(), least=LEAST):
            said = f"{-min(widths):.3g} widths behind the crowd; {most:.3g} is too far"
            self._refuse("against-the-crowd", f"an update of {sender} is {said}", sender, round_)
        if holds_back:
            self._refuse("holds-back", f"updates of {sender} are behind those of nearly all others", sender, round_)

    def _look(self, own: Vector, round_: int) -> View | None:
        """The crowd, once a round; while there are few, whenever there is one more; and once each has spoken again.

        A server's rounds are as long as nothing is published, and its members may have moved all together since. Not
        before each has: whoever always speaks just after it looks would seem to be behind the others.
        """
        num = len(self._crowd)
        is_over = self._viewed[0] != round_ or self._num_judged >= max(num, LEAST)
        if self._view is None or is_over or (num != self._viewed[1] and num < 2 * LEAST):
            sample = self._crowd.sample(own) if self.is_member else None
            self._view = self._crowd.look(
                sample, moved=is_over, least=A_ROUND * median(self._ways) if self._ways else 0.0
            )
            self._viewed, self._num_judged = (round_, num), 0 if is_over else self._num_judged
        self._num_judged += 1
        return self._view

    def _refuse(self, reason: str, said: str, sender: str, round_: int) -> None:
        if len(self._crowd) >= LEAST:  # of a few, most may be hostile by chance
            self._strike(sender, said, round_)
        raise WireError(reason, said)

    def turn_away(self, sender: str, why: str, round_: int) -> None:
        """What its models have learned is bad (`shadow`): it is not listened to for a while."""
        if self.is_on:
            self._strike(sender, why, round_, num=STRIKES)

    def _strike(self, sender: str, why: str, round_: int, *, num: int = 1) -> None:
        rounds = self.quarantine.refused(sender, why, round_, num=num)
        if rounds:
            self._crowd.drop(sender)
            self._buffers.drop(sender)
            self._turned.append(Turned(sender=sender, rounds=rounds, why=why))
