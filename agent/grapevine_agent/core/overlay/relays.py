"""Giving task records to a broker that forgot them, from which somebody erased them, or that never had them.

Anybody may erase a record where the broker has no rules, again and again. So a record is given back at once
the first time, and after each further time only when a pause is over that doubles; and records go out at a
bounded pace, so that a broker which lost everything does not keep updates waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.overlay.pauses import Pause, next_pause
from grapevine_proto.codec import Received
from grapevine_proto.topics import Topic, is_lasting

RELAY_AFTER_S = (3.0, 8.0)  # what a broker did not send by then it has lost
BATCH_BYTES = 250_000  # in one go, or one record that is larger
BATCH_RECORDS = 32
BETWEEN_BATCHES_S = 1.0
SPREAD_AFTER_S = (0.2, 1.0)  # news of another broker: somebody else may bring it as well


@dataclass(kw_only=True)
class Relays:
    """See the module's docstring. Times are monotonic seconds."""

    rng: np.random.Generator
    due_s: float = math.inf  # when to look next
    settled_s: float = -math.inf  # until then it may be sending what it holds
    is_of_use: bool = True  # the broker gives what it retains to whoever comes
    _on_broker: set[Topic] = field(default_factory=set)  # heard since we connected, and not erased since
    _given: dict[Topic, Pause] = field(default_factory=dict)

    def connected(self, now_s: float) -> None:
        """A broker took us in: nothing is known of what it holds."""
        self._on_broker.clear()
        self._given.clear()
        self.is_of_use = True
        self.due_s = self.settled_s = now_s + float(self.rng.uniform(*RELAY_AFTER_S))

    def lacks_news(self, now_s: float) -> None:
        """There is a record that the broker may lack."""
        at_s = now_s + float(self.rng.uniform(*SPREAD_AFTER_S))
        self.due_s = min(self.due_s, max(at_s, self.settled_s))

    def heard(self, topic: Topic) -> None:
        """The broker has this record."""
        self._on_broker.add(topic)

    def __len__(self) -> int:
        """Of how many topics something is remembered, at the most."""
        return len(self._on_broker) + len(self._given)

    def forget_all_but(self, topics: set[Topic]) -> None:
        """Only these are records that are still held."""
        self._on_broker &= topics
        self._given = {topic: given for topic, given in self._given.items() if topic in topics}

    def erased(self, topic: Topic, now_s: float) -> None:
        """Somebody erased a record of ours, or one that we hold."""
        self._on_broker.discard(topic)
        given = self._given.get(topic)
        earliest_s = now_s if given is None else max(now_s, given.over_s)
        self.due_s = min(self.due_s, earliest_s + float(self.rng.uniform(*RELAY_AFTER_S)))

    def due(self, held: Iterable[Received], now_s: float) -> list[Received]:
        """What to publish again now, of the records that are held."""
        if now_s < self.due_s:
            return []
        self.due_s = math.inf
        if not self.is_of_use:
            return []
        batch: list[Received] = []
        num_bytes = 0
        for record in held:
            topic = record.topic
            if not is_lasting(topic) or topic in self._on_broker:
                continue
            given = self._given.get(topic)
            if given is not None and now_s < given.over_s:
                self.due_s = min(self.due_s, given.over_s)
                continue
            num_bytes += len(record.envelope)
            if batch and (num_bytes > BATCH_BYTES or len(batch) == BATCH_RECORDS):
                self.due_s = now_s + BETWEEN_BATCHES_S
                break
            batch.append(record)
            self._on_broker.add(topic)  # once for each loss: some brokers take no record that is not its author's
            self._given[topic] = next_pause(given, now_s)
        return batch
