"""A line between clients and a broker that repeats and reorders messages, as a network of brokers may.

It is a TCP proxy on this machine that cuts both directions into MQTT packets (3.1.1 and 5). CONNECT, acknowledgements,
pings and subscriptions pass as they are. With a PUBLISH one of these may happen:

    repeat   at QoS 1: it goes twice, the second time at once and with DUP set, as after a lost acknowledgement
    again    at QoS 1: a while later the whole of it goes once more, under a packet id of the line's own, as where
             two brokers both carry it. Not a retained one: its topic may have a newer record by then
    hold     it waits, and what is on other topics overtakes it; what follows on its own topic waits behind it

So each topic keeps its order, but for what comes twice (MQTT 3.1.1, section 4.6: 1, 2, 3, 2 is allowed). Whoever sends
is acknowledged once, and in the order in which it has sent, as the same section asks for (Mosquitto delivers in another
order where acknowledgements come in another one): of those for a message that went twice only the last is handed on,
and those for packet ids of the line's own are not. What waits goes before a subscription changes and before the
connection ends.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from tests.raw_mqtt import packet

from grapevine_lab.proxy import Ends, Proxy, close, running

OWN_IDS: Final = range(65_535, 50_000, -1)  # clients and brokers count up from 1
_CONNECT, _PUBLISH, _PUBACK = 0x10, 0x30, 0x40
_IN_ORDER = (0x80, 0xA0, 0xE0)  # SUBSCRIBE, UNSUBSCRIBE and DISCONNECT: what was published before is before
_DUP, _RETAIN = 8, 1


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often each happens to a PUBLISH, from 0 to 1, and for how long something waits at most."""

    repeat: float = 0.0
    again: float = 0.0
    hold: float = 0.0
    wait_s: float = 0.25


@dataclass(frozen=True)
class Publish:
    """A PUBLISH as it came: what follows its topic and packet id is `rest`, with the properties of MQTT 5."""

    first: int
    topic: bytes
    packet_id: int  # 0 at QoS 0
    rest: bytes

    @classmethod
    def read(cls, first: int, body: bytes) -> Self:
        end = 2 + int.from_bytes(body[:2], "big")
        topic, packet_id = body[2:end], 0
        if first >> 1 & 3:
            packet_id, end = int.from_bytes(body[end : end + 2], "big"), end + 2
        return cls(first, topic, packet_id, body[end:])

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    def written(self, *, packet_id: int | None = None, dup: bool = False) -> bytes:
        number = self.packet_id if packet_id is None else packet_id
        ids = number.to_bytes(2, "big") if self.qos else b""
        body = len(self.topic).to_bytes(2, "big") + self.topic + ids + self.rest
        return packet(self.first | (_DUP if dup else 0), body)


class Way:
    """One direction of a connection: what comes in by `take` goes out by `write`, sometimes later, sometimes twice."""

    def __init__(
        self, faults: Faults, rng: random.Random, counts: Counter[str], write: Callable[[bytes], None]
    ) -> None:
        self._faults = faults
        self._rng = rng
        self._counts = counts
        self._write = write
        self._waiting: dict[bytes, list[Publish]] = {}  # by topic, each in its order
        self._timers: dict[bytes, asyncio.TimerHandle] = {}
        self._later: set[asyncio.TimerHandle] = set()
        self._owed: deque[int] = deque()  # what came at QoS 1 and is not acknowledged, in its order
        self._acks: dict[int, bytes] = {}  # that came, and have to wait for others
        self._own_ids: set[int] = set()  # under which something of the line's own is under way
        self._surplus: Counter[int] = Counter()  # acknowledgements to come that are handed to nobody
        self._next_own = 0

    def take(self, first: int, body: bytes) -> None:
        """A packet came."""
        kind = first & 0xF0
        if kind != _PUBLISH:
            if kind in _IN_ORDER:
                self.flush()
            self._write(packet(first, body))
            return
        publish = Publish.read(first, body)
        if publish.qos == 1:
            self._owed.append(publish.packet_id)
        held = self._waiting.get(publish.topic)
        if held is not None:
            held.append(publish)
        elif publish.topic and self._rng.random() < self._faults.hold:  # without a topic an alias stands for it
            self._waiting[publish.topic] = [publish]
            wait_s = self._rng.uniform(0, self._faults.wait_s)
            loop = asyncio.get_running_loop()
            self._timers[publish.topic] = loop.call_later(wait_s, self._release, publish.topic)
        else:
            self._counts["overtook"] += bool(self._waiting)
            self._send(publish)

    def acknowledged(self, body: bytes) -> list[bytes]:
        """A PUBACK came back the other way. Those that are to be handed on now."""
        packet_id = int.from_bytes(body[:2], "big")
        if packet_id in self._own_ids:
            self._own_ids.discard(packet_id)
            return []
        if self._surplus[packet_id]:
            self._surplus[packet_id] -= 1
            return []
        self._acks[packet_id] = packet(_PUBACK, body)
        due = []
        while self._owed and self._owed[0] in self._acks:
            due.append(self._acks.pop(self._owed.popleft()))
        return due

    def flush(self) -> None:
        """Let go of everything that waits."""
        for topic in list(self._waiting):
            self._timers[topic].cancel()
            self._release(topic)

    def end(self) -> None:
        """Nothing goes out any more."""
        for timer in (*self._timers.values(), *self._later):
            timer.cancel()

    def _release(self, topic: bytes) -> None:
        del self._timers[topic]
        for publish in self._waiting.pop(topic):
            self._send(publish)

    def _send(self, publish: Publish) -> None:
        self._write(publish.written())
        if publish.qos != 1 or not publish.topic:
            return
        if self._rng.random() < self._faults.repeat:
            self._counts["repeated"] += 1
            self._surplus[publish.packet_id] += 1
            self._write(publish.written(dup=True))
        if not publish.first & _RETAIN and self._rng.random() < self._faults.again:
            loop, wait_s = asyncio.get_running_loop(), self._rng.uniform(0, self._faults.wait_s)
            self._later = {each for each in self._later if each.when() > loop.time()}
            self._later.add(loop.call_later(wait_s, self._say_again, publish))

    def _say_again(self, publish: Publish) -> None:
        self._counts["again"] += 1
        number = OWN_IDS[self._next_own % len(OWN_IDS)]
        self._next_own += 1
        self._own_ids.add(number)
        self._write(publish.written(packet_id=number))


@dataclass
class FaultyLine(Proxy):
    """Such a line to one port; `up` counts what was done to what clients said, `down` to what the broker said."""

    faults_up: Faults
    faults_down: Faults
    rng: random.Random
    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    versions: set[int] = field(default_factory=set)  # of MQTT that clients spoke: 4 is 3.1.1

    def ways(self, here: Ends, there: Ends) -> list[Coroutine[None, None, None]]:
        up = Way(self.faults_up, self.rng, self.up, there[1].write)
        down = Way(self.faults_down, self.rng, self.down, here[1].write)
        return [self._lead(up, down, here[0], there[1]), self._lead(down, up, there[0], here[1])]

    async def _lead(self, way: Way, back: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Hand on packet by packet what one side says; `back` is the other direction."""
        try:
            while True:
                first, body = await _read(source)
                if first == _CONNECT:
                    self.versions.add(body[6])
                if first == _PUBACK:
                    sink.writelines(back.acknowledged(body))
                else:
                    way.take(first, body)
                await sink.drain()
        except (asyncio.IncompleteReadError, OSError):
            way.flush()
        finally:
            way.end()
            await close(sink)


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next packet: its first byte, and what follows its length."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length, shift = length | (digit & 0x7F) << shift, shift + 7
        if digit < 0x80:
            return first, await reader.readexactly(length)


@contextmanager
def faulty_line(to: int, *, up: Faults, down: Faults, seed: int = 0) -> Iterator[FaultyLine]:
    """A line that leads to the port `to`. A thread runs it."""
    with running(FaultyLine(to, up, down, random.Random(seed))) as line:
        yield line
