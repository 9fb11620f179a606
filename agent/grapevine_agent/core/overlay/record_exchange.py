"""Both sides of records that go from peer to peer: what we lack (`catching_up`), what others lack (`record_giver`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from grapevine_agent.core.effects import Effect
from grapevine_agent.core.overlay.answers import AnswerQuota
from grapevine_agent.core.overlay.catching_up import CatchingUp
from grapevine_agent.core.overlay.record_giver import RecordGiver, sequences_of
from grapevine_proto import messages as m
from grapevine_proto.codec import Received
from grapevine_proto.records import RecordBook
from grapevine_proto.short_names import digest_of
from grapevine_proto.topics import is_lasting

DIGEST_FOR_S: Final = 5.0  # a digest holds, though records of it may have run out since


@dataclass(kw_only=True)
class RecordExchange:
    """See the module's docstring. Times are monotonic seconds."""

    peer: str  # ourselves
    rng: np.random.Generator
    quota: AnswerQuota
    records: RecordBook
    _digested: tuple[float, int] = (-math.inf, 0)  # when, and what `digest` came to
    catching_up: CatchingUp = field(init=False)
    giver: RecordGiver = field(init=False)

    def __post_init__(self) -> None:
        self.catching_up = CatchingUp(peer=self.peer, rng=self.rng)
        self.giver = RecordGiver(peer=self.peer, rng=self.rng, quota=self.quota)

    def came(self, received: Received) -> None:
        """A record was verified, however it came."""
        if is_lasting(received.topic):
            self.catching_up.took(received.topic, received.message.sequence)

    def changed(self, now_s: float) -> None:
        """We hold another record, or a newer one."""
        self.catching_up.changed(now_s)
        self._digested = -math.inf, 0

    def hear(
        self, received: Received, announcement: m.PeerAnnouncement, num_alive: Callable[[float], int], now_s: float
    ) -> None:
        """Somebody says what it lacks, or what it holds. What a broker retained of that is nothing new."""
        if received.retained:
            return
        sender, session = received.message.sender, received.message.session
        if announcement.lacks:
            self.giver.hears_of(sender, session, announcement.lacks, num_alive(now_s), now_s)
        if announcement.records and not self.catching_up.abilities.wildcard:
            self.catching_up.hears_of(sender, session, announcement.records, self.digest(now_s), now_s)

    def hear_of_tasks(self, sender: str, session: int, unknown: Iterable[str], now_s: float) -> None:
        """Somebody trains tasks that we do not know."""
        self.catching_up.hears_of_tasks(sender, session, unknown, now_s)

    def take(
        self, sender: str, session: int, body: m.RecordDigests | m.RecordRequest | m.RecordBatch, now_s: float
    ) -> list[Effect]:
        """Take what a peer says to us of records. Raises `WireError` if it is not to be answered, or was not asked."""
        match body:
            case m.RecordDigests():
                return self.catching_up.take_digests(sender, session, body, sequences_of(self.records), now_s)
            case m.RecordRequest():
                most = self.catching_up.abilities.max_packet_bytes
                return self.giver.answer(sender, session, body, self.records, most, now_s)
            case m.RecordBatch():
                return self.catching_up.take_batch(sender, body, now_s)

    def tick(self, num_peers: int, now_s: float) -> tuple[list[Effect], bool]:
        """What is due; and whether our announcement is to be said again though nothing in it has changed."""
        given = self.giver.due(self.records, now_s)
        if now_s < self.catching_up.deadline_s():
            return given, False
        effects, is_repeated = self.catching_up.tick(self.digest(now_s), num_peers, now_s)
        return [*given, *effects], is_repeated

    def deadline_s(self) -> float:
        """When `tick` has something to do next."""
        return min(self.catching_up.deadline_s(), self.giver.deadline_s())

    def digest(self, now_s: float) -> int:
        """Of the task records that we hold; of those that have run out since for a few seconds more."""
        at_s, digest = self._digested
        if now_s >= at_s + DIGEST_FOR_S:
            digest = digest_of(sequences_of(self.records))
            self._digested = now_s, digest
        return digest
