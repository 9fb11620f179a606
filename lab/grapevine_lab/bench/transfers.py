"""`transfer`: a model of 50 MB over a line of 20 Mbit/s, and how long what is urgent waits meanwhile.

A sender and a receiver on a real Mosquitto, made of the service's own parts (transport, outbox, sealing, transfers),
with a core that wants everything. Only the sender's line is narrow. Ten times a second the sender puts a small message
into its outbox, as a receipt would be; how long each took to whoever reads it, straight at the broker, is the latency
of control messages.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.answers import Answers
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.carrying import Carrying
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.sending import Sending
from grapevine_agent.service.turns import Turns
from grapevine_broker import start_broker
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.narrow import Line, narrow_line
from grapevine_lab.simulator.keys import Holder, Numbering
from grapevine_proto import topics
from grapevine_proto.bulk import NOTICE_BYTES
from grapevine_proto.codec import Received, open_envelope
from grapevine_proto.errors import GrapevineError
from grapevine_proto.messages import Apart, ChunkRefusal, ChunkRequest, ModelUpdate, plain
from grapevine_proto.roots import DEFAULT_ROOT
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic

NAME = "transfer"
BYTES_PER_S = 20e6 / 8
NUM_PARAMETERS = 12_500_000
CONTROL_EVERY_S = 0.1
CONTROL_TOPIC = f"{DEFAULT_ROOT}/control"
LATENCY_TARGET = Target(limit=100.0, at_most=True)
GOODPUT_TARGET = Target(limit=0.9, at_most=False)
TASK = "7" * 64
LONGEST_S = 120.0

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; about a minute."""
    with (
        tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder,
        start_broker("mosquitto") as broker,
        narrow_line(BrokerUrl.parse(broker.url).port, BYTES_PER_S) as line,
    ):
        return asyncio.run(_measure(Path(folder), broker.url, line, say))


async def _measure(folder: Path, url: str, line: Line, say: Callable[[str], None]) -> list[Figure]:
    update = ModelUpdate(
        task=TASK,
        window=1,
        version=1,
        age=1,
        experience=1,
        samples=1,
        full=np.random.default_rng(0).normal(size=NUM_PARAMETERS).astype(np.float32),
    )
    num_bytes = NUM_PARAMETERS * 4
    async with (
        _half(folder / "sender", f"mqtt://127.0.0.1:{line.port}") as sender,
        _half(folder / "receiver", url) as receiver,
        _listener(url) as heard,
    ):
        sender.core.sessions[receiver.peer], receiver.core.sessions[sender.peer] = receiver.session, sender.session
        empty = await _latencies(sender, heard, asyncio.sleep(5.0))
        began_s = time.monotonic()
        sender.publish(fx.Publish(topic=InboxTopic(receiver.peer, sender.peer), body=update))
        busy = await _latencies(sender, heard, _whole(receiver))
        took_s = time.monotonic() - began_s
    goodput = num_bytes / took_s / BYTES_PER_S
    say(f"{num_bytes / 1e6:.0f} MB in {took_s:.1f} s; control p95 {_p95(busy) * 1e3:.0f} ms of {len(busy)}")
    return [
        figure(NAME, "goodput of 50 MB, of a line of 20 Mbit/s", [goodput], target=GOODPUT_TARGET),
        figure(NAME, "control messages meanwhile, p95", [_p95(busy)], unit="ms", target=LATENCY_TARGET, scale=1e3),
        figure(NAME, "control messages meanwhile", busy, unit="ms", scale=1e3),
        figure(NAME, "control messages on the idle line, p95", [_p95(empty)], unit="ms", scale=1e3),
    ]


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def _whole(receiver: _Half) -> None:
    async with asyncio.timeout(LONGEST_S):
        received = await receiver.core.whole.get()
    body = received.message.body
    if not isinstance(body, ModelUpdate) or body.full is None or plain(body.full).size != NUM_PARAMETERS:
        raise GrapevineError("what arrived is not what was sent")


async def _latencies(
    sender: _Half, heard: asyncio.Queue[tuple[int, float]], meanwhile: Coroutine[Any, Any, None]
) -> list[float]:
    """How long control messages took, in seconds, while something else went on."""
    went_s: dict[int, float] = {}

    async def control() -> None:
        while True:
            number = next(_NUMBERS)
            went_s[number] = time.monotonic()
            sender.outbox.enqueue(CONTROL_TOPIC, str(number).encode(), deadline_s=went_s[number] + LONGEST_S)
            sender.sending.wake()
            await asyncio.sleep(CONTROL_EVERY_S)

    controlling = asyncio.create_task(control())
    try:
        await meanwhile
    finally:
        controlling.cancel()
    took: list[float] = []
    async with asyncio.timeout(LONGEST_S):
        while len(took) < len(went_s):
            number, at_s = await heard.get()
            took.append(at_s - went_s[number])
    return took


_NUMBERS = itertools.count()


# --- the two ends ---------------------------------------------------------------------------------


@dataclass
class _Core:
    """In the place of a core: it wants every message, and gives whatever is asked for."""

    settings: Any
    sessions: dict[str, int] = field(default_factory=dict)
    whole: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)

    @property
    def members(self) -> _Core:
        return self

    def session_of(self, peer: str) -> int:
        return self.sessions.get(peer, 0)

    def is_member(self, _peer: str) -> bool:
        return True

    def fetched(self, received: Received, _now: object) -> list[fx.Effect]:
        self.whole.put_nowait(received)
        return []

    def not_fetched(self, _received: Received, why: str, _now: object) -> list[fx.Effect]:
        raise GrapevineError(why)


@dataclass(frozen=True)
class _Settings:
    peer: str
    upload_bytes_per_s: float = 1e9


class _Half:
    """One end: everything of a service that messages go through."""

    def __init__(self, folder: Path, url: str) -> None:
        holder = Holder(SigningKey.generate())
        self.peer = holder.peer_id
        self.core = _Core(_Settings(self.peer))
        self.transport = Transport([BrokerUrl.parse(url)], client_id=self.peer)
        self.outbox = Outbox()
        self._sealer = Sealer(holder, Numbering())
        self.session = self._sealer.begin_session(int(time.time() * 1000))
        self._beside = Beside()
        self._background: set[asyncio.Task[None]] = set()
        core: Any = self.core
        self.carrying = Carrying(
            core=core,
            turns=Turns(self._beside, lambda _effects: None),
            outbox_to=lambda _peer: self.outbox,
            publish=self.publish,
            wake=self._wake,
            root=DEFAULT_ROOT,
            max_packet_bytes=lambda: self.transport.max_packet_bytes,
            folder=folder,
            window=4,
            most_bytes=256_000_000,
            rejected=_fail,
            in_background=self._in_background,
        )
        self._sealing = Sealing(
            self._sealer, self._beside, goes_apart=self.carrying.goes_apart, hold=self.carrying.hold
        )
        answers = Answers(outbox=self.outbox, get_blob=_no_blob, sealing=self._sealing, root=DEFAULT_ROOT)
        self.sending = Sending(
            outbox=self.outbox,
            transport=self.transport,
            answers=answers,
            sealing=self._sealing,
            chunk=self.carrying.payload_of,
        )

    def publish(self, effect: fx.Publish) -> None:
        name, deadline_s = topics.build(DEFAULT_ROOT, effect.topic), time.monotonic() + LONGEST_S
        self.outbox.enqueue(name, deadline_s=deadline_s, order=effect, num_bytes=NOTICE_BYTES)
        self.sending.wake()

    def _wake(self) -> None:
        self.sending.wake()

    async def read(self, is_up: asyncio.Event) -> None:
        async for event in self.transport.events():
            if isinstance(event, Connected):
                self.sending.connected(event.max_in_flight)
                is_up.set()
            elif isinstance(event, Arrived):
                self._hear(event)

    def _hear(self, event: Arrived) -> None:
        if (chunk := topics.parse_chunk(DEFAULT_ROOT, event.topic)) is not None:
            self.carrying.hear_piece(chunk, event.payload)
            return
        received = open_envelope(event.payload, topics.parse(DEFAULT_ROOT, event.topic))
        sender, session = received.message.sender, received.message.session
        match received.message.body:
            case Apart():
                self.carrying.fetch(received)
            case ChunkRequest() as request:
                topic = InboxTopic(sender, self.peer)
                self.carrying.give(fx.GiveChunks(topic=topic, request=request, receiver_session=session))
            case ChunkRefusal() as refusal:
                raise GrapevineError(refusal.reason)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _fail(error: GrapevineError, _sender: str) -> None:
    raise error


async def _no_blob(_digest: str) -> bytes | None:
    return None


@asynccontextmanager
async def _half(folder: Path, url: str) -> AsyncIterator[_Half]:
    half, is_up = _Half(folder, url), asyncio.Event()
    inbox = (topics.inbox_of(half.peer), topics.chunks_for(half.peer))
    await half.transport.subscribe(*((f"{DEFAULT_ROOT}/{each}", 1) for each in inbox))
    async with _meanwhile(half.transport.run(), half.sending.run(), half.carrying.run(), half.read(is_up)):
        await asyncio.wait_for(is_up.wait(), LONGEST_S)
        yield half


@asynccontextmanager
async def _listener(url: str) -> AsyncIterator[asyncio.Queue[tuple[int, float]]]:
    """Who reads the control messages, straight at the broker: their numbers, and when they came."""
    heard: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
    transport, is_up = Transport([BrokerUrl.parse(url)], client_id="listener"), asyncio.Event()
    await transport.subscribe((CONTROL_TOPIC, 1))

    async def read() -> None:
        async for event in transport.events():
            if isinstance(event, Arrived):
                heard.put_nowait((int(bytes(event.payload)), time.monotonic()))
            elif isinstance(event, Connected):
                is_up.set()

    async with _meanwhile(transport.run(), read()):
        await asyncio.wait_for(is_up.wait(), LONGEST_S)
        yield heard


@asynccontextmanager
async def _meanwhile(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let these run until the block ends."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
