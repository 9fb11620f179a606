"""What must survive a lost connection: records, the latest of each topic, and messages that can wait.

Sans-IO. The service drains it while it is connected:

    on Connected:            outbox.connected()
    while connected:         waiting = outbox.next_due(now_s); publish it; outbox.sent(waiting)
    when a publish fails:    nothing: it is still due

A broker may have lost its retained messages, and one that never saw us has none: so every record is
due again after each connect.

Three lanes: records go before messages, and messages before *answers*, which somebody else asked for and
which are large. An answer need not be there yet: what it is to be made of stands in `Waiting.order`, so that a
hundred that wait do not hold a hundred models in memory.
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
    order: object = None  # of an answer: what the payload is to be made of when its turn comes
    thing: str = ""  # of an answer: what was asked for
    num_bytes: int = 0  # of an answer, about


class Outbox:
    """See the module's docstring.

    Args:
        max_messages: Messages that may wait; the oldest is dropped for a new one.
        max_bytes: The same in bytes of payload. Records are not counted: their number is ours to choose.
        max_answers: Answers that may wait; one that finds no room is dropped.
        max_answer_bytes: The same in bytes, of those that are made and of those that are still to be made.
    """

    def __init__(
        self,
        *,
        max_messages: int = 256,
        max_bytes: int = 16_000_000,
        max_answers: int = 256,
        max_answer_bytes: int = 16_000_000,
    ) -> None:
        self.num_dropped = 0  # for want of room
        self.num_expired = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._records: dict[str, Waiting] = {}
        self._due: dict[str, Waiting] = {}  # of the records; in the order in which they became due
        self._messages: deque[Waiting] = deque()
        self._num_bytes = 0
        self._max_answers = max_answers
        self._max_answer_bytes = max_answer_bytes
        self._answers: deque[Waiting] = deque()

    def __len__(self) -> int:
        """How many publishes are due, including messages whose deadline may have passed."""
        return len(self._due) + len(self._messages) + len(self._answers)

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

    def answer(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        deadline_s: float,
        order: object = None,
        thing: str = "",
        num_bytes: int = 0,
        retain: bool = False,
        task: str = "",
    ) -> bool:
        """Publish something large once, when nothing else is due. Whether there was room for it.

        Give the payload, or an `order` to make it of and about how many bytes that will be. The same `thing` waits
        once for the same topic.
        """
        num_bytes = num_bytes or len(payload)
        if thing and any(each.topic == topic and each.thing == thing for each in self._answers):
            return True
        held = sum(each.num_bytes for each in self._answers)
        if len(self._answers) >= self._max_answers or (held and held + num_bytes > self._max_answer_bytes):
            self.num_dropped += 1
            return False
        self._answers.append(
            Waiting(
                topic=topic,
                payload=payload,
                retain=retain,
                deadline_s=deadline_s,
                task=task,
                order=order,
                thing=thing,
                num_bytes=num_bytes,
            )
        )
        return True

    def owes(self, thing: str) -> bool:
        """Whether somebody waits for this thing."""
        return any(each.thing == thing for each in self._answers)

    def drop_task(self, task: str) -> None:
        """Publish no more messages of a task. Records stay."""
        self._answers = deque(each for each in self._answers if each.task != task)
        self._messages = deque(each for each in self._messages if each.task != task)
        self._num_bytes = sum(len(each.payload) for each in self._messages)

    def connected(self) -> None:
        """Make every record due again."""
        self._due = dict(self._records)

    def next_due(self, now_s: float) -> Waiting | None:
        """Return what to publish next: records first, then messages, then answers. It stays due until `sent`."""
        for record in self._due.values():
            return record
        while self._messages:
            if self._messages[0].deadline_s > now_s:
                return self._messages[0]
            self._drop_first()
            self.num_expired += 1
        while self._answers:
            if self._answers[0].deadline_s > now_s:
                return self._answers[0]
            self._answers.popleft()
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
        for index, answer in enumerate(self._answers):
            if answer is waiting:
                del self._answers[index]
                return

    def _drop_first(self) -> None:
        self._num_bytes -= len(self._messages.popleft().payload)
