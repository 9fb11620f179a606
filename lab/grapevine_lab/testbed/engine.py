"""What runs the machines of a lab: processes of this host, or containers.

An engine belongs to one lab, by the lab's folder and name. One process uses it, from one thread, while the lab is up;
`remove` works from any process and at any time, also when that one is gone: what was made is written down where it is
found again. Calls block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias, get_args

from grapevine_lab.testbed.lines import Lines

MachineKind: TypeAlias = Literal["broker", "peer", "server", "engineer", "reviewer"]
MachineState: TypeAlias = Literal["running", "paused", "stopped", "killed", "absent"]
EngineName: TypeAlias = Literal["processes", "docker"]
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is to be started; `name` is the lab's only one of it.

    `folder` is on this host, and in a container at the same path: it holds `agent.toml` and `state/`, or
    `mosquitto.conf`. `brokers` are the names of those that it talks to, for a broker those that it bridges to.
    `memory_mb` and `cpus` are what its profile has; an engine that cannot hold a machine to them says so.
    """

    name: str
    kind: MachineKind
    folder: Path
    command: tuple[str, ...]
    brokers: tuple[str, ...] = ()
    port: int = 0  # that a broker listens on
    memory_mb: int | None = None
    cpus: float | None = None


class Engine(Protocol):
    """See the module's docstring. All but `check` and `remove` raise `GrapevineError` for what does not work."""

    name: EngineName
    listens_on: str  # the address that brokers listen on, as seen from inside

    @property
    def lines(self) -> Lines:
        """From each machine to its brokers: what can be done to them is alike in all engines."""

    def check(self, machines: Iterable[Machine]) -> None:
        """Whether they can be run here. Raises `ConfigError` with the remedy: no engine, no permission, no image."""

    def host_of(self, broker: Machine, *, seen_by: Machine | None) -> tuple[str, int]:
        """Where a machine, or this host itself (None), reaches a broker. It stays, and may be a proxy's."""

    def start(self, machine: Machine) -> None:
        """Start it. It need not answer yet."""

    def stop(self, name: str) -> None:
        """End it in an orderly way: it says goodbye."""

    def kill(self, name: str) -> None:
        """End it as a power cut would."""

    def pause(self, name: str) -> None:
        """Let it stand still, with its connections open."""

    def resume(self, name: str) -> None:
        """Let it go on."""

    def restart(self, name: str) -> None:
        """Start it again from its disk; stop it before, if it runs."""

    def state(self, name: str) -> MachineState:
        """How it is now. One that ended by itself is stopped."""

    def logs(self, name: str, tail: int | None) -> str:
        """What it has printed, or the last lines of it."""

    def remove(self) -> None:
        """Remove all that it has made, also after a crash. Nothing happens where nothing is left."""
