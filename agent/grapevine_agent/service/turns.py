"""Whose turn it is at the core: one call after the other, in order, large ones beside the event loop.

The core is single-threaded and knows nothing of threads. A *turn* is one call into it, and the doing of its effects:

    loop:     … turn │ turn │ begins a large turn ──────────────────────────▶ effects │ turn │ …
    thread:                  └─ the call ── apart ── the call ── apart ── … ─┘
    loop:                        sockets, outbox, owner's questions: looks in here ─┘

A small turn, the usual one, runs in the loop at once. A large one runs in the thread beside it, and whoever comes after
it waits until its effects have been done: so the core sees the same calls in the same order as without a thread,
and is never in two threads at once.

Whoever only *looks* at the core does not wait for a turn, but for the next stretch of arithmetic in it (`apart`):
there the thread stands back from the core's state, which a lock says.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeVar

from grapevine_agent.core.effects import Effect
from grapevine_agent.merge.apart import told_apart
from grapevine_agent.merge.halves import two_at_once
from grapevine_agent.service.beside import Beside, run_both
from grapevine_proto.parts import LARGE

T = TypeVar("T")

LOOK_AGAIN_S: Final = 0.001


class Turns:
    """See the module's docstring. Called from the event loop alone.

    Args:
        beside: Where large turns run.
        perform: Does effects, in the loop.
    """

    def __init__(self, beside: Beside, perform: Callable[[Iterable[Effect]], None]) -> None:
        self._beside = beside
        self._perform = perform
        self._order = asyncio.Lock()  # who holds it has the turn; first come, first served
        self._core = threading.Lock()  # held by the thread of a large turn while it is at the core's state
        self._is_apart = False

    @property
    def is_beside(self) -> bool:
        """Whether a turn runs beside the loop, or is about to."""
        return self._order.locked()

    async def take(
        self,
        call: Callable[[], Iterable[Effect]],
        *,
        num_bytes: Callable[[], int] = lambda: 0,
        perform: Callable[[Iterable[Effect]], None] | None = None,
    ) -> None:
        """One turn: `call` into the core, then do its effects. Raises what they raise.

        `num_bytes`, asked when the turn has come, is the size of what is worked on; a large one runs beside. A caller
        that is cancelled meanwhile is told so after the turn, whose effects are done all the same.
        """
        perform = perform or self._perform
        async with self._order:
            if num_bytes() < LARGE:
                perform(call())
                return
            effects: list[Effect] = []
            try:
                await self._beside.run(lambda: effects.extend(self._at_the_core(call)))
            finally:
                perform(effects)  # none if it failed

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """A turn of several calls, all of them small."""
        async with self._order:
            yield

    async def look(self, read: Callable[[], T]) -> T:
        """What `read` finds at the core, changing nothing there, as soon as no thread is at it."""
        while not self._core.acquire(blocking=False):
            await asyncio.sleep(LOOK_AGAIN_S)
        try:
            return read()
        finally:
            self._core.release()

    # --- in the thread ------------------------------------------------------------------------------

    def _at_the_core(self, call: Callable[[], Iterable[Effect]]) -> list[Effect]:
        with self._core, told_apart(self._apart), two_at_once(run_both):
            return list(call())

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Let others look. Arithmetic within arithmetic is the same stretch."""
        if self._is_apart:
            yield
            return
        self._is_apart = True
        self._core.release()
        try:
            yield
        finally:
            self._core.acquire()
            self._is_apart = False
