"""What happens in a world, of all nodes, as the lines that `grapevine events --json` prints.

A world notes events as they are, and nothing where nobody wants them; they become text when they are written, now and
then. A checkpoint says how long the file was, so that a run which goes on from it cuts off what came after, and writes
that again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from grapevine_agent.core.events import Event, to_json
from grapevine_proto.errors import ConfigError

FLUSH_AT: Final = 5_000  # events that wait: some megabytes


@dataclass(kw_only=True)
class Telling:
    """The events of a world that are not written yet. A checkpoint holds it; `num_bytes` are in the file by then."""

    number: int = 0  # of the newest
    num_bytes: int = 0
    waiting: list[tuple[int, int, str, Event]] = field(default_factory=list)  # number, time, who tells it

    def tell(self, peer: str, event: Event, at_ms: int) -> None:
        """Something happened at a node."""
        self.number += 1
        self.waiting.append((self.number, at_ms, peer, event))

    @property
    def is_much(self) -> bool:
        """Whether it should be written now."""
        return len(self.waiting) >= FLUSH_AT

    def write(self, path: Path) -> None:
        """Append what waits to the file, which ends where it was written last. Raises ConfigError if that fails."""
        lines = [
            json.dumps(to_json(event, number=number, at_ms=at_ms, peer=peer), separators=(",", ":")) + "\n"
            for number, at_ms, peer, event in self.waiting
        ]
        content = "".join(lines).encode()
        try:
            with path.open("r+b" if path.exists() else "w+b") as file:
                if file.seek(0, 2) < self.num_bytes:
                    raise ConfigError(
                        f"{path}: it is shorter than when the checkpoint was made, so it cannot be gone on with: run "
                        "without --resume, or without --events"
                    )
                file.seek(0)
                if self.num_bytes == 0 and file.read(1) not in (b"", b"{"):
                    raise ConfigError(f"{path}: is there, and holds no events: name another file for --events")
                file.seek(self.num_bytes)
                file.truncate()
                file.write(content)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror}): --events needs another place") from None
        self.num_bytes += len(content)
        self.waiting.clear()
