"""A line that takes its time: a TCP proxy on this machine that hands every byte on a fixed time later."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK_BYTES = 65_536
_START_S = 10.0


@contextmanager
def delayed(port: int, one_way_s: float) -> Iterator[int]:
    """A port that leads to `port`, and is `one_way_s` away from it in each direction. A thread runs it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="delaying proxy", daemon=True)
    thread.start()
    proxy = _Proxy(port, one_way_s)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(_START_S)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(_START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Proxy:
    def __init__(self, port: int, one_way_s: float) -> None:
        self._port = port
        self._one_way_s = one_way_s
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            way = asyncio.create_task(self._lead(source, sink))
            self._ways.add(way)
            way.add_done_callback(self._ways.discard)

    async def _lead(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Hand on what comes, each piece when its time has come; order stays, since the time is the same for all."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(_CHUNK_BYTES):
                loop.call_later(self._one_way_s, sink.write, piece)
        loop.call_later(self._one_way_s, sink.close)
