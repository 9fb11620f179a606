"""Asks one broker what it does, over a connection of our own: what it says counts less than what comes back.

    connect ─▶ a record, retained ─▶ does it come to peer/+/doctor/…, to its very topic, at once?
            ─▶ a message to our inbox ─▶ does it come?
            ─▶ a packet as large as the owner allows ─▶ does it come?
            ─▶ meanwhile: heartbeats of others, and the time that they were signed at

Mosquitto drops what its rules forbid and acknowledges it all the same; others refuse, and some close the connection.
All of it is seen here. The topics lie below the peer's own name, as its access rules want it, in places to which no
agent subscribes: `peer/<us>/doctor/<nonce>` and `inbox/<us>/<us>/doctor/<nonce>`. What was to be retained is erased at
the end.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from grapevine_agent.net.connection import packet_bytes
from grapevine_agent.net.events import Arrived, Connected, Disconnected, Trying
from grapevine_agent.net.failures import ConnectionLostError
from grapevine_agent.net.packet_limit import SMALLEST_BYTES
from grapevine_agent.net.transport import Transport
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import BrokerError, WireError

Answer: TypeAlias = Literal["taken", "refused", "closed", "silent", "not asked"]

ACKNOWLEDGED_S: Final = 4.0
COMES_S: Final = 2.0  # what a broker brings, it brings at once
LARGE_S: Final = 6.0
LARGE_COMES_S: Final = 3.0  # once it was acknowledged
AGAIN_S: Final = 4.0  # for a connection that was closed
LISTEN_S: Final = 6.0  # for heartbeats: one interval, as most have it
MOST_HEARD: Final = 64  # heartbeats that are read
LARGEST_TRIED: Final = 1_000_000
_LOOK_S: Final = 0.05
_STEP: Final = 4  # a packet that was too large is tried again as a part of it
_VERSION: Final = "$SYS/broker/version"


@dataclass(kw_only=True)
class Met:
    """What came of asking one broker. Filled in as it is learnt, so that a deadline leaves what was."""

    url: str
    connected: bool = False
    trouble: str = ""  # why it did not take us in
    version: str = ""  # of MQTT
    software: str = ""  # as it says
    trip_s: float | None = None
    announced_bytes: int | None = None  # a packet limit below the owner's, as it says
    record: Answer = "not asked"  # something to be retained
    why_refused: str = ""
    comes: bool | None = None  # what is published while we listen
    wildcard: bool | None = None  # what is retained, to a filter with +
    exact: bool | None = None  # the same without
    read: Answer = "not asked"  # subscriptions to what peers say
    inbox: Answer = "not asked"  # "taken": what was sent to our inbox came
    inbox_why: str = ""
    large: Answer = "not asked"
    large_bytes: int = 0  # the largest that came
    tried_bytes: int = 0
    is_done: bool = False
    ahead_s: dict[str, float] = field(default_factory=dict)  # by how much others' clocks are ahead of ours, by peer


@dataclass(kw_only=True)
class Asking:
    """See the module's docstring.

    Args:
        transport: To this one broker; nobody else uses it.
        root: Topic root.
        peer: Whose topics are tried.
        own: This device's peer, whose heartbeats say nothing of its clock.
        wanted_bytes: The largest packet that the owner allows.
    """

    transport: Transport
    root: str
    peer: str
    own: str
    wanted_bytes: int
    met: Met
    _events: dict[tuple[str, bool], asyncio.Event] = field(default_factory=dict)  # (topic, retained) → it came
    _up: asyncio.Event = field(default_factory=asyncio.Event)  # it has us
    _failed: asyncio.Event = field(default_factory=asyncio.Event)
    _is_slow: bool = False
    _num_lost: int = 0  # connections that it, or the line, ended
    _ending: asyncio.Task[None] | None = None
    _num_heard: int = 0

    def __post_init__(self) -> None:
        nonce = secrets.token_hex(4)
        self._record = f"{self.root}/peer/{self.peer}/doctor/{nonce}"
        self._records = f"{self.root}/peer/+/doctor/{nonce}"
        self._inbox = f"{self.root}/inbox/{self.peer}/{self.peer}/doctor/{nonce}"
        self._inboxes = f"{self.root}/inbox/{self.peer}/+/doctor/{nonce}"
        self._beats = f"{self.root}/{topics.every_peer('heartbeat')}"

    async def run(self) -> Met:
        """Ask it everything. What is known by then is in `met` if this is cancelled."""
        async with self._running():
            await _first(self._up, self._failed)
            if not self.met.connected:
                return self.met
            listening = asyncio.create_task(asyncio.sleep(LISTEN_S))
            try:
                await self._ask()
                self.met.is_done = True
                await listening
            finally:
                listening.cancel()
                await self._erase()
        return self.met

    async def _ask(self) -> None:
        await self._subscribe(self._beats)
        await self._ask_records()
        await self._ask_inbox()
        await self._ask_size()
        await self._subscribe(_VERSION)

    async def _ask_records(self) -> None:
        began_s, met = time.monotonic(), self.met
        met.record, met.why_refused = await self._publish(self._record, b"doctor", retain=True)
        if met.record == "taken":
            met.trip_s = time.monotonic() - began_s
        met.read = await self._subscribe(self._records)
        met.wildcard = met.read == "taken" and await self._came(self._record, retained=True)
        if met.wildcard:
            met.exact = met.comes = True
            return
        # Not retained: a broker that ends connections over what is to be retained can still be one that carries.
        taken, _ = await self._publish(self._record, b"doctor", retain=False)
        met.comes = taken == "taken" and await self._came(self._record, retained=False)
        if met.comes and met.record == "taken":
            await self._unsubscribe(self._records)
            await self._subscribe(self._record)
            met.exact = await self._came(self._record, retained=True)
            await self._unsubscribe(self._record)

    async def _ask_inbox(self) -> None:
        self.met.inbox = await self._subscribe(self._inboxes)
        if self.met.inbox != "taken":
            return
        taken, why = await self._publish(self._inbox, b"doctor", retain=False)
        self.met.inbox_why = why
        if taken != "taken":
            self.met.inbox = taken
        elif not await self._came(self._inbox, retained=False):
            self.met.inbox = "silent"

    async def _ask_size(self) -> None:
        """The largest packet that comes, where messages come at all."""
        met = self.met
        topic = self._record if met.comes else self._inbox if met.inbox == "taken" else ""
        if not topic:
            return
        await self._subscribe(self._records if met.comes else self._inboxes)
        size = met.tried_bytes = min(self.wanted_bytes, self.transport.max_packet_bytes, LARGEST_TRIED)
        met.large = await self._try_size(topic, size)
        while met.large_bytes == 0 and size > SMALLEST_BYTES and self._up.is_set() and not self._is_slow:
            size = max(SMALLEST_BYTES, size // _STEP)
            await self._try_size(topic, size)
        if 0 < met.large_bytes < met.tried_bytes // 2 and self._up.is_set():
            await self._try_size(topic, 2 * met.large_bytes)

    async def _try_size(self, topic: str, size: int) -> Answer:
        """Whether a packet of so many bytes comes back; `silent`: it was acknowledged, or not, and does not come."""
        self._events.pop((topic, False), None)
        answer, _ = await self._publish(topic, bytes(size - packet_bytes(topic, b"")), retain=False, within_s=LARGE_S)
        if answer != "taken":
            self._is_slow = answer == "silent"  # what is smaller would wait behind it
            return answer
        if not await self._came(topic, retained=False, within_s=LARGE_COMES_S):
            return "silent"
        self.met.large_bytes = size
        return "taken"

    async def _erase(self) -> None:
        if self.met.record in ("taken", "silent"):
            await self._publish(self._record, b"", retain=True)

    # --- one of each --------------------------------------------------------------------------------

    async def _publish(
        self, topic: str, payload: bytes, *, retain: bool, within_s: float = ACKNOWLEDGED_S
    ) -> tuple[Answer, str]:
        num_lost = self._num_lost
        try:
            async with asyncio.timeout(within_s):
                await self.transport.publish(topic, payload, retain=retain)
        except TimeoutError:
            return "silent", f"no acknowledgement within {within_s:g} s"
        except ConnectionLostError as error:
            await self._comes_back(num_lost)
            return "closed", str(error)
        except BrokerError as error:
            return "refused", str(error)
        return "taken", ""

    async def _subscribe(self, topic_filter: str) -> Answer:
        num_lost = self._num_lost
        try:
            async with asyncio.timeout(ACKNOWLEDGED_S):
                await self.transport.subscribe((topic_filter, 0))
        except TimeoutError:
            return "silent"
        except ConnectionLostError:
            await self._unsubscribe(topic_filter)  # not again at the next connection
            await self._comes_back(num_lost)
            return "closed"
        except BrokerError:
            await self._unsubscribe(topic_filter)
            return "refused"
        return "taken"

    async def _unsubscribe(self, topic_filter: str) -> None:
        with suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(ACKNOWLEDGED_S):
                await self.transport.unsubscribe(topic_filter)

    async def _came(self, topic: str, *, retained: bool, within_s: float = COMES_S) -> bool:
        return await _set_within(self._event(topic, retained), within_s)

    async def _comes_back(self, num_lost: int) -> None:
        """Wait for another connection in the place of one that has ended, or is about to."""
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                while self._num_lost == num_lost:
                    await asyncio.sleep(_LOOK_S)
                await self._up.wait()

    # --- what it tells --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.transport.run(), name=f"doctor at {self.met.url}")
        hearing = asyncio.create_task(self._hear(), name=f"doctor hears {self.met.url}")
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMES_S):
                    await self.transport.disconnect()
            running.cancel()
            hearing.cancel()
            await asyncio.gather(running, hearing, return_exceptions=True)

    async def _hear(self) -> None:
        async for event in self.transport.events():
            match event:
                case Connected():
                    self._connected(event)
                case Trying(reason=reason):
                    self.met.trouble = reason if not self.met.connected else self.met.trouble
                    self._failed.set()
                case Disconnected():
                    self._num_lost += 1
                    self._up.clear()
                case Arrived(topic=topic, payload=payload, retained=retained):
                    self._arrived(topic, payload, retained=retained)

    def _connected(self, event: Connected) -> None:
        met = self.met
        met.connected, met.version = True, event.version
        if event.max_packet_bytes < self.wanted_bytes and not event.has_learnt_limit:
            met.announced_bytes = event.max_packet_bytes
        self._up.set()

    def _arrived(self, topic: str, payload: bytes | memoryview, *, retained: bool) -> None:
        if topic == _VERSION:
            self.met.software = bytes(payload[:100]).decode("utf-8", "replace")
        elif topic in (self._record, self._inbox):
            self._event(topic, retained).set()
        elif not retained and self._num_heard < MOST_HEARD:
            self._num_heard += 1
            self._hear_time(topic, bytes(payload))
            if self._num_heard == MOST_HEARD:
                self._ending = asyncio.create_task(self._unsubscribe(self._beats))

    def _hear_time(self, topic: str, payload: bytes) -> None:
        """A heartbeat says when it was signed. What is no heartbeat, or of nobody, is dropped."""
        with suppress(WireError):
            message = open_envelope(payload, topics.parse(self.root, topic)).message
            if message.created_at_ms and message.sender not in (self.peer, self.own):
                self.met.ahead_s[message.sender] = message.created_at_ms / 1e3 - time.time()

    def _event(self, topic: str, retained: bool) -> asyncio.Event:
        return self._events.setdefault((topic, retained), asyncio.Event())


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(each.wait()) for each in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
