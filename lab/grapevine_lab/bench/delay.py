"""A line that takes its time: a TCP proxy on this machine that hands every byte on a fixed time later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from grapevine_lab.proxy import Ends, Proxy, running

_CHUNK_BYTES = 65_536


@contextmanager
def delayed(port: int, one_way_s: float) -> Iterator[int]:
    """A port that leads to `port`, and is `one_way_s` away from it in each direction. A thread runs it."""
    with running(_Delay(port, one_way_s)) as line:
        yield line.port


@dataclass
class _Delay(Proxy):
    one_way_s: float

    def ways(self, here: Ends, there: Ends) -> list[Coroutine[None, None, None]]:
        return [self._lead(here[0], there[1]), self._lead(there[0], here[1])]

    async def _lead(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Hand on what comes, each piece when its time has come; order stays, since the time is the same for all."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(_CHUNK_BYTES):
                loop.call_later(self.one_way_s, sink.write, piece)
        loop.call_later(self.one_way_s, sink.close)
