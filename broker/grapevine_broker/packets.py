"""Whole packets off a stream, parsed by amqtt and taken only if they are what MQTT 3.1.1 allows.

amqtt parses straight from the socket and believes what a packet says of its own lengths: one lie,
and everything after it is read at the wrong place. Here a packet is first read whole, within its
limits of size and time. It is well-formed if amqtt's own parts, written out again, give the same
bytes. Whatever is not ends the connection, as MQTT asks (4.8).

Section numbers are those of MQTT 3.1.1, OASIS Standard, 29 October 2014.
"""

from __future__ import annotations

import asyncio
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.mqtt import packet_class
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
)
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from grapevine_broker.limits import Limits

_FLAGS = {  # what a client may send, with the lower half of its first byte (2.2.2); PUBLISH has flags of its own
    CONNECT: 0,
    PUBACK: 0,
    PUBREC: 0,
    PUBREL: 2,
    PUBCOMP: 0,
    SUBSCRIBE: 2,
    UNSUBSCRIBE: 2,
    PINGREQ: 0,
    DISCONNECT: 0,
}
_NAMES = (b"\x00\x04MQTT", b"\x00\x06MQIsdp")
_LEVEL = 4
_RESERVED, _WILL, _WILL_REST, _PASSWORD = 0x01, 0x04, 0x38, 0x40


class RefusedError(Exception):
    """Why a connection is ended by us: what its client did, as the tail of "closed a connection: it …"."""


class OtherVersionError(RefusedError):
    """A CONNECT of another version of MQTT than 3.1.1: it can be told so."""


class PacketReader:
    """Takes the packets of one connection, one after the other.

    Args:
        stream: Where they come from.
        limits: How large they may be, and how long they may take.
    """

    def __init__(self, stream: asyncio.StreamReader, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits

    async def connect_frame(self) -> bytes:
        """Read the first packet, which has to be a CONNECT (3.1.0-1), and return it whole.

        Raises:
            RefusedError: It is something else, is malformed, or takes too long.
            EOFError: The client ends the connection before.
        """
        try:
            async with asyncio.timeout(self._limits.connect_s):
                first = await self._first_byte()
                if first != CONNECT << 4:
                    raise RefusedError(f"began with the byte 0x{first:02x} instead of a CONNECT")
                body = await self._body(self._limits.max_connect_bytes)
        except TimeoutError:
            raise RefusedError(f"sent no CONNECT within {self._limits.connect_s:g} s") from None
        await _check_connect(body)
        return bytes([first]) + _written_length(len(body)) + body

    async def packet(self, silence_s: float | None) -> Any:
        """Read the next packet, as one of amqtt's.

        Args:
            silence_s: How long the client may be silent before; None: for ever.

        Raises:
            RefusedError: The packet is malformed, or takes too long.
            EOFError: The client has ended the connection.
            TimeoutError: It was silent for too long.
        """
        async with asyncio.timeout(silence_s):
            first = await self._first_byte()
        try:
            async with asyncio.timeout(self._limits.packet_s):
                body = await self._body(self._limits.max_packet_bytes)
        except TimeoutError:
            raise RefusedError(f"did not finish a packet within {self._limits.packet_s:g} s") from None
        return await parsed(first, body)

    async def _first_byte(self) -> int:
        return (await self._exactly(1))[0]

    async def _body(self, max_bytes: int) -> bytes:
        length = 0
        for position in range(4):
            digit = (await self._exactly(1))[0]
            length += (digit & 0x7F) << (7 * position)
            if digit < 0x80:
                break
        else:
            raise RefusedError("sent a packet whose length has more than four bytes")
        if length > max_bytes:
            raise RefusedError(f"announced a packet of {length} bytes; the limit is {max_bytes}")
        return await self._exactly(length)

    async def _exactly(self, num_bytes: int) -> bytes:
        try:
            return await self._stream.readexactly(num_bytes)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            raise EOFError from None


async def parsed(first: int, body: bytes) -> Any:
    """Make amqtt's packet of the first byte and what follows the length; a second CONNECT is none (3.1.0-2).

    Raises:
        RefusedError: A client may not send this.
    """
    header = MQTTFixedHeader(first >> 4, first & 0x0F, len(body))
    kind = header.packet_type
    if kind == CONNECT or (kind != PUBLISH and _FLAGS.get(kind) != header.flags):
        raise RefusedError(f"sent a packet that begins with 0x{first:02x}, which it may not")
    packet = await _made_of(header, body)
    text = packet.variable_header.to_bytes() if packet.variable_header else b""
    if kind == PUBLISH:
        is_whole = body.startswith(text)  # amqtt takes the rest as the payload
    else:
        is_whole = body == text + (packet.payload.to_bytes(header, packet.variable_header) if packet.payload else b"")
    if not is_whole:
        raise RefusedError(f"sent a packet of type {kind} that is not what it says of itself")
    _check(packet)
    return packet


async def _made_of(header: MQTTFixedHeader, body: bytes) -> Any:
    try:
        return await packet_class(header).from_stream(BufferReader(body), fixed_header=header)
    except Exception as error:  # a stranger's bytes: amqtt's parsers raise whatever comes of them
        raise RefusedError(f"sent a packet of type {header.packet_type} that is malformed") from error


def _check(packet: Any) -> None:
    """Raise for what is written correctly and still forbidden."""
    match packet:
        case PublishPacket():
            if packet.qos == 3:
                raise RefusedError("published at QoS 3 (3.3.1-4)")
            if packet.qos == 0 and packet.dup_flag:
                raise RefusedError("published a duplicate at QoS 0 (3.3.1-2)")
            _check_texts(packet.topic_name)  # wildcards are refused by amqtt
        case SubscribePacket():
            _check_texts(*(topic_filter for topic_filter, _ in packet.payload.topics))
            if not packet.payload.topics or any(qos > 2 for _, qos in packet.payload.topics):
                raise RefusedError("subscribed to nothing, or above QoS 2 (3.8.3-3, 3.8.3-4)")
        case UnsubscribePacket():
            _check_texts(*packet.payload.topics)
            if not packet.payload.topics:
                raise RefusedError("unsubscribed from nothing (3.10.3-2)")
    if getattr(packet.variable_header, "packet_id", None) == 0:
        raise RefusedError("sent the packet id 0 (2.3.1-1)")


def _check_texts(*topics: str) -> None:
    if any(not topic or "\0" in topic for topic in topics):
        raise RefusedError("named a topic that is empty or holds a NUL (4.7.3-1, 4.7.3-2)")


async def _check_connect(body: bytes) -> None:
    """Raise for what is no CONNECT of MQTT 3.1.1, or says what nobody could do (3.1)."""
    name = next((name for name in _NAMES if body.startswith(name)), None)
    if name is None:
        raise RefusedError("named another protocol than MQTT (3.1.2-1)")
    if len(body) > len(name) and body[len(name)] != _LEVEL:
        raise OtherVersionError(
            f"asked for level {body[len(name)]} of MQTT instead of {_LEVEL}, which is 3.1.1 (3.1.2-2)"
        )
    header = MQTTFixedHeader(CONNECT, 0, len(body))
    packet: ConnectPacket = await _made_of(header, body)
    flags, said = packet.variable_header.flags, packet.payload
    said.password = None  # any bytes, which amqtt reads as text
    if said.client_id_is_random:
        said.client_id = ""  # as it was written
    text = bytes(packet.variable_header.to_bytes() + said.to_bytes(header, packet.variable_header))
    password = body[len(text) :]
    length = len(password) - 2 if flags & _PASSWORD else None
    if not body.startswith(text) or password[:2] != (b"" if length is None else _two_bytes(length)):
        raise RefusedError("sent a CONNECT that is not what it says of itself")
    if flags & _RESERVED or (not flags & _WILL and flags & _WILL_REST) or packet.variable_header.will_qos > 2:
        raise RefusedError(f"sent a CONNECT with the flags 0x{flags:02x} (3.1.2)")
    if flags & _WILL:
        _check_texts(said.will_topic)
        if "#" in said.will_topic or "+" in said.will_topic:
            raise RefusedError("left a will for a filter instead of a topic (4.7.1-1)")
    if "\0" in said.client_id or "\0" in (said.username or ""):
        raise RefusedError("named itself with a NUL (1.5.3-2)")


def _two_bytes(length: int) -> bytes | None:
    return length.to_bytes(2, "big") if 0 <= length <= 0xFFFF else None


def _written_length(length: int) -> bytes:
    written = bytearray()
    while True:
        length, digit = divmod(length, 128)
        written.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(written)
