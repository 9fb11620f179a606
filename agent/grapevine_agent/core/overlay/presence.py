"""What this agent says of itself: that it is there, who it is, and how far it has come.

    a connection ─▶ state "online", announcement; then a heartbeat every `heartbeat_s`, and the
                    announcement again when what it says has changed
    sleep        ─▶ state "offline", and until when; nothing more until a broker has us again (`sleep`)
    goodbye      ─▶ state "offline"

Both records are said again where they would be lost otherwise. An announcement is good for a week, so a peer that stays
connected repeats it at a quarter of its life: whoever comes later finds one that is fresh. It is repeated when the
clock was set, since its end was counted by the wrong one, and whichever of the two was erased from a broker is said
again, with pauses that grow (`pauses`). A will of an earlier session that a broker publishes late is contradicted.

A heartbeat also says in which *incarnation* we are: it grows when we hear that we are suspected in it (`suspicion`).
And it says how late the heartbeats of this agent have come lately, where something kept it from sending them (a step on
its only core, a machine that slept): `quiet_s` falls by a tenth with each that is in time. So others wait for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from grapevine_agent.core.effects import Effect, Publish
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.pauses import Pause, next_pause
from grapevine_proto import messages as m
from grapevine_proto.topics import PeerTopic

ANNOUNCE_FOR_MS = 7 * 24 * 3600 * 1000
REPEAT_AFTER_S = ANNOUNCE_FOR_MS / 4 / 1000
KEPT_SESSIONS = 4
MOST_QUIET_HEARTBEATS = 10.0  # nobody waits longer (`suspicion`)
LATE_HEARTBEATS = 0.25  # less is not worth saying
IN_TIME = 0.9  # of what was late, after a heartbeat that was not


@dataclass(kw_only=True)
class Presence:
    """See the module's docstring."""

    peer: str  # ourselves
    heartbeat_s: float
    incarnation: int = 1
    _is_asleep: bool = False
    _late_s: float = 0.0  # our heartbeats, lately
    _sessions: list[int] = field(default_factory=list)  # of our connections, the newest last; none: not there
    _connection: int = 0  # of this session, the newest whose will we have contradicted
    _announced: m.PeerAnnouncement | None = None
    _heartbeat_at_s: float = 0.0
    _announce_at_s: float = math.inf  # again, though nothing has changed
    _state_at_s: float = math.inf  # the same of our state
    _pauses: dict[str, Pause] = field(default_factory=dict)  # by what was erased: "announcement" or "state"
    _erased: set[str] = field(default_factory=set)  # and not said since

    def connected(self, session: int, now: Moment) -> list[Effect]:
        """A broker took us in, under this session."""
        if session not in self._sessions:
            self._connection = 0
            self._sessions = [*self._sessions, session][-KEPT_SESSIONS:]
        self._is_asleep = False
        self._heartbeat_at_s = now.monotonic_s
        self._announced = None
        self._pauses.clear()
        self._erased.clear()
        return [self._state(online=True)]

    def fall_asleep(self, until_ms: int) -> list[Effect]:
        """We leave for a while, and say for how long. What is said to this session is still to us when we are back."""
        self._is_asleep = True
        return [self._state(online=False, asleep_until_ms=until_ms)]

    def goodbye(self) -> list[Effect]:
        """We leave, and say so."""
        self._sessions.clear()  # the echo of our goodbye is not to be contradicted
        return [self._state(online=False)]

    def suspected(self, incarnation: int) -> None:
        """Somebody suspects us in an incarnation: if it is the present one, it is over, and that contradicts them."""
        if incarnation == self.incarnation:
            self.incarnation += 1

    def echoed(self, body: m.Body, session: int, hops: int = 0, now_s: float = 0.0) -> list[Effect]:
        """Our own presence, of one of our sessions, came back from a broker."""
        if not isinstance(body, m.PeerState) or not self._is_there:
            return []
        if body.online:
            if hops:  # somebody says of us that we are elsewhere
                self.erased("state", now_s)
            return []
        # Brokers that are bridged share one topic, and the will of our newest connection is heard at all of them.
        if session == self._sessions[-1]:
            self._connection = max(self._connection, body.connection + 1)
        return [self._state(online=True)]

    def erased(self, leaf: str, now_s: float) -> None:
        """Somebody erased our announcement or our state from a broker."""
        pause = self._pauses.get(leaf)
        at_s = now_s if pause is None else max(now_s, pause.over_s)
        if leaf == "announcement":
            self._announce_at_s = min(self._announce_at_s, at_s)
        elif leaf == "state":
            self._state_at_s = min(self._state_at_s, at_s)
        else:
            return
        self._erased.add(leaf)

    def repeat(self, now_s: float) -> None:
        """Who came since we announced ourselves has not heard it: the broker keeps nothing for it."""
        self._announce_at_s = min(self._announce_at_s, now_s)

    def clock_was_set(self, now_s: float) -> None:
        """What we said will end by a clock that was wrong: it is said again."""
        self._announce_at_s = now_s

    def has_session(self, session: int) -> bool:
        """Whether a message is to one of our last sessions: others are recordings."""
        return session in self._sessions

    def announce(self, announcement: m.PeerAnnouncement, now: Moment) -> list[Effect]:
        """Say who we are, if that is news to the broker, or soon to be forgotten."""
        is_same = announcement is self._announced or announcement == self._announced
        is_known = is_same and now.monotonic_s < self._announce_at_s
        if is_known or not self._is_there:
            return []
        self._announced, self._announce_at_s = announcement, now.monotonic_s + REPEAT_AFTER_S
        self._is_said("announcement", now.monotonic_s)
        topic = PeerTopic(self.peer, "announcement")
        return [Publish(topic=topic, body=announcement, retain=True, expires_at_ms=now.wall_ms + ANNOUNCE_FOR_MS)]

    def tick(self, progress: tuple[m.TaskProgress, ...], now_s: float) -> list[Effect]:
        """Our heartbeat, with how far we are, and our state, where they are due."""
        if not self._is_there:
            return []
        effects: list[Effect] = []
        if now_s >= self._state_at_s:
            effects.append(self._state(online=True))
            self._is_said("state", now_s)
        if now_s >= self._heartbeat_at_s:
            self._late_s = max(now_s - self._heartbeat_at_s, IN_TIME * self._late_s)
            self._heartbeat_at_s = now_s + self.heartbeat_s
            heartbeat = m.Heartbeat(progress=progress, incarnation=self.incarnation, quiet_s=self._quiet_s())
            effects.append(Publish(topic=PeerTopic(self.peer, "heartbeat"), body=heartbeat, qos=0))
        return effects

    def deadline_s(self) -> float:
        """When something is due next, monotonic."""
        return min(self._heartbeat_at_s, self._announce_at_s, self._state_at_s) if self._is_there else math.inf

    @property
    def _is_there(self) -> bool:
        """Whether a broker took us in, and we have not left."""
        return bool(self._sessions) and not self._is_asleep

    def _quiet_s(self) -> float:
        if self._late_s < LATE_HEARTBEATS * self.heartbeat_s:
            return 0.0
        return min(self._late_s, MOST_QUIET_HEARTBEATS * self.heartbeat_s)

    def _is_said(self, leaf: str, now_s: float) -> None:
        if leaf in self._erased:
            self._erased.discard(leaf)
            self._pauses[leaf] = next_pause(self._pauses.get(leaf), now_s)

    def _state(self, *, online: bool, asleep_until_ms: int = 0) -> Effect:
        """Of at least this connection; of which one the shell says, at each broker."""
        self._state_at_s = math.inf
        said = m.PeerState(
            online=online, connection=self._connection, goodbye=not online, asleep_until_ms=asleep_until_ms
        )
        return Publish(topic=PeerTopic(self.peer, "state"), body=said, retain=True)
