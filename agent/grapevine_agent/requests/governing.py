"""`pause` and `resume`: the owner's word to the governor, and what holds after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from grapevine_agent.core.governor.pauses import ALL
from grapevine_agent.core.spans import LONGEST_PAUSE_S
from grapevine_agent.requests.naming import find_task
from grapevine_agent.requests.parameters import within
from grapevine_agent.service.saving import DECISIONS
from grapevine_agent.service.shell import AgentService

SHORTEST_S = 1.0


class GovernorRequests:
    """See the module's docstring."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def acts(self) -> Mapping[str, Callable[..., Any]]:
        """By the names that commands use."""
        return {"pause": self.pause, "resume": self.resume}

    async def pause(self, task: str = "", for_s: float | None = None) -> dict[str, Any]:
        """Pause training, of one task or of all: for so many seconds, or until it is resumed."""
        if for_s is not None:
            within(for_s, SHORTEST_S, LONGEST_PAUSE_S, "for_s")
        whole = await self._whole(task)
        await self._service.governor.pause(for_s, whole)
        return await self._standing(whole)

    async def resume(self, task: str = "") -> dict[str, Any]:
        """End a pause of a task; without one, every pause. `was_paused`: whether there was one."""
        whole = await self._whole(task)
        held = self._service.core.governing.governor.pauses.held
        was_paused = bool(held) if whole == ALL else whole in held
        await self._service.governor.resume(whole)
        return await self._standing(whole) | {"was_paused": was_paused}

    async def _whole(self, task: str) -> str:
        entries = self._service.core.book.entries
        return (await self._service.turns.look(lambda: find_task(task, entries, acts=True))).id if task else ALL

    async def _standing(self, task: str) -> dict[str, Any]:
        """What now holds. `not_saved`: why the word is not on disk yet, and a power cut undoes it."""
        service, entries = self._service, self._service.core.book.entries
        not_saved = await service.why_not_saved(DECISIONS)
        return {
            "task": task,
            "name": entries[task].brief.label if task in entries else "",
            "governor": service.governor.status(),
            "held_back": service.governor.of_task(task) if task else None,
            "not_saved": not_saved,
        }
