"""One client's session and one connection of it, as amqtt's classes with what they lack."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from amqtt.adapters import StreamWriterAdapter
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.manager import PluginManager
from amqtt.session import Session

from grapevine_broker.limits import Limits
from grapevine_broker.outbox import Outbox, Room
from grapevine_broker.packets import PacketReader, RefusedError

_KEEPALIVE_GRACE = 1.5  # 3.1.2.10
_DRAIN_ABOVE_BYTES, _DRAIN_BELOW_BYTES = 1024 * 1024, 256 * 1024
_OF_CONNECT = (
    "clean_session",
    "client_id",
    "keep_alive",
    "remote_address",
    "remote_port",
    "ssl_object",
    "username",
    "will_flag",
    "will_message",
    "will_qos",
    "will_retain",
    "will_topic",
)


class _Presence:
    """What amqtt asks a session's state machine: a library of its own there, and half a millisecond to build."""

    def __init__(self, session: Session) -> None:
        self.state = "new"
        self._session = session

    def connect(self) -> None:
        self.state = "connected"
        self._session._on_enter_connected()

    def disconnect(self) -> None:
        self.state = "disconnected"
        self._session._on_enter_disconnected()


class CarefulSession(Session):  # type: ignore[misc]  # amqtt ships no types
    """What is kept of a client while it is connected and, if it asked for that, while it is away."""

    def __init__(self, limits: Limits, room: Room) -> None:
        super().__init__()
        self.outbox = Outbox(limits, room)
        self.filters: set[str] = set()
        """What it has subscribed to."""
        self.unreleased: set[int] = set()
        """Packet ids of its own messages of QoS 2 that came and are not yet released (4.3.3)."""

    def _init_states(self) -> None:
        self.transitions = _Presence(self)

    def begin(self, connect: Session, *, is_known: bool) -> None:
        """Take what a CONNECT said, and be connected.

        Args:
            connect: The session that amqtt made of it.
            is_known: Whether this session was there before.
        """
        for name in _OF_CONNECT:
            setattr(self, name, getattr(connect, name))
        self.parent = int(is_known)
        self.transitions.connect()


class PatientWriter(StreamWriterAdapter):  # type: ignore[misc]  # amqtt ships no types
    """A writer that waits for a slow client, but not for ever."""

    def __init__(self, stream: asyncio.StreamWriter, write_s: float) -> None:
        super().__init__(stream)
        self.is_closed: bool = False
        self._stream = stream
        self._write_s = write_s
        stream.transport.set_write_buffer_limits(_DRAIN_ABOVE_BYTES, _DRAIN_BELOW_BYTES)

    @property
    def num_unsent_bytes(self) -> int:
        """What the client has not taken yet."""
        return int(self._stream.transport.get_write_buffer_size())

    def write(self, data: bytes) -> None:
        """Write, unless the connection has ended."""
        if not self._stream.is_closing():
            super().write(data)

    async def drain(self) -> None:
        """Wait until there is little left to send.

        Raises:
            RefusedError: The client has not read for too long.
        """
        try:
            async with asyncio.timeout(self._write_s):
                await super().drain()
        except TimeoutError:
            raise RefusedError(f"did not read what it was sent for {self._write_s:g} s") from None

    async def close(self) -> None:
        """Send what is left, and end the connection."""
        if not self.is_closed:
            await self.drain()
            self.is_closed = True
            self._stream.close()

    def abort(self) -> None:
        """End the connection now: its descriptor is free, whatever the client does."""
        self.is_closed = True
        self._stream.transport.abort()


class CarefulConnection(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt ships no types
    """One connection after its CONNECT. Its packets are taken by one task, `CarefulBroker._client_message_loop`."""

    def __init__(self, plugins: PluginManager[Any], session: Session | None = None, loop: Any = None) -> None:
        super().__init__(plugins, session, loop)
        self.farewell: DisconnectPacket | None = None
        self._server: asyncio.Task[Any] | None = None
        self._ended = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        """Whether there is a task that serves this connection: `stop` waits for its end."""
        return self._server is not None

    def begin(self, session: CarefulSession, reader: PacketReader, writer: PatientWriter) -> None:
        """Take the place of the session's connection. The current task serves it until `end`."""
        self.attach(session, reader, writer)
        self._server = asyncio.current_task()

    def end(self) -> None:
        """Note that nobody serves it any more."""
        self._server = None
        self._ended.set()

    async def stop(self) -> None:
        """End the connection and, called from elsewhere, wait until its task has sent its will and left."""
        if self.writer is not None:
            self.writer.abort()
        if self._server is not None and self._server is not asyncio.current_task():
            await self._ended.wait()

    async def next_packet(self) -> Any:
        """Read a packet; errors as of `PacketReader.packet`."""
        silence_s = self.session.keep_alive * _KEEPALIVE_GRACE or None
        return await self.reader.packet(silence_s)

    def write(self, frames: Iterable[bytes]) -> None:
        """Write packets, without waiting."""
        for frame in frames:
            self.writer.write(frame)

    async def drain(self) -> None:
        """Wait until the client has read most of what it was sent; RefusedError if it does not."""
        await self.writer.drain()
