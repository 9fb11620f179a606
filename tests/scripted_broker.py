"""A small MQTT broker over real sockets that can be told to misbehave. It keeps nothing and delivers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.raw_mqtt import PINGRESP, packet

_SUBSCRIBE = 0x80
_RECEIVE_MAXIMUM = 0x21


@dataclass(frozen=True)
class Published:
    """A PUBLISH as it came. `connection` counts from 0."""

    connection: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int


@dataclass
class ScriptedBroker:
    """What it does to each client. Use it in an `async with`.

    Args:
        receive_maximum: Announced to clients of MQTT 5; 0: it says nothing.
        delay_s: Before each PUBACK.
        withholds: Whether a PUBLISH gets no PUBACK.
        subscribes: Whether SUBSCRIBE and UNSUBSCRIBE are answered, on a connection of this number.
        pings: Whether PINGREQ is answered.
        session_present: What CONNACK says of the session.
        after_connack: Bytes sent then, whatever they are.
    """

    receive_maximum: int = 0
    delay_s: float = 0.0
    withholds: Callable[[Published], bool] = lambda _published: False
    subscribes: Callable[[int], bool] = lambda _connection: True
    pings: bool = True
    session_present: bool = False
    after_connack: bytes = b""

    published: list[Published] = field(default_factory=list)
    num_connections: int = 0
    num_in_flight: int = 0
    most_in_flight: int = 0
    goodbyes: int = 0
    _port: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _acks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.reads = asyncio.Event()  # clear it to stop reading
        self.reads.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.reads.set()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for ack in [*self._acks]:
            ack.cancel()
        await self._server.wait_closed()

    def url(self, version: str) -> str:
        return f"mqtt://127.0.0.1:{self._port}?version={version}"

    def topics(self, connection: int) -> list[str]:
        return [each.topic for each in self.published if each.connection == connection]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        number, is_v5 = self.num_connections, False
        self.num_connections += 1
        self.num_in_flight = 0
        try:
            while True:
                await self.reads.wait()
                first = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                match first & 0xF0:
                    case 0x10:
                        is_v5 = body[6] == 5
                        writer.write(self._connack(is_v5) + self.after_connack)
                    case 0x30:
                        self._take(number, first, body, writer, is_v5=is_v5)
                    case 0x80 | 0xA0 if self.subscribes(number):
                        writer.write(_answer(first & 0xF0, body, is_v5=is_v5))
                    case 0xC0 if self.pings:
                        writer.write(PINGRESP)
                    case 0xE0:
                        self.goodbyes += 1
                        return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _connack(self, is_v5: bool) -> bytes:
        flags = bytes([int(self.session_present), 0])
        if not is_v5:
            return packet(0x20, flags)
        properties = b""
        if self.receive_maximum:
            properties = bytes([_RECEIVE_MAXIMUM]) + self.receive_maximum.to_bytes(2, "big")
        return packet(0x20, flags + bytes([len(properties)]) + properties)

    def _take(self, number: int, first: int, body: bytes, writer: asyncio.StreamWriter, *, is_v5: bool) -> None:
        qos, end = first >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
        topic, packet_id = body[2:end].decode(), 0
        if qos:
            packet_id, end = int.from_bytes(body[end : end + 2], "big"), end + 2
        if is_v5:
            end += 1 + body[end]
        published = Published(number, topic, body[end:], qos, bool(first & 1), packet_id)
        self.published.append(published)
        if not qos:
            return
        self.num_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.num_in_flight)
        if not self.withholds(published):
            ack = asyncio.create_task(self._acknowledge(writer, published))
            self._acks.add(ack)
            ack.add_done_callback(self._acks.discard)

    async def _acknowledge(self, writer: asyncio.StreamWriter, published: Published) -> None:
        await asyncio.sleep(self.delay_s)
        if published.connection == self.num_connections - 1:
            self.num_in_flight -= 1
            writer.write(packet(0x40, published.packet_id.to_bytes(2, "big")))


async def _length(reader: asyncio.StreamReader) -> int:
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length, shift = length | (digit & 0x7F) << shift, shift + 7
        if digit < 0x80:
            return length


def _answer(kind: int, body: bytes, *, is_v5: bool) -> bytes:
    """A SUBACK or UNSUBACK that grants everything at QoS 1."""
    packet_id, rest = body[:2], body[3:] if is_v5 else body[2:]  # no properties are sent
    num, at = 0, 0
    while at < len(rest):
        at += 2 + int.from_bytes(rest[at : at + 2], "big") + (kind == _SUBSCRIBE)
        num += 1
    properties = b"\x00" if is_v5 else b""
    if kind == _SUBSCRIBE:
        return packet(0x90, packet_id + properties + bytes([1]) * num)
    return packet(0xB0, packet_id + (properties + bytes(num) if is_v5 else b""))
