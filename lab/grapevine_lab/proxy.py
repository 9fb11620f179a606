"""A TCP proxy on this machine, run by a thread: what a line does to the bytes is for its subclass to say."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

START_S: Final = 10.0
HERE: Final = "127.0.0.1"
_PIECE_BYTES: Final = 65_536

Ends: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy(ABC):
    """One that leads to the port `to` of this machine; `host` and `port` are where it listens."""

    to: int
    host: str = field(default=HERE, kw_only=True)
    port: int = field(default=0, init=False)
    most_unread_bytes: int = field(default=65_536, init=False)  # of what comes, before who sends it waits
    _server: asyncio.Server | None = field(default=None, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @abstractmethod
    def ways(self, here: Ends, there: Ends) -> list[Coroutine[None, None, None]]:
        """What hands on the bytes of a new connection, in both directions."""

    async def may_join(self) -> None:  # noqa: B027 - most lines take whoever comes
        """Wait until a new connection may be led on: nothing keeps it here."""

    async def start(self) -> None:
        """Listen on a free port, `port`."""
        limit = self.most_unread_bytes
        self._server = await asyncio.start_server(self._join, self.host, self.port, limit=limit)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End it, and whatever goes over it."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed is closed

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joining = asyncio.current_task()
        assert joining is not None
        self._tasks.add(joining)
        try:
            await self.may_join()
            there = await asyncio.open_connection(HERE, self.to, limit=self.most_unread_bytes)
        except (OSError, asyncio.CancelledError):  # there is no broker just now, or no proxy any more
            writer.close()
            return
        finally:
            self._tasks.discard(joining)
        for way in self.ways((reader, writer), there):
            task = asyncio.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


@dataclass
class Counting(Proxy):
    """Hands on what comes, and counts it: `num_up` bytes towards the port `to`, `num_down` the other way."""

    num_up: int = field(default=0, init=False)
    num_down: int = field(default=0, init=False)

    def ways(self, here: Ends, there: Ends) -> list[Coroutine[None, None, None]]:
        """Both directions, as they come."""
        return [self._lead(here[0], there[1], is_up=True), self._lead(there[0], here[1], is_up=False)]

    async def _lead(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_up: bool) -> None:
        try:
            while piece := await source.read(_PIECE_BYTES):
                if is_up:
                    self.num_up += len(piece)
                else:
                    self.num_down += len(piece)
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass  # whoever was there is not any more
        finally:
            await close(sink)  # also when the proxy ends before the connection does


async def close(sink: asyncio.StreamWriter) -> None:
    """End a direction, whatever has become of its connection."""
    sink.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await sink.wait_closed()


P = TypeVar("P", bound=Proxy)


@contextmanager
def running(proxy: P) -> Iterator[P]:
    """The proxy, while a thread runs it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=type(proxy).__name__, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(START_S)
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
