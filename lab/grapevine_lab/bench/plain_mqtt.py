"""The least that makes a broker work: one writer, one reader, MQTT 3.1.1 at QoS 1, packets that were made before.

Every message is the same but for its number, so that neither end has to look for packets in what it reads: it counts
bytes. So the two together take a few microseconds a message, and what is measured is the broker.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from select import select
from typing import Self

from grapevine_proto.errors import BrokerError

TOPIC = b"grapevine-bench/broker"
_ANSWER_S = 20.0
_ACK_BYTES = 4
_PIECE_BYTES = 1 << 18
_NUMBER_AT = 2 + len(TOPIC)  # bytes behind the fixed header


@dataclass
class Traffic:
    """Two connections to a broker that listens on loopback, and a message of so many bytes.

    Args:
        port: Where the broker listens.
        num_bytes: Of each message.
        window: How many may be on their way: not acknowledged to the writer yet, or not with the reader.
    """

    port: int
    num_bytes: int
    window: int
    _writer: socket.socket = field(init=False)
    _reader: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._header, self._rest = _publish(self.num_bytes)
        self._size = len(self._header) + 2 + len(self._rest)
        self._read = bytearray()
        self._number = 0

    def __enter__(self) -> Self:
        self._writer, self._reader = (_connected(self.port, name) for name in (b"bench-writer", b"bench-reader"))
        subscribe = b"\x00\x01" + len(TOPIC).to_bytes(2, "big") + TOPIC + b"\x01"
        self._reader.sendall(bytes([0x82, len(subscribe)]) + subscribe)
        _expect(self._reader, b"\x90\x03\x00\x01\x01")
        return self

    def __exit__(self, *_error: object) -> None:
        for connection in (self._writer, self._reader):
            connection.sendall(b"\xe0\x00")
            connection.close()

    def carry(self, num_messages: int) -> None:
        """Send so many messages and return when all have come and all are acknowledged, both ways.

        Raises:
            BrokerError: Nothing came for a while.
        """
        num_sent = num_acknowledged_bytes = num_heard = 0
        to_send: memoryview = memoryview(b"")
        while num_heard < num_messages or num_acknowledged_bytes < num_messages * _ACK_BYTES:
            room = min(num_messages, min(num_acknowledged_bytes // _ACK_BYTES, num_heard) + self.window) - num_sent
            if not to_send and room > 0:
                to_send = memoryview(b"".join(self._next() for _ in range(room)))
                num_sent += room
            ready, writable, _ = select([self._writer, self._reader], [self._writer] if to_send else [], [], _ANSWER_S)
            if not ready and not writable:
                msg = f"the broker at port {self.port} brought {num_heard} of {num_messages} messages, and then nothing"
                raise BrokerError(msg)
            if writable:
                to_send = to_send[self._writer.send(to_send) :]
            if self._writer in ready:
                num_acknowledged_bytes += len(_some(self._writer))
            if self._reader in ready:
                num_heard += self._acknowledge()

    def _next(self) -> bytes:
        self._number = self._number % 65_535 + 1
        return b"".join((self._header, self._number.to_bytes(2, "big"), self._rest))

    def _acknowledge(self) -> int:
        """Read what has come, and acknowledge the messages that are whole; how many."""
        self._read += _some(self._reader)
        num_whole = len(self._read) // self._size
        at = len(self._header)
        numbers = (self._read[k * self._size + at : k * self._size + at + 2] for k in range(num_whole))
        self._reader.sendall(b"".join(b"\x40\x02" + number for number in numbers))
        del self._read[: num_whole * self._size]
        return num_whole


def _publish(num_bytes: int) -> tuple[bytes, bytes]:
    """A PUBLISH up to its number, and what comes behind it."""
    remaining = _NUMBER_AT + 2 + num_bytes
    header = bytearray([0x32])
    while True:
        remaining, digit = divmod(remaining, 128)
        header.append(digit | (0x80 if remaining else 0))
        if not remaining:
            break
    return bytes(header) + len(TOPIC).to_bytes(2, "big") + TOPIC, bytes(num_bytes)


def _connected(port: int, name: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b"\x00\x04MQTT\x04\x02\x0e\x10" + len(name).to_bytes(2, "big") + name  # clean session, an hour
    connection.sendall(bytes([0x10, len(body)]) + body)
    _expect(connection, b"\x20\x02\x00\x00")
    return connection


def _expect(connection: socket.socket, answer: bytes) -> None:
    found = connection.recv(len(answer), socket.MSG_WAITALL)
    if found != answer:
        msg = f"a broker answered {found!r} instead of {answer!r}"
        raise BrokerError(msg)


def _some(connection: socket.socket) -> bytes:
    found = connection.recv(_PIECE_BYTES)
    if not found:
        msg = "the broker closed a connection that was measured"
        raise BrokerError(msg)
    return found
