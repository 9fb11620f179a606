"""What must survive a lost connection: records, the latest of each topic, and messages that can wait.

Sans-IO. The service drains it while it is connected:

    on Connected:            outbox.connected()
    while connected:         waiting = outbox.next_due(now_s); publish it; outbox.sent(waiting)
    when a publish fails:    nothing: it is still due

A broker may have lost its retained messages, and one that never saw us has none: so every record is
due again after each connect.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One publish that is due. `deadline_s` is monotonic time; records have none."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    deadline_s: float = math.inf
    task: str = ""  # the task that a message belongs to


class Outbox:
    """See the module's docstring.

    Args:
        max_messages: Messages that may wait; the oldest is dropped for a new one.
        max_bytes: The same in bytes of payload. Records are not counted: their number is ours to choose.
    """

    def __init__(self, *, max_messages: int = 256, max_bytes: int = 16_000_000) -> None:
        self.num_dropped = 0  # for want of room
        self.num_expired = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._records: dict[str, Waiting] = {}
        self._due: dict[str, Waiting] = {}  # of the records; in the order in which they became due
        self._messages: deque[Waiting] = deque()
        self._num_bytes = 0

    def __len__(self) -> int:
        """How many publishes are due, including messages whose deadline may have passed."""
        return len(self._due) + len(self._messages)

    def keep(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = True) -> None:
        """Publish a record now and after every connect, in place of the topic's last one."""
        record = Waiting(topic=topic, payload=payload, qos=qos, retain=retain)
        self._records[topic] = self._due[topic] = record

    def forget(self, topic: str) -> None:
        """Publish a topic's record no more. What brokers retain of it stays there."""
        self._records.pop(topic, None)
        self._due.pop(topic, None)

    def enqueue(
        self, topic: str, payload: bytes, *, deadline_s: float, qos: int = 1, retain: bool = False, task: str = ""
    ) -> None:
        """Publish a message once, unless `deadline_s` (monotonic) passes before, or its task is dropped."""
        self._messages.append(
            Waiting(topic=topic, payload=payload, qos=qos, retain=retain, deadline_s=deadline_s, task=task)
        )
        self._num_bytes += len(payload)
        while len(self._messages) > self._max_messages or self._num_bytes > self._max_bytes:
            self._drop_first()
            self.num_dropped += 1

    def drop_task(self, task: str) -> None:
        """Publish no more messages of a task. Records stay."""
        self._messages = deque(each for each in self._messages if each.task != task)
        self._num_bytes = sum(len(each.payload) for each in self._messages)

    def connected(self) -> None:
        """Make every record due again."""
        self._due = dict(self._records)

    def next_due(self, now_s: float) -> Waiting | None:
        """Return what to publish next: records first, then messages in order. It stays due until `sent`."""
        for record in self._due.values():
            return record
        while self._messages:
            if self._messages[0].deadline_s > now_s:
                return self._messages[0]
            self._drop_first()
            self.num_expired += 1
        return None

    def sent(self, waiting: Waiting) -> None:
        """Take off what was published. A record that was replaced meanwhile stays due."""
        if self._due.get(waiting.topic) is waiting:
            del self._due[waiting.topic]
            return
        for index, message in enumerate(self._messages):
            if message is waiting:
                del self._messages[index]
                self._num_bytes -= len(waiting.payload)
                return

    def _drop_first(self) -> None:
        self._num_bytes -= len(self._messages.popleft().payload)
