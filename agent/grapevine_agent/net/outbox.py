"""What must survive a lost connection: records, the latest of each topic, and messages that can wait.

Sans-IO. The service drains it while it is connected:

    on Connected:                  outbox.connected(): whatever was under way is due again
    while connected:               waiting = outbox.take(now_s): it is under way; publish it
    acknowledged, or given up:     outbox.sent(waiting): there is room for another one
    lost with the connection:      nothing: its fate is unknown, and it is due again at the next one

A broker may have lost its retained messages, and one that never saw us has none: so every record is
due again after each connect, unless it has run out. The last word on a topic, after which nothing follows from it, is
due until a broker has it, and then forgotten.

Four lanes: records go before messages, messages before *answers*, which somebody else asked for and which are large,
and these before *chunks* of what is larger still. Of chunks two are under way at a time, each acknowledged by the
broker: nothing can overtake what is in the stream already, and so a heartbeat or a request never waits behind more than
these. Chunks are lost with their connection, and asked for again.

An answer, or a large message, need not be there yet: what it is to be made of stands in `Waiting.order`, so that a
hundred that wait do not hold a hundred models in memory. A message is made when it is the first that waits, and what is
behind it waits for that; answers and chunks are made when they have been taken.

What is *under way* is bounded by number (a broker may announce less) and by bytes: all of it lies in one stream, and
whatever is said next comes behind it. QoS 1 and QoS 0 have bounds of their own, since only the first waits for a round
trip: a heartbeat goes while twenty updates wait for their acknowledgement. Within a QoS nothing overtakes what
comes before it, so two records of one topic arrive in order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from grapevine_proto.parts import Payload

MAX_UNDER_WAY = 64  # of each QoS: 640 messages a second at a round trip of 100 ms
CHUNKS_UNDER_WAY = 2  # 240 kB: 96 ms on a line of 20 Mbit/s
FEW = 4  # messages that may wait whatever they take: those of one round hold the same model
MAX_BYTES_UNDER_WAY = 500_000  # 4 s on a line of 1 Mbit/s, less than a heartbeat may be late; one message may be larger

Lane: TypeAlias = Literal["record", "message", "answer", "chunk"]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One publish that is due or under way. `deadline_s` is monotonic time; records have none."""

    number: int  # counts all that was put in
    lane: Lane
    topic: str
    payload: Payload
    qos: int = 1
    retain: bool = False
    deadline_s: float = math.inf
    task: str = ""  # the task that a message belongs to
    order: object = None  # what the payload is to be made of when its turn comes; None: it is made
    thing: str = ""  # of an answer: what was asked for
    num_bytes: int = 0  # of what is to be made, about
    until_ms: int = 0  # of a record: when it runs out, unix milliseconds; 0: never
    is_last: bool = False  # of a record: see the module's docstring

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return max(self.num_bytes, len(self.payload))


@dataclass
class _Room:
    """For what is under way at one QoS."""

    most: int = MAX_UNDER_WAY
    num: int = 0
    num_bytes: int = 0

    def fits(self, waiting: Waiting) -> bool:
        return self.num == 0 or (self.num < self.most and self.num_bytes + waiting.size <= MAX_BYTES_UNDER_WAY)


class Outbox:
    """See the module's docstring.

    Args:
        max_messages: Messages that may wait or be under way; the oldest that waits is dropped for a new one.
        max_bytes: The same in bytes of payload, of more than a `FEW`. Records are not counted: their number is ours
            to choose.
        max_answers: Answers that may wait or be under way; one that finds no room is dropped.
        max_answer_bytes: The same in bytes, of those that are made and of those that are still to be made.
        max_chunks: Chunks that may wait; one that finds no room is dropped.
        dropped: Told of each message that is not published: for want of room, or because it waited for too long.
    """

    def __init__(
        self,
        *,
        max_messages: int = 256,
        max_bytes: int = 16_000_000,
        max_answers: int = 256,
        max_answer_bytes: int = 16_000_000,
        max_chunks: int = 128,
        dropped: Callable[[Waiting], None] | None = None,
    ) -> None:
        self._dropped = dropped
        self.num_dropped = 0  # for want of room
        self.num_expired = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_answers = max_answers
        self._max_answer_bytes = max_answer_bytes
        self._max_chunks = max_chunks
        self._number = 0
        self._records: dict[str, Waiting] = {}
        self._due: dict[str, Waiting] = {}  # of the records; in the order in which they became due
        self._messages: tuple[deque[Waiting], deque[Waiting]] = (deque(), deque())  # by QoS
        self._answers: deque[Waiting] = deque()
        self._chunks: deque[Waiting] = deque()
        self._chunks_under_way = 0
        self._under_way: dict[int, Waiting] = {}  # by number, in the order in which they left
        self._unwanted: set[int] = set()  # under way, and not to go again
        self._rooms = (_Room(), _Room())  # by QoS
        self._num_messages = 0  # that wait or are under way
        self._num_bytes = 0

    def __len__(self) -> int:
        """How many publishes wait or are under way, including messages whose deadline may have passed."""
        return self.num_waiting + len(self._under_way)

    @property
    def num_waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._due) + sum(map(len, (*self._messages, self._answers, self._chunks)))

    def keep(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = True, until_ms: int = 0, is_last: bool = False
    ) -> None:
        """Publish a record now and after every connect, in place of the topic's last one.

        Not once it has run out, at `until_ms` (0: never); the last word on its topic not again once it was published.
        """
        record = Waiting(
            number=self._next_number(),
            lane="record",
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            until_ms=until_ms,
            is_last=is_last,
        )
        self._records[topic] = self._due[topic] = record

    def keep_as(self, other: Outbox, *, but: str) -> None:
        """Publish the records that another one keeps, but for one topic's."""
        for each in list(other._records.values()):
            if each.topic != but:
                self.keep(
                    each.topic,
                    bytes(each.payload),
                    qos=each.qos,
                    retain=each.retain,
                    until_ms=each.until_ms,
                    is_last=each.is_last,
                )

    def is_out(self, topic: str) -> bool:
        """Whether the broker that we are connected to has acknowledged a topic's record, the newest."""
        if topic not in self._records or topic in self._due:
            return False
        return not any(each.topic == topic for each in self._under_way.values())

    def forget(self, topic: str) -> None:
        """Publish a topic's record no more. What brokers retain of it stays there."""
        self._records.pop(topic, None)
        self._due.pop(topic, None)

    def enqueue(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        deadline_s: float,
        qos: int = 1,
        retain: bool = False,
        task: str = "",
        order: object = None,
        num_bytes: int = 0,
    ) -> None:
        """Publish a message once, unless `deadline_s` (monotonic) passes before, or its task is dropped.

        Give the payload, or an `order` to make it of and about how many bytes that will be: see `to_make`.
        """
        message = Waiting(
            number=self._next_number(),
            lane="message",
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            deadline_s=deadline_s,
            task=task,
            order=order,
            num_bytes=num_bytes,
        )
        self._messages[min(qos, 1)].append(message)
        self._num_messages += 1
        self._num_bytes += message.size
        self._drop_oldest()

    def to_make(self, now_s: float) -> Waiting | None:
        """The order that is to be made into a payload next: a message's whose turn has come. Then call `made`.

        Until then what is behind it waits: nothing overtakes within a QoS.
        """
        self._drop_expired(now_s)
        firsts = [queue[0] for queue in self._messages if queue and queue[0].order is not None]
        return min(firsts, key=_by_number, default=None)

    def made(self, waiting: Waiting, payload: Payload) -> None:
        """An order has become a payload; nothing if it does not wait any more."""
        queue = self._messages[min(waiting.qos, 1)]
        if queue and queue[0].number == waiting.number:
            queue[0] = made = replace(waiting, payload=payload, order=None)
            self._num_bytes += made.size - waiting.size

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
        owed = self._owed()
        if thing and any(each.topic == topic and each.thing == thing for each in owed):
            return True
        held = sum(each.num_bytes for each in owed)
        if len(owed) >= self._max_answers or (held and held + num_bytes > self._max_answer_bytes):
            self.num_dropped += 1
            return False
        self._answers.append(
            Waiting(
                number=self._next_number(),
                lane="answer",
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

    def has_room_for_chunks(self, num: int) -> bool:
        """Whether so many more chunks can wait, or none do: what is in more pieces than that goes alone."""
        return not self._chunks or len(self._chunks) + num <= self._max_chunks

    def chunk(self, topic: str, *, deadline_s: float, order: object, num_bytes: int) -> bool:
        """Publish a chunk, made when it is taken, when nothing else is due. Whether there was room for it."""
        if len(self._chunks) >= self._max_chunks:
            self.num_dropped += 1
            return False
        self._chunks.append(
            Waiting(
                number=self._next_number(),
                lane="chunk",
                topic=topic,
                payload=b"",
                deadline_s=deadline_s,
                order=order,
                num_bytes=num_bytes,
            )
        )
        return True

    def owes(self, thing: str) -> bool:
        """Whether somebody waits for this thing."""
        return any(each.thing == thing for each in self._owed())

    def drop_task(self, task: str) -> None:
        """Publish no more messages of a task; what is under way does not go again. Records stay."""
        self._answers = deque(each for each in self._answers if each.task != task)
        for queue in self._messages:
            kept = [each for each in queue if each.task != task]
            self._num_messages -= len(queue) - len(kept)
            self._num_bytes -= sum(each.size for each in queue if each.task == task)
            queue.clear()
            queue.extend(kept)
        self._unwanted.update(
            each.number for each in self._under_way.values() if each.task == task and each.lane != "record"
        )

    def connected(self, max_in_flight: int = MAX_UNDER_WAY, wall_ms: int = 0) -> None:
        """Make records due again, and in their old places the messages and answers that were under way.

        Every record that has not run out by `wall_ms` (unix milliseconds).

        The broker takes `max_in_flight` messages of QoS 1 that it has not acknowledged.
        """
        self._due = {topic: each for topic, each in self._records.items() if not 0 < each.until_ms < wall_ms}
        for each in reversed(self._under_way.values()):
            if each.number in self._unwanted or each.lane in ("record", "chunk"):
                self._left(each)
            elif each.lane == "message":
                self._messages[min(each.qos, 1)].appendleft(each)
            else:
                self._answers.appendleft(each)
        self._under_way.clear()
        self._chunks.clear()
        self._chunks_under_way = 0
        self._unwanted.clear()
        self._rooms = (_Room(), _Room(most=min(max_in_flight, MAX_UNDER_WAY)))
        self._drop_oldest()

    def take(self, now_s: float) -> Waiting | None:
        """Return what to publish next: records first, then messages, then answers. It is under way until `sent`.

        None: nothing is due, or what is due waits for something under way.
        """
        self._drop_expired(now_s)
        is_blocked = [False, False]  # by QoS: nothing of a QoS overtakes what has no room
        for waiting in self._firsts():
            qos = min(waiting.qos, 1)
            if is_blocked[qos]:
                continue
            is_made = waiting.order is None or waiting.lane in ("answer", "chunk")
            if is_made and self._rooms[qos].fits(waiting):
                self._depart(waiting)
                return waiting
            is_blocked[qos] = True
        return None

    def sent(self, waiting: Waiting) -> None:
        """Take off what was published, or given up. A record that was replaced meanwhile stays due."""
        if self._under_way.pop(waiting.number, None) is None:
            return
        self._unwanted.discard(waiting.number)
        room = self._rooms[min(waiting.qos, 1)]
        room.num -= 1
        room.num_bytes -= waiting.size
        self._chunks_under_way -= waiting.lane == "chunk"
        self._left(waiting)
        if waiting.is_last and self._records.get(waiting.topic) == waiting:
            self.forget(waiting.topic)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _owed(self) -> list[Waiting]:
        under_way = (each for each in self._under_way.values() if each.lane == "answer")
        return [*under_way, *self._answers]

    def _firsts(self) -> list[Waiting]:
        """The first of each lane and QoS, in the order of their turns."""
        found = [next(iter(self._due.values()))] if self._due else []
        messages = [queue[0] for queue in self._messages if queue]
        found += messages if len(messages) < 2 else sorted(messages, key=_by_number)
        if self._answers:
            found.append(self._answers[0])
        if self._chunks and self._chunks_under_way < CHUNKS_UNDER_WAY:
            found.append(self._chunks[0])
        return found

    def _depart(self, waiting: Waiting) -> None:
        if waiting.lane == "record":
            del self._due[waiting.topic]
        elif waiting.lane == "message":
            self._messages[min(waiting.qos, 1)].popleft()
        elif waiting.lane == "answer":
            self._answers.popleft()
        else:
            self._chunks.popleft()
            self._chunks_under_way += 1
        self._under_way[waiting.number] = waiting
        room = self._rooms[min(waiting.qos, 1)]
        room.num += 1
        room.num_bytes += waiting.size

    def _left(self, waiting: Waiting) -> None:
        """A message is no longer ours to send."""
        if waiting.lane == "message":
            self._num_messages -= 1
            self._num_bytes -= waiting.size

    def _drop_expired(self, now_s: float) -> None:
        for queue in (*self._messages, self._answers, self._chunks):
            while queue and queue[0].deadline_s <= now_s:
                self._drop(queue.popleft())
                self.num_expired += 1

    def _drop_oldest(self) -> None:
        while self._num_messages > self._max_messages or self._num_bytes > self._max_bytes:
            waiting = [queue for queue in self._messages if queue]
            if not waiting or (sum(map(len, waiting)) <= FEW and self._num_messages <= self._max_messages):
                return
            self._drop(min(waiting, key=lambda queue: queue[0].number).popleft())
            self.num_dropped += 1

    def _drop(self, waiting: Waiting) -> None:
        self._left(waiting)
        if waiting.lane == "message" and self._dropped is not None:
            self._dropped(waiting)


def _by_number(waiting: Waiting) -> int:
    return waiting.number
