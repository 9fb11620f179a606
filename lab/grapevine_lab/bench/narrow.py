"""A narrow line: a TCP proxy on this machine that lets so many bytes a second through in each direction."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PIECE_BYTES = 8_192
START_S = 10.0


@dataclass
class Line:
    """One line to one port; `down` counts the bytes that came from there, `up` those that went."""

    to: int
    bytes_per_s: float
    port: int = 0
    up: int = 0
    down: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen on a free port, `port`."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0, limit=PIECE_BYTES)
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
        try:
            there = await asyncio.open_connection("127.0.0.1", self.to, limit=PIECE_BYTES)
        except OSError:  # there is no broker just now
            writer.close()
            return
        for source, sink, is_up in ((reader, there[1], True), (there[0], writer, False)):
            task = asyncio.create_task(self._lead(source, sink, is_up))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _lead(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_up: bool) -> None:
        """Hand on piece by piece; a line holds little, so buffers are small and whoever sends too fast waits."""
        sink.transport.set_write_buffer_limits(high=PIECE_BYTES)
        loop = asyncio.get_running_loop()
        free_s = loop.time()
        try:
            while piece := await source.read(PIECE_BYTES):
                if is_up:
                    self.up += len(piece)
                else:
                    self.down += len(piece)
                sink.write(piece)
                await sink.drain()
                free_s = max(free_s, loop.time() - 0.01) + len(piece) / self.bytes_per_s
                await asyncio.sleep(max(0.0, free_s - loop.time()))
        except OSError:
            pass
        finally:
            sink.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await sink.wait_closed()


@contextmanager
def narrow_line(to: int, bytes_per_s: float) -> Iterator[Line]:
    """A line that leads to the port `to`. A thread runs it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="narrow line", daemon=True)
    thread.start()
    line = Line(to, bytes_per_s)
    try:
        asyncio.run_coroutine_threadsafe(line.start(), loop).result(START_S)
        yield line
    finally:
        asyncio.run_coroutine_threadsafe(line.stop(), loop).result(START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
