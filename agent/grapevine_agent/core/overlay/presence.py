"""What this agent says of itself: that it is there, who it is, and how far it has come.

    a connection ─▶ state "online", announcement; then a heartbeat every `heartbeat_s`, and the
                    announcement again when what it says has changed
    goodbye      ─▶ state "offline"

A will of an earlier session that a broker publishes late is contradicted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from grapevine_agent.core.effects import Effect, Publish
from grapevine_agent.core.moment import Moment
from grapevine_proto import messages as m
from grapevine_proto.topics import PeerTopic

ANNOUNCE_FOR_MS = 7 * 24 * 3600 * 1000  # an announcement is good for a week, and repeated at each connect
KEPT_SESSIONS = 4


@dataclass(kw_only=True)
class Presence:
    """See the module's docstring."""

    peer: str  # ourselves
    heartbeat_s: float
    _sessions: list[int] = field(default_factory=list)  # of our connections, the newest last; none: not there
    _announced: m.PeerAnnouncement | None = None
    _heartbeat_at_s: float = 0.0

    def connected(self, session: int, now: Moment) -> list[Effect]:
        """A broker took us in, under this session."""
        self._sessions = [*self._sessions, session][-KEPT_SESSIONS:]
        self._heartbeat_at_s = now.monotonic_s
        self._announced = None
        return [self._state(online=True)]

    def goodbye(self) -> list[Effect]:
        """We leave, and say so."""
        self._sessions.clear()  # the echo of our goodbye is not to be contradicted
        return [self._state(online=False)]

    def echoed(self, body: m.Body) -> list[Effect]:
        """Our own presence came back from a broker."""
        is_wrong = isinstance(body, m.PeerState) and not body.online and bool(self._sessions)
        return [self._state(online=True)] if is_wrong else []

    def has_session(self, session: int) -> bool:
        """Whether a message is to one of our last sessions: others are recordings."""
        return session in self._sessions

    def announce(self, announcement: m.PeerAnnouncement, now: Moment) -> list[Effect]:
        """Say who we are, if that is news to the broker."""
        if announcement == self._announced or not self._sessions:
            return []
        self._announced = announcement
        topic = PeerTopic(self.peer, "announcement")
        return [Publish(topic=topic, body=announcement, retain=True, expires_at_ms=now.wall_ms + ANNOUNCE_FOR_MS)]

    def is_due(self, now_s: float) -> bool:
        """Whether it is time for a heartbeat."""
        return bool(self._sessions) and now_s >= self._heartbeat_at_s

    def beat(self, progress: tuple[m.TaskProgress, ...], now_s: float) -> Effect:
        """Our heartbeat, with how far we are."""
        self._heartbeat_at_s = now_s + self.heartbeat_s
        return Publish(topic=PeerTopic(self.peer, "heartbeat"), body=m.Heartbeat(progress=progress), qos=0)

    def deadline_s(self) -> float:
        """When the next heartbeat is due, monotonic."""
        return self._heartbeat_at_s if self._sessions else math.inf

    def _state(self, *, online: bool) -> Effect:
        return Publish(topic=PeerTopic(self.peer, "state"), body=m.PeerState(online=online), retain=True)
