"""An onlooker on every broker, who takes down each message of a real run: the only source of what is said about it."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Metrics, ModelUpdate
from grapevine_proto.topics import InboxTopic, PeerLeaf, TaskLeaf

Leaf: TypeAlias = PeerLeaf | TaskLeaf | Literal["inbox"]


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


@dataclass(kw_only=True)
class Notes:
    """All that was heard."""

    root: str
    passed: list[Passed] = field(default_factory=list)
    rounds: dict[str, int] = field(default_factory=dict)  # peer → rounds that it has behind it, as it says
    rejected: Counter[str] = field(default_factory=Counter)

    def take(self, name: str, payload: bytes, broker: int = 0) -> None:
        """Note what arrived on a topic; count it if it is wrong."""
        try:
            topic = topics.parse(self.root, name)
            received = open_envelope(payload, topic)
            message = received.message
        except WireError as error:
            self.rejected[error.reason] += 1
            return
        body = message.body
        versions = {**dict(body.contributions), message.sender: body.version} if isinstance(body, ModelUpdate) else {}
        metrics = body if isinstance(body, Metrics) else None
        if metrics is not None:
            done = metrics.round - 1  # the round that has begun is not behind it
            self.rounds[message.sender] = max(self.rounds.get(message.sender, 0), done)
        self.passed.append(
            Passed(
                t_s=message.created_at_ms / 1000,
                sender=message.sender,
                receiver=topic.receiver if isinstance(topic, InboxTopic) else "",
                leaf="inbox" if isinstance(topic, InboxTopic) else topic.leaf,
                num_bytes=len(payload),
                versions=versions,
                metrics=metrics,
                broker=broker,
                hops=received.hops,
            )
        )


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
