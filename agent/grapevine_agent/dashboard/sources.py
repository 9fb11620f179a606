"""What a dashboard shows: agents by their sockets, or a file of events; and what can be done there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["agent", "lab", "demo", "replay"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Either `sockets` or a `file`.

    Args:
        kind: In a word.
        name: Of the agent, the lab, the file: shown as the title.
        sockets: Patterns (`glob`) of control sockets, looked for each second: agents come and go.
        file: Of event lines, as `grapevine events --json` writes them, to be told again.
        broker_of: The name of a broker, by the name of an agent and the URL under which that agent knows it.
        states: What whoever started the agents knows of them, by the agents' names: "running", "paused", "stopped",
            "killed" or "absent". It may block, and is called in a thread.
        roles: "member", "server", "engineer" or "reviewer" by the agents' names, where they are known.
        profiles: Firmware profiles by the agents' names, where they are known before anybody is asked.
        actions: What can be done beside what agents are asked for, by name. They may block, are called in a thread,
            get the action's parameters with the names of agents in place of their ids, say what they have done, and
            raise `GrapevineError` if they cannot.
    """

    kind: Kind
    name: str
    sockets: tuple[str, ...] = ()
    file: Path | None = None
    broker_of: Callable[[str, str], str] | None = None
    states: Callable[[], Mapping[str, str]] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[str, str] = field(default_factory=dict)
    actions: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)
