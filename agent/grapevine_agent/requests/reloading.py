"""What an owner asks for who has edited the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grapevine_agent.service.reloading import told
from grapevine_agent.service.shell import AgentService


class ReloadRequests:
    """The method `reload` of one service."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def acts(self) -> dict[str, Callable[..., Any]]:
        """What changes something, by name."""
        return {"reload": self.reload}

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again: which keys are in force now, and which need a restart. As SIGHUP does."""
        found = await self._service.reload()
        path = self._service.config.path
        return {
            "config": str(path) if path else "",
            "changed": list(found.changed),
            "restart": list(found.restart),
            "text": told(found),
        }
