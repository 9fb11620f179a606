"""The lines of a lab: from each machine to each broker that it talks to, through a proxy that can do what networks do.

delay   each byte arrives so much later, in each direction
limit   so many bits a second, in each direction and to each broker
cut     nothing passes any more, and nobody is told: connections hang, new ones are taken and hear nothing
heal    what was held passes, late, as TCP would send it again; an end that has given up meanwhile is told then
drop    the connections that there are break, at both ends
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

from grapevine_lab.proxy import HERE, START_S, Ends, Proxy, close

Pair: TypeAlias = tuple[str, str]  # a machine, and a broker
T = TypeVar("T")

PIECE_BYTES: Final = 16_384
MOST_HELD: Final = 64  # pieces that are on their way; who sends more has to wait


@dataclass
class Line(Proxy):
    """One line, with however many connections. `delay_s` and `bytes_per_s` (0: any) may change while it is used."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    most_unread_bytes: int = field(default=PIECE_BYTES, init=False)
    passes: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _ends: set[asyncio.StreamWriter] = field(default_factory=set, init=False)
    _free_s: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.passes.set()

    async def may_join(self) -> None:
        """See `Proxy`: while the line is cut, a new connection hears nothing."""
        await self.passes.wait()

    def ways(self, here: Ends, there: Ends) -> list[Coroutine[None, None, None]]:
        """See `Proxy`."""
        self._ends |= {here[1], there[1]}
        return [self._lead(here[0], there[1], "up"), self._lead(there[0], here[1], "down")]

    def drop(self) -> None:
        """Break the connections that there are."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _lead(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str) -> None:
        """Read at the line's rate, and hand on when each piece's time has come."""
        coming: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_HELD)
        handing = asyncio.create_task(self._hand_on(coming, sink))
        loop = asyncio.get_running_loop()
        try:
            piece = b"-"
            while piece:
                await self.passes.wait()
                try:
                    piece = await source.read(PIECE_BYTES)
                except OSError:
                    piece = b""
                if self.bytes_per_s:
                    free_s = max(self._free_s.get(way, 0.0), loop.time()) + len(piece) / self.bytes_per_s
                    self._free_s[way] = free_s
                    await asyncio.sleep(max(0.0, free_s - loop.time()))
                await coming.put((loop.time() + self.delay_s, piece))
            await handing
        finally:
            handing.cancel()
            self._ends.discard(sink)
            await close(sink)

    async def _hand_on(self, coming: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while (item := await coming.get())[1]:
            due_s, piece = item
            if (early_s := due_s - loop.time()) > 0:
                await asyncio.sleep(early_s)
            await self.passes.wait()
            with contextlib.suppress(OSError):  # it is gone: what comes for it is taken all the same
                sink.write(piece)
                await sink.drain()
        await self.passes.wait()


class Lines:
    """All lines of a lab, run by a thread from the first `port` on until `close`. They begin at `host`, one of ours."""

    def __init__(self, host: str = HERE) -> None:
        self.host = host
        self._lines: dict[Pair, Line] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def pairs(self) -> frozenset[Pair]:
        """The lines that there are."""
        return frozenset(self._lines)

    def port(self, machine: str, broker: str, to: int) -> int:
        """Where on `host` a machine's line to a broker begins, which ends at the port `to`. It stays."""
        line = self._lines.get((machine, broker))
        if line is None:
            line = Line(to, host=self.host)
            self._within(line.start())
            self._lines[machine, broker] = line
        return line.port

    def shape(self, machine: str, *, delay_ms: float, kbit_per_s: float) -> None:
        """Delay and narrow all lines of a machine; 0 is none of it."""
        for line in self._of(machine):
            line.delay_s, line.bytes_per_s = delay_ms / 1000, kbit_per_s * 125

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Let nothing pass on these lines."""
        self._set(pairs, lambda line: line.passes.clear())

    def heal(self, pairs: Iterable[Pair] | None = None) -> None:
        """Let everything pass again on these lines, or on all."""
        self._set(self._lines if pairs is None else pairs, lambda line: line.passes.set())

    def drop(self, machine: str) -> None:
        """Break a machine's connections."""
        for line in self._of(machine):
            self._do(line.drop)

    def close(self) -> None:
        """End all lines, and the thread."""
        if self._loop is None or self._thread is None:
            return
        for line in self._lines.values():
            self._within(line.stop())
        self._lines.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def _of(self, machine: str) -> list[Line]:
        return [line for (name, _), line in self._lines.items() if name == machine]

    def _set(self, pairs: Iterable[Pair], change: Callable[[Line], object]) -> None:
        for pair in tuple(pairs):
            if (line := self._lines.get(pair)) is not None:
                self._do(lambda line=line: change(line))  # type: ignore[misc]

    def _do(self, what: Callable[[], object]) -> None:
        async def do() -> None:
            what()

        self._within(do())

    def _within(self, doing: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="lines", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(START_S)
