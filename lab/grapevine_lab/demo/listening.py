"""The demo as an onlooker on the overlay: it hears what the agents say of themselves, and nothing else.

What the report says about accuracy is what the agents published, signed, over MQTT. Whoever is on
the same broker could have heard the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_agent.net.events import Arrived, Connected, Disconnected, Trying
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_lab.demo.plan import DemoError
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Metrics, PeerAnnouncement, ServerAdvert
from grapevine_proto.replay import ReplayGuard

ServerEvent: TypeAlias = Literal["appeared", "gone"]

_QUIET_TRIES = 3  # a broker that was just started may need them


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation that an agent published: the accuracy of its released model on the test set."""

    t_s: float
    round: int
    accuracy: float


@dataclass(kw_only=True)
class Hearing:
    """All that was heard. `agents` are the peers whose accuracies count.

    Times are seconds since learning began, given by the caller.
    """

    agents: Collection[str]
    num_messages: int = 0
    series: dict[str, list[Point]] = field(default_factory=dict)
    newest: dict[str, Metrics] = field(default_factory=dict)
    joined: dict[str, set[str]] = field(default_factory=dict)  # task → peers that ever said they are members
    server_seen: list[tuple[float, ServerEvent]] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    is_over: bool = False  # what agents say of their progress no longer counts
    records: set[str] = field(default_factory=set)  # topics on which the broker holds something retained
    replays: ReplayGuard = field(default_factory=ReplayGuard)

    def __post_init__(self) -> None:
        self.series.update((agent, []) for agent in self.agents)

    def hear(self, root: str, name: str, payload: bytes, t_s: float) -> tuple[str, Metrics] | None:
        """Take what arrived on a topic; count it if it is wrong. Returns an agent and its metrics, if it is that."""
        self.num_messages += 1
        try:
            topic = topics.parse(root, name)
            if not payload:
                self.records.discard(name)
                return None
            received = open_envelope(payload, topic)
            if received.is_record:
                self.records.add(name)
            else:
                self.replays.check(received.message)
        except WireError as error:
            self.rejected[error.reason] = self.rejected.get(error.reason, 0) + 1
            return None
        sender = received.message.sender
        match received.message.body:
            case PeerAnnouncement(tasks=tasks):
                for task in tasks:
                    self.joined.setdefault(task, set()).add(sender)
            case Metrics() as metrics:
                # Who says how it does at a task is at it, announced or not.
                self.joined.setdefault(metrics.task, set()).add(sender)
                return self._note(sender, metrics, t_s)
            case ServerAdvert(online=online):
                event: ServerEvent = "appeared" if online else "gone"
                if not self.server_seen or self.server_seen[-1][1] != event:
                    self.server_seen.append((t_s, event))
        return None

    def _note(self, sender: str, metrics: Metrics, t_s: float) -> tuple[str, Metrics] | None:
        if sender not in self.series or self.is_over:
            return None
        if metrics.metric is None:
            return None  # it has measured nothing
        self.newest[sender] = metrics
        self.series[sender].append(Point(t_s=t_s, round=metrics.round, accuracy=metrics.metric))
        return sender, metrics

    def server_appeared_s(self) -> float | None:
        """When the server first said that it is there."""
        return next((t_s for t_s, event in self.server_seen if event == "appeared"), None)


class Listener:
    """The connection behind a `Hearing`. `run()` is its one task; `news` holds what agents say of their progress.

    Learning begins, and time with it, when the first agent says how it does.

    Args:
        broker: Where to listen.
        root: The topic root of this demo, which nobody else uses.
        agents: The peers whose accuracies count.
    """

    def __init__(self, broker: BrokerUrl, root: str, agents: Collection[str]) -> None:
        self.hearing = Hearing(agents=agents)
        self.news: asyncio.Queue[tuple[str, Metrics]] = asyncio.Queue()
        self.connected = asyncio.Event()
        self.learning = asyncio.Event()
        self._root = root
        self._began_s: float | None = None
        self._transport = Transport([broker], client_id=f"grapevine-demo-{secrets.token_hex(4)}")

    def now_s(self) -> float:
        """Seconds since learning began; 0 before."""
        return 0.0 if self._began_s is None else asyncio.get_running_loop().time() - self._began_s

    async def run(self) -> None:
        """Listen until cancelled.

        Raises:
            DemoError: The broker cannot be reached, or refuses to let us listen.
        """
        records = [topics.every_peer(leaf) for leaf in ("announcement", "state")]
        records += [topics.every_task(leaf) for leaf in ("manifest", "review", "server")]
        filters = [*records, topics.every_task("metrics")]
        await self._transport.subscribe(*((f"{self._root}/{each}", 1) for each in filters))
        running = asyncio.create_task(self._transport.run(), name="listener's connection")
        try:
            await self._read()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _read(self) -> None:
        num_tries = 0
        async for event in self._transport.events():
            match event:
                case Arrived(topic=name, payload=payload):
                    if news := self.hearing.hear(self._root, name, bytes(payload), self.now_s()):
                        if self._began_s is None:
                            self._began_s = asyncio.get_running_loop().time()
                            self.learning.set()
                        self.news.put_nowait(news)
                case Connected(url=url, refused=refused):
                    if refused:
                        raise DemoError(
                            f"{url} refuses to let the demo listen on {', '.join(refused)}: check its rules"
                        )
                    self.connected.set()
                case Trying(url=url, reason=reason):
                    num_tries += 1
                    if num_tries >= _QUIET_TRIES and not self.connected.is_set():
                        raise DemoError(f"no broker answers at {url} ({reason}): start it, or leave --broker out")
                case Disconnected(url=url, reason=reason):
                    self.connected.clear()

    async def erase_records(self) -> None:
        """Leave an external broker as it was: erase what this demo had it retain."""
        async with asyncio.timeout(5.0):
            for name in sorted(self.hearing.records):
                await self._transport.publish(name, b"", retain=True)
