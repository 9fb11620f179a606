"""Who holds what of the device, and what is kept of which tasks: for `status` and `forget`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from grapevine_agent.core.settings import Needs
from grapevine_agent.requests.naming import find_kept
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.room import Contents
from grapevine_agent.store.store import Store
from grapevine_proto.errors import StoreError

MIB = 2**20


def held(service: AgentService) -> dict[str, Any]:
    """What may be used of the device, what is free, and what each joined task holds."""
    reservations = service.core.tasks.reservations
    kinds = [each.name for each in fields(Needs)]
    return {
        "limits": {kind: getattr(reservations.limits, kind) for kind in kinds},
        "free": {kind: max(0, reservations.free(kind)) for kind in kinds},
        "tasks": [
            {"task": task, "name": each.name, **{kind: getattr(each.needs, kind) for kind in kinds}}
            for task, each in reservations.holdings.items()
        ],
        "saved_every_s": service.core.tasks.budget.interval_s,
    }


async def contents_of(store: Store) -> Contents | None:
    """What lies in the state folder, None where the disk does not say. A disk that is writing lets one wait."""
    try:
        return await asyncio.to_thread(store.contents)
    except StoreError:
        return None


def state_folder(service: AgentService, contents: Contents | None) -> dict[str, Any]:
    """What the state folder takes, what it may, and the models in it that are of no task that is in use."""
    core, store = service.core, service.store
    told: dict[str, Any] = {"mb": None, "limit_mb": store.cap_bytes / MIB, "left": []}
    if contents is None:
        return told
    in_use, entries = core.steward.in_use(clock.now()), core.book.entries
    left = [each for each in contents.models if each.task not in in_use]
    return told | {
        "mb": contents.num_bytes / MIB,
        "left": [
            {
                "task": each.task,
                "name": entries[each.task].brief.label if each.task in entries else "",
                "mb": each.num_bytes / MIB,
                "saved_s": each.saved_s,
            }
            for each in left
        ],
    }


class HoldingRequests:
    """What changes what is kept."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def acts(self) -> Mapping[str, Callable[..., Any]]:
        """By the names that commands use."""
        return {"forget": self.forget}

    async def forget(self, task: str) -> dict[str, Any]:
        """Delete what is kept of a task that is not joined: model, metrics, initial weights and a yes of the owner's.

        Raises TaskError for a task that is joined, or of which nothing is known or kept.
        """
        entries, kept = self._service.core.book.entries, self._service.store.kept_tasks()
        whole = await self._service.turns.look(lambda: find_kept(task, entries, kept))
        name = entries[whole].brief.name if whole in entries else ""
        return {**await self._service.tidying.forget(whole), "name": name}
