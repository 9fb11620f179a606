"""What a program is told that listens to everything that happens (`grapevine events`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grapevine_agent.control.server import Streamed
from grapevine_agent.service.shell import AgentService
from grapevine_proto.errors import RequestError


class ListeningRequests:
    """See the module's docstring."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def acts(self) -> dict[str, Callable[..., Any]]:
        """The methods, by name."""
        return {"events": self.events}

    async def events(self, after: int | None = None) -> Streamed:
        """Who tells them, and then one event a line: from now on, or first those after number `after`."""
        if after is not None and after < 0:
            raise RequestError(f"after = {after}: must be the number of an event, or 0 for all that are kept")
        telling = self._service.telling
        about = telling.about | {"name": self._service.core.settings.name}
        return Streamed(result=about, lines=telling.listen(after))
