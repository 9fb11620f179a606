"""What the agents of a lab tell, as lines of one file: each listened to by its socket, as often as it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from grapevine_agent.control.streaming import astream
from grapevine_proto.errors import GrapevineError

AGAIN_S: Final = 0.5
MOST_BYTES: Final = 400_000_000  # of a lab that nobody takes down: then no more is written


class Telltale:
    """Listens to all agents. `run()` is its one task; `sockets` are by their machines' names."""

    def __init__(self, sockets: Mapping[str, Path], path: Path) -> None:
        self._sockets = sockets
        self._path = path
        self._num_bytes = 0

    async def run(self) -> None:
        """Listen and write until cancelled."""
        with self._path.open("a", encoding="utf-8", buffering=1) as file:
            async with asyncio.TaskGroup() as group:
                for name, socket in self._sockets.items():
                    group.create_task(self._follow(socket, file), name=f"events of {name}")

    async def _follow(self, socket: Path, file: IO[str]) -> None:
        """One agent. What it told before is told again when it is heard anew: only what is later is written."""
        last = (0, 0)  # when, and its number: a process that was started again counts from the beginning
        while True:
            try:
                lines = astream(socket, "events", {"after": 0})
                try:
                    async for event in lines:
                        at = (int(event["at_ms"]), int(event["number"]))
                        if at > last and self._num_bytes < MOST_BYTES:
                            last = at
                            text = json.dumps(event) + "\n"
                            self._num_bytes += len(text)
                            file.write(text)
                finally:
                    await lines.aclose()
            except (GrapevineError, KeyError, ValueError):
                pass  # it is not there just now
            await asyncio.sleep(AGAIN_S)
