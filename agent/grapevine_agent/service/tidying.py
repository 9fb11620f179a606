"""Keeps the state folder within the owner's bound, and forgets a task when the owner says so."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.service.saving import Saver
from grapevine_agent.service.turns import Turns
from grapevine_agent.store.room import Tenants
from grapevine_agent.store.store import Store
from grapevine_proto.errors import StoreError, TaskError

logger = logging.getLogger(__name__)

FIRST_LOOK_S: Final = 60.0  # after the start: until then a broker has said which tasks there are
LOOK_EVERY_S: Final = 600.0
MIB: Final = 2**20


class Tidying:
    """See the module's docstring."""

    def __init__(self, core: AgentCore, turns: Turns, store: Store, saver: Saver, now: Moment) -> None:
        self._core = core
        self._turns = turns
        self._store = store
        self._saver = saver
        self._next_s = now.monotonic_s + FIRST_LOOK_S

    def is_due(self, now: Moment) -> bool:
        """Whether it is time to look; asked once for each look."""
        if now.monotonic_s < self._next_s:
            return False
        self._next_s = now.monotonic_s + LOOK_EVERY_S
        return True

    async def make_room(self, now: Moment) -> None:
        """Give up what is not in use, if the folder is over its bound."""
        try:
            await self._saver.make_room(await self._turns.look(lambda: self._tenants(now)))
        except StoreError as error:
            logger.warning("the state folder is not tidied: %s", error)

    def _tenants(self, now: Moment) -> Tenants:
        core = self._core
        in_use, own = core.steward.in_use(now), core.settings.peer
        entries = core.book.entries.values()
        needed = [each for each in entries if each.id in in_use or (each.brief.publisher == own and not each.retracted)]
        return Tenants(tasks=in_use, weights=frozenset(filter(None, map(_weights_of, needed))))

    async def forget(self, task: str) -> dict[str, Any]:
        """Delete what is kept of a task; `freed_mb` is what its models took.

        Raises TaskError if it is joined, StoreError if the disk refuses.
        """
        contents = await asyncio.to_thread(self._store.contents)
        num_bytes = sum(each.num_bytes for each in contents.models if each.task == task)
        async with self._turns.alone():
            weights = self._forgotten(task)
        await self._saver.forget(task, weights=weights, but_decision="left")
        return {"task": task, "freed_mb": num_bytes / MIB}

    def _forgotten(self, task: str) -> str:
        """Have the core forget a task; the digest of its initial weights if nobody else needs them, else empty."""
        core = self._core
        entry = core.book.entries.get(task)
        core.steward.forget(task)
        weights = _weights_of(entry) if entry is not None else ""
        others = [each for each in core.book.entries.values() if each.id != task and core.steward.matters(each.id)]
        is_needed = entry is not None and entry.brief.publisher == core.settings.peer and not entry.retracted
        return "" if is_needed or weights in map(_weights_of, others) else weights


def _weights_of(entry: TaskEntry) -> str:
    """The digest of a task's initial weights; empty where its manifest cannot be read."""
    try:
        return entry.head.initial_weights.digest
    except TaskError:
        return ""
