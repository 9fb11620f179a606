"""Invented peers: keys are free, and whoever has them may say anything in their names."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tests.swarm.world import World

from grapevine_proto import messages as m
from grapevine_proto.codec import seal
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, PeerTopic, Topic

TURNS = 20  # in which invented heartbeats come


@dataclass
class Flood:
    """`num_peers` invented peers that say they are members of `task`, evenly over `for_s`."""

    world: World
    task: str
    num_peers: int = 7_000
    for_s: float = 12.0
    heartbeat_s: float = 0.0  # 0: they never beat
    has_wills: bool = False  # each goes offline, and comes back in a new session
    keys: list[SigningKey] = field(default_factory=list)
    _come_so_far: int = 0
    _sequence: int = 0

    def begin(self) -> None:
        rng = np.random.default_rng(99)
        self.keys = [SigningKey(rng.bytes(32)) for _ in range(self.num_peers)]
        start_s = self.world.now_s
        for k, key in enumerate(self.keys):
            self.world.at(start_s + k * self.for_s / self.num_peers, lambda key=key: self._come(key))  # type: ignore[misc]
        if self.heartbeat_s:
            self.world.at(start_s, lambda: self._beat(0))

    @property
    def peers(self) -> set[str]:
        return {key.peer_id for key in self.keys}

    def _come(self, key: SigningKey) -> None:
        now_ms = self.world.moment().wall_ms
        self.say(key, PeerTopic(key.peer_id, "announcement"), m.PeerAnnouncement(tasks=(self.task,)), retain=True)
        self.say(key, PeerTopic(key.peer_id, "state"), m.PeerState(online=True), session=now_ms, retain=True)
        if self.has_wills:
            self.world.at(self.world.now_s + 1.0, lambda: self._die(key, now_ms))
        self._come_so_far += 1

    def _die(self, key: SigningKey, session: int) -> None:
        topic = PeerTopic(key.peer_id, "state")
        self.say(key, topic, m.PeerState(online=False), session=session, retain=True)
        self.say(key, topic, m.PeerState(online=True), session=session + 1, retain=True)

    def _beat(self, turn: int) -> None:
        """Every so often one of `TURNS` parts of those who have come. What nobody listens to is left out."""
        for key in self.keys[turn : self._come_so_far : TURNS]:
            topic = PeerTopic(key.peer_id, "heartbeat")
            if self.world.listens(topic.below_root()):
                self.say(key, topic, m.Heartbeat(progress=(m.TaskProgress(task=self.task, version=1, age=1),)))
        self.world.at(self.world.now_s + self.heartbeat_s / TURNS, lambda: self._beat((turn + 1) % TURNS))

    def say(
        self,
        key: SigningKey,
        topic: Topic,
        body: m.Body,
        *,
        session: int = 1,
        retain: bool = False,
        receiver_session: int = 0,
    ) -> None:
        self._sequence += 1
        message = m.Message(
            sender=key.peer_id,
            session=session,
            sequence=self._sequence,
            body=body,
            created_at_ms=self.world.moment().wall_ms,
            receiver_session=receiver_session,
        )
        self.world.say(topic.below_root(), seal(message, topic, key), retain=retain)

    def num_letters(self) -> tuple[int, int]:
        """How many letters there are in inboxes of invented peers, and in all."""
        invented = self.peers
        void = sum(num for (receiver, _), num in self.world.letters.items() if receiver in invented)
        return void, sum(self.world.letters.values())


def to(receiver: str, key: SigningKey) -> InboxTopic:
    return InboxTopic(receiver, key.peer_id)
