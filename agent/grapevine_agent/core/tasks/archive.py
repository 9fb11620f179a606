"""What is kept of records, in memory and on disk.

The book of records says what is held. This says what follows from it for everything that must keep step with it:

    held            ▶ manifests, reviews and applications are saved; the rest is out of date by the next start
    ran out         ▶ deleted on disk, where its sequence stays if the book remembers it
    made room       ▶ deleted on disk. A manifest may come back; of a review or tombstone nothing older may

A record of our own disk was verified when it came, and its signature is not looked at again until it matters: before
a record is given back to a broker, before a task is taken part in, and at once where its author's word counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from grapevine_agent.core import effects as fx
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.tasks.wanted import Wanted
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.codec import Received, is_authentic
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import Topic, is_lasting

MAX_EXPIRED = 256  # records that are dropped at a time


@dataclass(kw_only=True)
class Archive:
    """See the module's docstring."""

    records: RecordBook
    _wanted: Wanted = field(default_factory=Wanted)  # manifests

    # --- taking in --------------------------------------------------------------------------------

    def restore(self, received: Received, wall_ms: int) -> bool:
        """Take a record of an earlier life. Whether it is held now. Raises `WireError` as the book does."""
        if self._counts(received.message.sender):
            if not is_authentic(received):
                return False
            received = replace(received, verified=True)
        return self.records.accept(received, wall_ms)

    def _counts(self, author: str) -> bool:
        return author == self.records.own or author in self.records.trusted

    def accept(self, received: Received, wall_ms: int) -> bool:
        """Take a record. Whether it is news. Raises `WireError` as the book does."""
        topic = received.topic
        held = self.records.get(topic)
        if held is not None and held.envelope != received.envelope and not is_authentic(held):
            self.records.drop(topic)  # its bytes have changed on our disk: it stands in the way of the true ones
        return self.records.accept(received, wall_ms)

    def saved(self, received: Received) -> list[Effect]:
        """What a record that is news means for the disk."""
        return [fx.SaveRecord(received=received)] if is_lasting(received.topic) else []

    # --- leaving ----------------------------------------------------------------------------------

    def take_pushed_out(self) -> list[Received]:
        """The records that made room for others since this was last asked."""
        gone = self.records.take_pushed_out()
        for received in gone:
            body, sequence = received.message.body, received.message.sequence
            is_over = isinstance(body, m.TaskPublication) and body.retracted
            if is_over or isinstance(body, m.Review | m.ApplicationPublication):
                self.records.remember(received.topic, sequence)  # it may come back, and nothing older
        return gone

    def expire(self, wall_ms: int) -> list[Received]:
        """Some of the records that have run out: they are held no more."""
        return self.records.expire(wall_ms, MAX_EXPIRED)

    def has_expired(self, wall_ms: int) -> bool:
        """Whether records that have run out are held still."""
        return 0 < self.records.next_expiry_ms() <= wall_ms

    def forgotten(self, gone: list[Received]) -> list[Effect]:
        """What it means for the disk that these records are held no more."""
        effects: list[Effect] = []
        for received in gone:
            if is_lasting(received.topic):
                remembered = self.records.remembered(received.topic)
                effects.append(fx.ForgetRecord(received=received, remembered=remembered))
        return [*effects, *(fx.ForgetSequence(topic=topic) for topic in self.records.take_forgotten())]

    def keep(self, topic: Topic) -> bool:
        """The owner uses what stands here. Whether it is as its author signed it; else it is dropped."""
        held = self.records.get(topic)
        if held is not None and not held.verified:
            if not is_authentic(held):
                self.records.drop(topic)
                return False
            self.records.confirm(topic)
        self.records.keep(topic)
        return True

    # --- manifests that had no room ---------------------------------------------------------------

    def want(self, task: str) -> list[Effect]:
        """A task matters whose manifest is not held. If it may have had no room here, ask the broker for it again."""
        return self._wanted.want(topics.of_task(task, "manifest")) if self.records.num_turned_away else []

    def arrived(self, task: str) -> list[Effect]:
        """A manifest is held now."""
        return self._wanted.arrived(topics.of_task(task, "manifest"))
