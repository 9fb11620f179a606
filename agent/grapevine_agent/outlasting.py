"""Work in a thread that nobody leaves before it has ended.

A thread cannot be cancelled. Whoever awaits one and is cancelled must not free, or give to somebody else, what the
thread is still at: so it is told only once the thread has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from grapevine_proto.parts import LARGE

T = TypeVar("T")


async def in_a_thread(work: Callable[[], T], num_bytes: int) -> T:
    """What `work` gives, or raises; at once, in the loop, where it is about less than `LARGE` bytes."""
    if num_bytes < LARGE:
        return work()
    return await outlasted(asyncio.get_running_loop().run_in_executor(None, work))


async def outlasted(running: asyncio.Future[T]) -> T:
    """The result of what runs in a thread. A cancellation is raised when that has ended."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()  # nobody waits for it any more
        raise
