"""A narrow line: a TCP proxy on this machine that lets so many bytes a second through in each direction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from grapevine_lab.proxy import Ends, Proxy, close, running

PIECE_BYTES = 8_192


@dataclass
class Line(Proxy):
    """One line to one port; `down` counts the bytes that came from there, `up` those that went."""

    bytes_per_s: float
    up: int = field(default=0, init=False)
    down: int = field(default=0, init=False)
    most_unread_bytes: int = field(default=PIECE_BYTES, init=False)

    def ways(self, here: Ends, there: Ends) -> list[Coroutine[None, None, None]]:
        """See `Proxy`."""
        return [self._lead(here[0], there[1], is_up=True), self._lead(there[0], here[1], is_up=False)]

    async def _lead(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_up: bool) -> None:
        """Hand on piece by piece; a line holds little, so buffers are small and whoever sends too fast waits."""
        sink.transport.set_write_buffer_limits(high=PIECE_BYTES)
        loop = asyncio.get_running_loop()
        free_s = loop.time()
        try:
            with contextlib.suppress(OSError):
                while piece := await source.read(PIECE_BYTES):
                    if is_up:
                        self.up += len(piece)
                    else:
                        self.down += len(piece)
                    sink.write(piece)
                    await sink.drain()
                    free_s = max(free_s, loop.time() - 0.01) + len(piece) / self.bytes_per_s
                    await asyncio.sleep(max(0.0, free_s - loop.time()))
        finally:
            await close(sink)


@contextmanager
def narrow_line(to: int, bytes_per_s: float) -> Iterator[Line]:
    """A line that leads to the port `to`. A thread runs it."""
    with running(Line(to, bytes_per_s)) as line:
        yield line
