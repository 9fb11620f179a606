"""Giving records of tasks to a peer whose broker did not: the other side of `catching_up`.

    its announcement counts up `lacks`, live ──with probability 3/n, after 0 to 3 s──▶ digests of what we hold
    a request without names                  ──at once──▶ the same
    a request with names                     ──▶ these records, the exact bytes, in batches

n is how many members we count: so about three answer, whoever they are, and one in twenty times nobody does; the asker
asks again then. Bounded: digests for one asker once in `DIGESTS.every_s`; records only to whom digests were
given lately, and within the bytes that all askers together may have (`answers`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from grapevine_agent.core.effects import Effect, Publish
from grapevine_agent.core.overlay.answers import AnswerQuota, Pace
from grapevine_proto import messages as m
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.records import RecordBook
from grapevine_proto.short_names import parted, short_name
from grapevine_proto.topics import InboxTopic, LastingTopic, is_lasting

_T = TypeVar("_T")

ANSWERS = 3.0  # on average
DELAY_S = 3.0
DIGESTS = Pace(every_s=15.0, burst=1.0)
REQUESTS = Pace(every_s=2.0, burst=12.0)  # each names up to 200
MOST_DIGESTS = 2_000
MOST_WAITING = 64  # askers
MOST_ASKERS = 1_000
GIVES_FOR_S = 120.0
BATCH_BYTES = 60_000
BESIDE_IT_BYTES = 600  # of a packet with records: topic, header and signature
PER_RECORD_BYTES = 200  # of a record in it: its topic


@dataclass(kw_only=True)
class RecordGiver:
    """See the module's docstring. Times are monotonic seconds."""

    peer: str  # ourselves
    rng: np.random.Generator
    quota: AnswerQuota
    _waiting: dict[str, tuple[float, int]] = field(default_factory=dict)  # asker → when it is answered, its session
    _heard: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)  # asker → session, `lacks`
    _given: OrderedDict[str, float] = field(default_factory=OrderedDict)  # asker → until when it may have records

    def hears_of(self, asker: str, session: int, lacks: int, num_members: int, now_s: float) -> None:
        """A peer announced that it lacks records: perhaps we answer."""
        if not lacks or self._heard.get(asker) == (session, lacks):
            return
        _remember(self._heard, asker, (session, lacks))
        if len(self._waiting) < MOST_WAITING and self.rng.uniform() < ANSWERS / max(1, num_members):
            self._waiting[asker] = now_s + float(self.rng.uniform(0.0, DELAY_S)), session

    def due(self, records: RecordBook, now_s: float) -> list[Effect]:
        """Digests for those whose time has come."""
        effects: list[Effect] = []
        for asker in [asker for asker, (at_s, _) in self._waiting.items() if at_s <= now_s]:
            _, session = self._waiting.pop(asker)
            try:
                effects += self._digests(asker, session, records, now_s)
            except WireError:
                continue  # it has had them
        return effects

    def deadline_s(self) -> float:
        """When `due` has something to do next."""
        return min((at_s for at_s, _ in self._waiting.values()), default=math.inf)

    def answer(
        self, asker: str, session: int, request: m.RecordRequest, records: RecordBook, max_packet: int, now_s: float
    ) -> list[Effect]:
        """Answer a verified request. Raises `WireError` if it is not to be answered."""
        if not request.names:
            return self._digests(asker, session, records, now_s)
        if now_s > self._given.get(asker, -math.inf):
            raise WireError("not-asked", f"{asker} asks for records that were not offered to it")
        self.quota.charge(asker, "records", 0, now_s, pace=REQUESTS, is_member=False)
        wanted = set(request.names)
        found = [each for topic, each in lasting(records) if short_name(topic) in wanted]
        return [self._letter(asker, session, batch) for batch in self._batches(found, max_packet, now_s)]

    def _batches(self, found: list[Received], max_packet: int, now_s: float) -> Iterable[m.RecordBatch]:
        """In packets; what all askers together have had too much of is left out, and what fits into none."""
        at_most = max_packet - BESIDE_IT_BYTES
        batch: list[m.CarriedRecord] = []
        held = 0
        for each in found:
            size = len(each.envelope) + PER_RECORD_BYTES
            if size > at_most or not self.quota.take_shared(size, now_s):
                continue
            if batch and (held + size > min(at_most, BATCH_BYTES) or len(batch) == m.MAX_NAMED):
                yield m.RecordBatch(records=tuple(batch))
                batch, held = [], 0
            assert is_lasting(each.topic)
            batch.append(m.CarriedRecord(topic=each.topic, envelope=bytes(each.envelope)))
            held += size
        if batch:
            yield m.RecordBatch(records=tuple(batch))

    def _digests(self, asker: str, session: int, records: RecordBook, now_s: float) -> list[Effect]:
        sequences = sequences_of(records)
        if not sequences:
            return []
        self.quota.charge(asker, "digests", 16 * len(sequences), now_s, pace=DIGESTS, is_member=False)
        _remember(self._given, asker, now_s + GIVES_FOR_S)
        return [self._letter(asker, session, each) for each in parted(sequences, MOST_DIGESTS)]

    def _letter(self, asker: str, session: int, body: m.Body) -> Effect:
        return Publish(topic=InboxTopic(asker, self.peer), body=body, receiver_session=session)


def lasting(records: RecordBook) -> Iterable[tuple[LastingTopic, Received]]:
    """Manifests, tombstones, reviews and applications among the records that are held, and their topics."""
    for each in records:
        if is_lasting(each.topic):
            yield each.topic, each


def sequences_of(records: RecordBook) -> dict[bytes, int]:
    """Their short names and sequences."""
    return {short_name(topic): each.message.sequence for topic, each in lasting(records)}


def _remember(book: OrderedDict[str, _T], asker: str, what: _T) -> None:
    book[asker] = what
    book.move_to_end(asker)
    if len(book) > MOST_ASKERS:
        book.popitem(last=False)
