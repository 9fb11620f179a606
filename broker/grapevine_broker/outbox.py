"""What is on its way to one client: a window in flight, a queue behind it, and nothing without a limit.

amqtt waits five seconds for each acknowledgement, then forgets the message; it keeps nothing over a
reconnection and has no limit. This is a table without sockets, tasks or a clock instead:

    send ──▶ waiting ──room in the window──▶ PUBLISH sent ──PUBACK──▶ gone
               │                                 │  PUBREC ─▶ PUBREL sent ──PUBCOMP──▶ gone
               └─ no room in the queue: the oldest is lost
    a new connection: PUBLISH once more (with DUP) or PUBREL once more, oldest first, then what waits (4.4)

Section numbers are those of MQTT 3.1.1.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrel import PubrelPacket

from grapevine_broker.limits import Limits

OBJECT_BYTES = 256
"""What a message or subscription takes in memory beside its text: ten thousand empty ones are not nothing."""

_MAX_PACKET_ID = 65_535


class Message(NamedTuple):
    """A message for one subscriber."""

    topic: str
    payload: bytes
    qos: int
    """The smaller of what it was published with and what was subscribed with (3.8.4-6)."""
    retained: bool = False
    """Whether it greets a new subscription (3.3.1-8, 3.3.1-9)."""

    @property
    def num_bytes(self) -> int:
        """What it is counted as, where bytes are limited."""
        return OBJECT_BYTES + len(self.topic) + len(self.payload)

    def frame(self, packet_id: int | None = None, *, duplicate: bool = False) -> bytes:
        """Write the PUBLISH packet."""
        packet = PublishPacket.build(self.topic, self.payload, packet_id, duplicate, self.qos, self.retained)
        return bytes(packet.to_bytes())


@dataclass(slots=True)
class Room:
    """What all outboxes and subscriptions take together."""

    num_bytes: int = 0


@dataclass(slots=True)
class Outbox:
    """The messages of QoS 1 and 2 of one session. Methods return the packets to write now, in order."""

    limits: Limits
    room: Room
    is_open: bool = False
    """Whether there is a connection to write to."""
    num_lost: int = 0
    """Messages that found no room so far."""
    _num_bytes: int = 0
    _num_bytes_in_flight: int = 0
    _packet_id: int = 0
    _in_flight: dict[int, Message | None] = field(default_factory=dict)  # None: released, its PUBCOMP is to come
    _waiting: deque[Message] = field(default_factory=deque)

    def send(self, message: Message) -> list[bytes]:
        """Take a message of QoS 1 or 2, behind what waits. Where there is no room, the oldest that waits is lost."""
        if not self._has_room(message, num_freed=len(self._waiting), num_freed_bytes=self._num_bytes_waiting):
            self.num_lost += 1
            return []
        while not self._has_room(message):
            self._release(self._waiting.popleft())
            self.num_lost += 1
        self._waiting.append(message)
        self._num_bytes += message.num_bytes
        self.room.num_bytes += message.num_bytes
        return self._fill_window()

    def open(self) -> list[bytes]:
        """Begin a connection: what was in flight goes out again, then what waits (4.4.0-1)."""
        self.is_open = True
        again = [
            bytes(PubrelPacket.build(packet_id).to_bytes())
            if message is None
            else message.frame(packet_id, duplicate=True)
            for packet_id, message in self._in_flight.items()
        ]
        return again + self._fill_window()

    def close(self) -> None:
        """End a connection: from now on messages wait."""
        self.is_open = False

    def acknowledged(self, packet_id: int) -> list[bytes]:
        """A PUBACK came (4.3.2). One that nobody waits for means nothing."""
        message = self._in_flight.get(packet_id)
        if message is None or message.qos != 1:
            return []
        return self._landed(packet_id)

    def received(self, packet_id: int) -> list[bytes]:
        """A PUBREC came: the message is the client's now (4.3.3). It is answered even if it was not awaited."""
        message = self._in_flight.get(packet_id)
        if message is not None and message.qos == 2:
            self._in_flight[packet_id] = None
            self._num_bytes_in_flight -= message.num_bytes
            self._release(message)
        elif message is not None:
            return []
        return [bytes(PubrelPacket.build(packet_id).to_bytes())]

    def completed(self, packet_id: int) -> list[bytes]:
        """A PUBCOMP came (4.3.3). One that nobody waits for means nothing."""
        if packet_id not in self._in_flight or self._in_flight[packet_id] is not None:
            return []
        return self._landed(packet_id)

    def clear(self) -> None:
        """Forget everything: the session has ended."""
        self.room.num_bytes -= self._num_bytes
        self._num_bytes = self._num_bytes_in_flight = 0
        self._waiting.clear()
        self._in_flight.clear()

    @property
    def _num_bytes_waiting(self) -> int:
        return self._num_bytes - self._num_bytes_in_flight

    def _has_room(self, message: Message, *, num_freed: int = 0, num_freed_bytes: int = 0) -> bool:
        """Whether it can be kept, once so much of what waits is lost."""
        num_more_bytes = message.num_bytes - num_freed_bytes
        return (
            len(self._waiting) - num_freed < self.limits.max_queued_messages
            and self._num_bytes + num_more_bytes <= self.limits.max_queued_bytes
            and self.room.num_bytes + num_more_bytes <= self.limits.max_queued_bytes_in_all
        )

    def _landed(self, packet_id: int) -> list[bytes]:
        message = self._in_flight.pop(packet_id)
        if message is not None:
            self._num_bytes_in_flight -= message.num_bytes
            self._release(message)
        return self._fill_window()

    def _release(self, message: Message) -> None:
        self._num_bytes -= message.num_bytes
        self.room.num_bytes -= message.num_bytes

    def _fill_window(self) -> list[bytes]:
        frames = []
        while self.is_open and self._waiting and self._fits_window(self._waiting[0]):
            message = self._waiting.popleft()
            packet_id = self._free_packet_id()
            self._in_flight[packet_id] = message
            self._num_bytes_in_flight += message.num_bytes
            frames.append(message.frame(packet_id))
        return frames

    def _fits_window(self, message: Message) -> bool:
        """Whether it may be sent now; one alone always may."""
        if len(self._in_flight) >= self.limits.max_in_flight:
            return False
        fits = self._num_bytes_in_flight + message.num_bytes <= self.limits.max_unsent_bytes
        return fits or self._num_bytes_in_flight == 0

    def _free_packet_id(self) -> int:
        while True:
            self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
            if self._packet_id not in self._in_flight:
                return self._packet_id
