"""An onlooker on every broker, who takes down each message of a real run: the only source of what is said about it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto import bulk, topics
from grapevine_proto.codec import Received, complete, open_envelope
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Message, Metrics, ModelUpdate
from grapevine_proto.topics import ChunkTopic, GroupTopic, InboxTopic, PeerLeaf, TaskLeaf

Leaf: TypeAlias = PeerLeaf | TaskLeaf | Literal["app", "inbox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One message that passed a broker. What is said at several passes each of them."""

    t_s: float  # when its sender made it, by the clock on the wall that all processes share
    sender: str
    receiver: str = ""  # empty: whoever listens
    leaf: Leaf
    num_bytes: int
    versions: Mapping[str, int] = field(default_factory=dict)  # of an update: peer → its newest version in the model
    metrics: Metrics | None = None
    broker: int = 0
    hops: int = 0  # 0: by its sender itself; else by a gateway
    is_chunk: bool = False  # which does not say how far it has come, nor when it was made: `t_s` is when it came


@dataclass(kw_only=True)
class _Coming:
    """An update in two, whose bulk is on its way: what it is, and how much of it has not passed yet."""

    versions: Mapping[str, int]
    num_bytes: int


@dataclass(kw_only=True)
class Notes:
    """All that was heard. The versions in an update that travels in chunks are those of its last one."""

    root: str
    passed: list[Passed] = field(default_factory=list)
    rounds: dict[str, int] = field(default_factory=dict)  # peer → rounds that it has behind it, as it says
    rejected: Counter[str] = field(default_factory=Counter)
    coming: dict[tuple[int, str, str], _Coming] = field(default_factory=dict)  # by broker, receiver and transfer

    def take(self, name: str, payload: bytes, broker: int = 0) -> None:
        """Note what arrived on a topic; count it if it is wrong."""
        try:
            if (chunk := topics.parse_chunk(self.root, name)) is not None:
                self._take_chunk(chunk, payload, broker)
                return
            topic = topics.parse(self.root, name)
            received = open_envelope(payload, topic)
            message = received.message
        except WireError as error:
            self.rejected[error.reason] += 1
            return
        body = message.body
        versions = _versions_in(message)
        if received.bulk is not None and isinstance(topic, InboxTopic):
            coming = _Coming(versions=_versions_apart(received), num_bytes=received.bulk.num_bytes)
            self.coming[broker, topic.receiver, received.bulk.transfer] = coming
        metrics = body if isinstance(body, Metrics) else None
        if metrics is not None:
            done = metrics.round - 1  # the round that has begun is not behind it
            self.rounds[message.sender] = max(self.rounds.get(message.sender, 0), done)
        self.passed.append(
            Passed(
                t_s=message.created_at_ms / 1000,
                sender=message.sender,
                receiver=topic.receiver if isinstance(topic, InboxTopic) else "",
                leaf="inbox" if isinstance(topic, InboxTopic | GroupTopic) else topic.leaf,
                num_bytes=len(payload),
                versions=versions,
                metrics=metrics,
                broker=broker,
                hops=received.hops,
            )
        )

    def _take_chunk(self, chunk: ChunkTopic, payload: bytes, broker: int) -> None:
        """Note a chunk. Raises `WireError` if it is none."""
        piece, key = bulk.read_piece(payload), (broker, chunk.receiver, chunk.transfer)
        coming, versions = self.coming.get(key), dict[str, int]()
        if coming is not None and not piece.index:
            coming.num_bytes -= len(piece.content)
            if coming.num_bytes <= 0:
                versions = dict(self.coming.pop(key).versions)
        self.passed.append(
            Passed(
                t_s=time.time(),
                sender=chunk.sender,
                receiver=chunk.receiver,
                leaf="inbox",
                num_bytes=len(payload),
                versions=versions,
                broker=broker,
                is_chunk=True,
            )
        )


def _versions_in(message: Message) -> Mapping[str, int]:
    """Of an update: peer → its newest version in the model."""
    body = message.body
    return {**dict(body.contributions), message.sender: body.version} if isinstance(body, ModelUpdate) else {}


def _versions_apart(received: Received) -> Mapping[str, int]:
    """The same of one whose numbers travel apart from it: zeros do in their place. Raises `WireError`."""
    assert received.bulk is not None
    return _versions_in(complete(received, memoryview(bytes(received.bulk.num_bytes))).message)


class Onlooker:
    """The connections behind `Notes`. `run()` is its one task; `changed` is set whenever something was noted."""

    def __init__(self, urls: Sequence[str], root: str) -> None:
        self.notes = Notes(root=root)
        self.connected = asyncio.Event()
        self.changed = asyncio.Event()
        self._transports = [
            Transport([BrokerUrl.parse(url)], client_id=f"onlooker-{secrets.token_hex(4)}") for url in urls
        ]
        self._missing = set(range(len(urls)))

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, transport in enumerate(self._transports):
                group.create_task(self._listen(number, transport))

    async def _listen(self, number: int, transport: Transport) -> None:
        await transport.subscribe((f"{self.notes.root}/#", 1))
        running = asyncio.create_task(transport.run(), name="onlooker's connection")
        try:
            async for event in transport.events():
                match event:
                    case Arrived(topic=topic, payload=payload):
                        self.notes.take(topic, bytes(payload), number)
                        self.changed.set()
                    case Connected():
                        self._missing.discard(number)
                        if not self._missing:
                            self.connected.set()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
