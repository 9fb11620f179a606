"""The service under a supervisor: what it is told, when it asks for a reload, and when it ends us.

    begin ─▶ READY=1 ─▶ every few seconds WATCHDOG=1, and STATUS=… if that is another one; that at once when a broker
                                                             took us in or let us go
    SIGHUP ─▶ RELOADING=1 ─▶ READY=1, whatever comes of it; the log says what
    SIGTERM ─▶ STOPPING=1 ─▶ goodbye, models saved

Ready means that commands are answered. Whether a broker is there is in the status: an agent without one goes on with
what it has, and starting it again would bring none.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from grapevine_agent.printable import printable
from grapevine_agent.service import clock
from grapevine_agent.service.reloading import told
from grapevine_agent.service.shell import AgentService
from grapevine_agent.supervision import Supervisor
from grapevine_proto.errors import GrapevineError

logger = logging.getLogger(__name__)

STATUS_EVERY_S: Final = 10.0  # a wake-up and a few comparisons


class Supervised:
    """See the module's docstring. Called from the event loop alone.

    Args:
        service: What is supervised.
        supervisor: Who is told.
        status_every_s: How often to look whether the status is another one.
    """

    def __init__(
        self, service: AgentService, supervisor: Supervisor, *, status_every_s: float = STATUS_EVERY_S
    ) -> None:
        self._service = service
        self._supervisor = service.supervisor = supervisor
        self._every_s = min(supervisor.every_s or status_every_s, status_every_s)
        self._reload: asyncio.Task[None] | None = None
        self._again = False
        self._telling: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Commands are answered from now on."""
        self._supervisor.ready(describe(self._service))
        if self._supervisor.listens:
            self._telling = asyncio.create_task(self._tell(), name="supervisor")
            self._service.on_connection = self._tell_status

    def stop(self) -> None:
        """Have the service leave."""
        self._supervisor.stopping()
        self._service.stop()

    def reload_soon(self) -> None:
        """Have the configuration read again; asked while that goes on, once more after it."""
        if self._reload is not None and not self._reload.done():
            self._again = True
            return
        self._reload = asyncio.create_task(self.reload(), name="reload")
        self._reload.add_done_callback(self._reloaded)

    async def reload(self) -> None:
        """Read the configuration again, and log what came of it. What is wrong with it is logged, too."""
        try:
            found = await self._service.reload()
        except GrapevineError as error:
            logger.error("not reloaded, and nothing was changed: %s", printable(str(error)))
        except Exception:
            logger.exception("not reloaded")
        else:
            logger.info("reloaded: %s", told(found))

    async def end(self) -> None:
        """Tell nothing more."""
        self._service.on_connection = lambda: None
        for task in (self._telling, self._reload):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _reloaded(self, _task: asyncio.Task[None]) -> None:
        if self._again:
            self._again = False
            self.reload_soon()

    async def _tell(self) -> None:
        while True:
            self._supervisor.alive()
            self._tell_status()
            await asyncio.sleep(self._every_s)

    def _tell_status(self) -> None:
        self._supervisor.status(describe(self._service))


def describe(service: AgentService) -> str:
    """What the service does, in one line: `connected to mqtt://hub.local:1883; 3 peers; learns 2 tasks`."""
    core, attachments = service.core, service.attachments
    connected = [url for each in attachments if (url := each.transport.connected_to) is not None]
    if core.sleep.is_asleep:
        where = "asleep"
    elif connected:
        where = f"connected to {', '.join(str(url.without_credentials()) for url in connected)}"
    else:
        where = f"waits for a broker: {attachments.trouble or 'none has answered yet'}"
    num_peers = core.members.num_alive(clock.now().monotonic_s)
    learns = _counted(len(core.tasks.learning), "learns", "task")
    serves = _counted(len(core.tasks.aggregating), "serves", "task")
    return "; ".join(each for each in (where, _counted(num_peers, "", "peer"), learns, serves) if each)


def _counted(num: int, verb: str, noun: str) -> str:
    """Some of them, and nothing of none."""
    return f"{verb} {num:,} {noun}{'' if num == 1 else 's'}".strip() if num else ""
