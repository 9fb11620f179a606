"""What is known of one other peer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from grapevine_proto.messages import Figure, PeerAnnouncement, TaskProgress

KEPT_TRIPS = 4


@dataclass
class Peer:
    """See `members`. Times are monotonic seconds of receipt."""

    id: str
    announcement: PeerAnnouncement = field(default_factory=PeerAnnouncement)
    is_announced: bool = False  # that is its own, and not what its messages let us guess
    is_member: bool = False
    is_silent: bool = False  # it was listened to, and not heard
    online: bool = False
    is_out_of_sight: bool = False  # it is not online because a broker of ours is lost: until it is heard by another
    session: int = 0
    life: int = 0  # the session since which it has what it got: sleep ends a session, and no life
    has_slept: bool = False  # it is awake, and its next session goes on with this life
    last_heard_s: float = -math.inf
    sampled_until_s: float = -math.inf  # its heartbeats were listened to until then, unless they are now
    last_beat_s: float = -math.inf  # a heartbeat, of all that is heard
    incarnation: int = 0  # of its present session, as it says; 0: it does not say that it answers probes
    quiet_s: float = 0.0  # its heartbeats may be so much later than they are due, as it says
    num_relayed: int = 0  # answers to probes that others brought since it was heard itself
    trips_s: tuple[float, ...] = ()  # the last few probes and their answers took so long
    asked_s: float = -math.inf  # when it was last probed to learn that
    updated_s: dict[str, float] = field(default_factory=dict)  # task → when an update of it was used last
    versions: dict[str, int] = field(default_factory=dict)  # task → own updates so far, as it says in this session
    ages: dict[str, int] = field(default_factory=dict)  # task → optimiser steps in its model
    bests: dict[str, Figure] = field(default_factory=dict)  # task → how the best of its models has done

    def begin_session(self, session: int) -> None:
        """It has a newer session, and may have lost what it had: how far it is, it says again."""
        self.life = self.life if self.has_slept else session
        self.session, self.versions, self.has_slept = session, {}, False
        self.incarnation, self.quiet_s = 0, 0.0
        self.trips_s = ()  # it may be somewhere else

    def hear_trip(self, took_s: float) -> None:
        """A probe and its answer took so long."""
        self.trips_s = (*self.trips_s, took_s)[-KEPT_TRIPS:]

    @property
    def trip_s(self) -> float | None:
        """How long a message to it and an answer take; None: not measured."""
        return min(self.trips_s, default=None)

    def hear_incarnation(self, session: int, incarnation: int) -> bool:
        """Which incarnation it is in, by its own account. Whether that is of its present session."""
        if session != self.session:
            return False
        self.incarnation = max(self.incarnation, incarnation)
        return True

    def hear_progress(self, said: Sequence[TaskProgress]) -> None:
        """How far it is with its tasks, by its own account."""
        self.versions = {each.task: each.version for each in said}
        self.ages = {each.task: each.age for each in said}
        self.bests = {each.task: each.best for each in said if each.best is not None}

    @property
    def is_counted(self) -> bool:
        """Whether it is a member that may be alive."""
        return self.is_member and self.online and not self.is_silent
