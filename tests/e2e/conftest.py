"""Real brokers, one per engine and session, and transports that are closed after each test."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import pytest

from grapevine_agent.net.events import Arrived, Connected, Event
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker import RunningBroker, start_broker

DEADLINE_S = 20.0

_no_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/bin:/opt/homebrew/sbin") is None,
    reason="needs Mosquitto on this machine: apt-get install mosquitto",
)
ENGINES = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=[pytest.mark.mosquitto, _no_mosquitto]),
]

_E = TypeVar("_E", bound=Event)


@dataclass(frozen=True)
class SharedBroker:
    """A broker that other tests use too: stay under `root`."""

    url: str
    root: str


@pytest.fixture(scope="session", params=ENGINES)
def shared_engine(request: pytest.FixtureRequest) -> Iterator[RunningBroker]:
    with start_broker(request.param) as running:
        yield running


@pytest.fixture
def broker(shared_engine: RunningBroker) -> SharedBroker:
    """A running broker of each engine, and a root topic of the test's own."""
    return SharedBroker(url=shared_engine.url, root=f"test/{secrets.token_hex(6)}")


@pytest.fixture(params=ENGINES)
def private_broker(request: pytest.FixtureRequest) -> Iterator[RunningBroker]:
    """A running broker of each engine that the test may stop, kill and restart on the same port."""
    with start_broker(request.param) as running:
        yield running


@dataclass
class Client:
    """A transport under test, its running task, and what it told so far."""

    transport: Transport
    task: asyncio.Task[None]
    _stream: AsyncIterator[Event] = field(init=False)

    def __post_init__(self) -> None:
        self._stream = self.transport.events()

    async def next(self, kind: type[_E]) -> _E:
        """Skip events until one of `kind` comes."""
        async with asyncio.timeout(DEADLINE_S):
            async for event in self._stream:
                if isinstance(event, kind):
                    return event
        raise AssertionError(f"the transport ended without {kind.__name__}")

    async def arrival(self, topic: str) -> Arrived:
        """Skip events until a message on `topic` comes."""
        while (event := await self.next(Arrived)).topic != topic:
            pass
        return event

    async def rest(self) -> list[Event]:
        """Return everything up to the end."""
        return [event async for event in self._stream]


Connect: TypeAlias = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make a transport to one or more URLs: `await connect(url, …, subscribe=("a/#",), wait=True, **options)`."""
    clients: list[Client] = []

    async def make(*urls: str, subscribe: tuple[str, ...] = (), wait: bool = True, **options: Any) -> Client:
        defaults: dict[str, Any] = {"client_id": f"test-{secrets.token_hex(6)}", "backoff_s": (0.05, 0.2)}
        transport = Transport([BrokerUrl.parse(url) for url in urls], **(defaults | options))
        await transport.subscribe(*((each, 1) for each in subscribe))
        client = Client(transport, asyncio.create_task(transport.run()))
        clients.append(client)
        if wait:
            await client.next(Connected)
        return client

    yield make
    for client in clients:
        await client.transport.disconnect()
        await client.task
