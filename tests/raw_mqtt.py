"""MQTT 3.1.1 by the byte: for what no client library would send, and for a look at each answer."""

from __future__ import annotations

import asyncio
from typing import Self

ACCEPTED, RESUMED = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00"
PINGREQ, PINGRESP, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70

_DEADLINE_S = 20.0


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length in front of `body`."""
    length, rest = bytearray(), len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes([first]) + bytes(length) + body


def text(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    return len(encoded).to_bytes(2, "big") + encoded


def connect(
    client_id: str,
    *,
    clean: bool = True,
    keepalive_s: int = 60,
    will: tuple[str, bytes] | None = None,
    user: str | None = None,
    password: bytes | None = None,
    level: int = 4,
) -> bytes:
    """A CONNECT; a will is sent at QoS 1."""
    flags = (2 if clean else 0) | (0x0C if will else 0) | (0x80 if user is not None else 0)
    flags |= 0x40 if password is not None else 0
    body = text("MQTT") + bytes([level, flags]) + keepalive_s.to_bytes(2, "big") + text(client_id)
    for field in (*(will or ()), user, password):
        body += b"" if field is None else text(field)
    return packet(0x10, body)


def publish(
    topic: str, payload: bytes, qos: int = 0, packet_id: int = 1, *, dup: bool = False, retain: bool = False
) -> bytes:
    first = 0x30 | (8 if dup else 0) | qos << 1 | int(retain)
    return packet(first, text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + payload)


def subscribe(*filters: tuple[str, int], packet_id: int = 1) -> bytes:
    return packet(0x82, packet_id.to_bytes(2, "big") + b"".join(text(each) + bytes([qos]) for each, qos in filters))


def answer(kind: int, packet_id: int) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP."""
    return packet(kind, packet_id.to_bytes(2, "big"))


class Wire:
    """One connection to a broker on this machine. Use it in an `async with`, which ends it without a word."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int, first: bytes = b"", answer: bytes | None = None) -> Self:
        """Open a connection, send `first`, and check that `answer` comes."""
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        await wire.send(first)
        if answer is not None:
            assert await wire.packet() == answer
        return wire

    async def send(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))
        await self._writer.drain()

    async def packet(self) -> bytes:
        """The next packet, whole; b"" at the end of the connection."""
        async with asyncio.timeout(_DEADLINE_S):
            try:
                first = await self._reader.readexactly(1)
                length, shift = 0, 0
                while True:
                    digit = (await self._reader.readexactly(1))[0]
                    length, shift = length | (digit & 0x7F) << shift, shift + 7
                    if digit < 0x80:
                        return packet(first[0], await self._reader.readexactly(length))
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""

    async def until_ping(self) -> list[bytes]:
        """Everything that comes before the answer to a PINGREQ."""
        await self.send(PINGREQ)
        heard: list[bytes] = []
        while (each := await self.packet()) != PINGRESP:
            assert each, f"the connection ended after {heard}"
            heard.append(each)
        return heard

    async def ended(self) -> bool:
        """Whether the broker ends the connection, whatever it says before; then ours is closed too."""
        try:
            while await self.packet():
                pass
        except TimeoutError:
            return False
        finally:
            await self.close()
        return True

    async def close(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
