"""One thread beside the event loop, for what is large.

The loop must not stand: whoever waits for a heartbeat, or for an answer over the socket, waits for the loop. What takes
more than a few milliseconds runs here instead, one thing after the other, while whoever asked for it awaits it. NumPy
and hashlib let go of the interpreter while they work on something large, so the two go on side by side; one thread,
because on a small board the cores are the trainers'. Only a merge of models that no cache holds takes a second core for
a moment (`run_both`): it waits for memory, and trainers, which are less urgent, for neither.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Final, TypeVar

from grapevine_agent.outlasting import outlasted
from grapevine_agent.service.pulse import Pulse

T = TypeVar("T")

MOST_WAITING: Final = 64  # further ones wait until these are done before they are even taken


def run_both(one: Callable[[], None], other: Callable[[], None]) -> None:
    """Do two things at the same time; one after the other where this process may run on one core alone.

    What either raises is raised when both have ended.
    """
    if len(os.sched_getaffinity(0)) < 2:
        one()
        other()
        return
    failed: list[BaseException] = []

    def do_other() -> None:
        try:
            other()
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=do_other, name="half")
    thread.start()
    try:
        one()
    finally:
        thread.join()
    if failed:
        raise failed[0]


class Beside:
    """See the module's docstring. Called from the event loop alone. `pulse` notices who keeps the loop waiting."""

    def __init__(self, pulse: Pulse | None = None) -> None:
        self._pulse = pulse or Pulse()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside")
        self._room = asyncio.Semaphore(MOST_WAITING)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives, or raises.

        A caller that is cancelled is told so once the work has ended: so nobody can believe that a thing is free
        which the thread is still at.
        """
        async with self._room:
            with self._pulse.beside():
                return await outlasted(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def close(self) -> None:
        """Wait for the end of what runs; nothing is taken after it."""
        await asyncio.to_thread(self._thread.shutdown)
