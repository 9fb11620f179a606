"""What stands in for the service's trainers in this process: how a step is made is for its subclass to say."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from grapevine_agent.core import effects as fx

Done: TypeAlias = Callable[[fx.Trained | fx.Evaluated], None]


class TrainersHere(ABC):
    """As `Trainers`, for one task."""

    def __init__(self) -> None:
        self.room_mb: Callable[[str], int] = lambda _task: 0
        self.look: object = None
        self._work: set[asyncio.Task[None]] = set()

    @abstractmethod
    def take(self, effect: fx.Effect, done: Done) -> None:
        """As `Trainers.take`."""

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Have something done, until all is stopped."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def status(self) -> list[dict[str, Any]]:
        """As `Trainers.status`."""
        return []

    async def stop_all(self) -> None:
        """As `Trainers.stop_all`."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
