"""Arithmetic over a large vector in two halves, at the same time where a shell can do two things at once.

One core does not read as fast as memory can be read: where models are merged that no cache holds, a second one brings
half as much again. Threads are a shell's business, though:

    with two_at_once(run_both):
        core.receive(…)

Elsewhere one half is done after the other. The numbers are the same, to the bit, since each depends on its own place
alone. What is smaller than `LARGE` is done sooner than a thread is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias

BLOCK: Final = 1 << 16  # floats; a block of 256 KiB stays in a small board's cache while voices are added to it
LARGE: Final = 1 << 20  # floats: 4 MB take about a millisecond to go through, a thread is there in a twentieth of it

Work: TypeAlias = Callable[[], None]
RunBoth: TypeAlias = Callable[[Work, Work], None]

_run_both: ContextVar[RunBoth | None] = ContextVar("run_both", default=None)


def by_halves(size: int, work: Callable[[int, int], None]) -> None:
    """Call `work(start, stop)` for all of [0, size): in one, or for two halves that meet at a multiple of `BLOCK`.

    Each call must leave alone what is not its own.
    """
    run_both = _run_both.get()
    if run_both is None or size < LARGE:
        work(0, size)
        return
    middle = size // 2 // BLOCK * BLOCK
    run_both(lambda: work(0, middle), lambda: work(middle, size))


@contextmanager
def two_at_once(run_both: RunBoth) -> Iterator[None]:
    """In this block, on this thread, `run_both` does two things at the same time. It raises what either raises."""
    token = _run_both.set(run_both)
    try:
        yield
    finally:
        _run_both.reset(token)
