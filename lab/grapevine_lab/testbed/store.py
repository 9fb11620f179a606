"""A lab on disk: where it is, and what it is made of.

lab.json                 what is below; written before anything starts
keeper.sock  keeper.log  the process that keeps it, while it is up
processes.jsonl          what the engine has made
task/                    the built task
machines/NAME/           of each machine: agent.toml and state/, or mosquitto.conf; share.npz, log
timeline.jsonl           what was done to it, and when
passed.jsonl             every message that passed a broker
events.jsonl             what the agents tell
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grapevine_agent.config.toml_reader import suggestion
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_lab.testbed.engine import ENGINES, Machine
from grapevine_proto.errors import ConfigError, RequestError, StoreError

if TYPE_CHECKING:
    from grapevine_lab.simulator.scenario import Scenario

FORMAT: Final = 1
FILE: Final = "lab.json"
KEEPER_SOCKET: Final = "keeper.sock"
KEEPER_LOG: Final = "keeper.log"
MACHINES: Final = "machines"
TASK: Final = "task"
TIMELINE: Final = "timeline.jsonl"
PASSED: Final = "passed.jsonl"
EVENTS: Final = "events.jsonl"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


@dataclass(kw_only=True)
class Lab:
    """See the module's docstring. `content` are the scenario's tables; `source` and `base` where they were written."""

    folder: Path
    name: str
    engine: str
    seed: int
    root: str
    source: str
    base: Path
    content: Mapping[str, Any]
    machines: tuple[Machine, ...]
    made_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    task: str = ""  # its id, once it is published
    began_s: float = 0.0  # when its reviews were there, by the wall clock
    keeper_pid: int = 0
    peer_ids: dict[str, str] = field(default_factory=dict)  # of each machine with an agent
    is_up: bool = False

    @property
    def keeper(self) -> Path:
        """The socket of the process that keeps it."""
        return self.folder / KEEPER_SOCKET

    @property
    def scenario(self) -> Scenario:
        """What it is to follow."""
        from grapevine_lab.simulator.scenario import scenario_of  # noqa: PLC0415 - most commands do without

        return scenario_of(self.content, self.base, self.source)

    @property
    def title(self) -> str:
        """What its scenario is called."""
        return str(self.content.get("scenario", {}).get("name", self.source))

    @property
    def agents(self) -> tuple[Machine, ...]:
        """All machines but the brokers."""
        return tuple(each for each in self.machines if each.kind != "broker")

    @property
    def brokers(self) -> tuple[Machine, ...]:
        """The brokers, in the scenario's order."""
        return tuple(each for each in self.machines if each.kind == "broker")

    @property
    def peers(self) -> tuple[Machine, ...]:
        """The scenario's nodes, in their order."""
        return tuple(each for each in self.machines if each.kind == "peer")

    @property
    def server_ids(self) -> list[str]:
        """The peers that tasks name as their servers."""
        return [self.peer_ids[each.name] for each in self.machines if each.kind == "server"]

    def machine(self, name: str) -> Machine:
        """Raises `RequestError` with the nearest name if there is none of it."""
        for each in self.machines:
            if each.name == name:
                return each
        raise RequestError(f"{self.name} has no machine {name!r}; {suggestion(name, [m.name for m in self.machines])}")

    def socket(self, machine: Machine) -> Path:
        """Where an agent listens."""
        return machine.folder / "state" / SOCKET_FILE

    def write(self) -> None:
        """Write `lab.json`, whole or not at all."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("folder", "machines")}
        machines = [{**asdict(each), "folder": str(each.folder)} for each in self.machines]
        told |= {"base": str(self.base), "machines": machines, "format": FORMAT}
        partial = self.folder / f"{FILE}.partial"
        partial.write_text(json.dumps(told, indent=1), encoding="utf-8")
        partial.replace(self.folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> Lab:
        """Raises `StoreError` where there is none, or one of another version."""
        try:
            told = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT or told["engine"] not in ENGINES:
                raise ValueError("it is of another version")
            machines = tuple(_machine(each) for each in told.pop("machines"))
            return cls(folder=folder, machines=machines, **{**told, "base": Path(told["base"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{folder / FILE} cannot be read ({error}): remove the folder {folder}") from error

    def note(self, what: str, **about: Any) -> None:
        """Write down what was done to it."""
        append(self.folder / TIMELINE, {"at_s": time.time(), "what": what, **about})

    def lay(self) -> None:
        """Make its folder, and where that is not in the usual place, a link there by which its name finds it.

        Raises `ConfigError` if the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.write()
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: a lab cannot be made there ({error.strerror}); name another place with --folder"
            ) from error
        link = labs_folder() / self.name
        if link != self.folder:
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_symlink():
                link.unlink()  # of a lab whose folder is gone
            link.symlink_to(self.folder)

    def remove(self) -> None:
        """Remove its folder, and the link to it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        link = labs_folder() / self.name
        if link.is_symlink() and link.readlink() == self.folder:
            link.unlink()


def _machine(told: dict[str, Any]) -> Machine:
    lists = {"command": tuple(told["command"]), "brokers": tuple(told["brokers"])}
    return Machine(**{**told, **lists, "folder": Path(told["folder"])})


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line of JSON to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON; none where there is no file, and none for half a line that a crash has left."""
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    except FileNotFoundError:
        pass
    return found


# --- all labs of this user ------------------------------------------------------------------------


def labs_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where labs lie that were given no folder."""
    environ = os.environ if environ is None else environ
    state = environ.get("XDG_STATE_HOME", "") or str(Path.home() / ".local" / "state")
    return Path(state) / "grapevine" / "labs"


def folder_for(name: str, folder: Path | None) -> Path:
    """A new lab's folder. Raises `ConfigError` for a name that is none, `RequestError` where there is one already."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: write small letters, digits and '-', as in --name classic")
    place = (folder or labs_folder() / name).absolute()
    if (place / FILE).exists() or name in lab_names():
        raise RequestError(
            f"there is a lab {name!r} already: take it down with grapevine lab down --name {name}, or give this one "
            "another --name"
        )
    if place.exists() and not place.is_dir():
        raise RequestError(f"--folder {place}: is no folder; name a new one")
    if place.exists() and any(place.iterdir()):
        raise RequestError(f"--folder {place}: is not empty; name a new folder")
    return place


def lab_names() -> list[str]:
    """Of those that lie in their usual place, or are linked there."""
    return sorted(each.parent.name for each in labs_folder().glob(f"*/{FILE}"))


def find_lab(name: str) -> Lab:
    """The lab of that name, of that folder, or for "" the only one. Raises `RequestError` with what there is."""
    if "/" in name:
        folder = Path(name).absolute()
        if not (folder / FILE).is_file():
            raise RequestError(f"there is no lab in {folder}: name one of your labs, or the folder that it was given")
        return Lab.read(folder)
    names = lab_names()
    if name in names:
        return Lab.read(_place_of(name))
    if not names:
        raise RequestError("there is no lab: make one with grapevine lab up")
    if not name and len(names) == 1:
        return Lab.read(_place_of(names[0]))
    if not name:
        raise RequestError(f"there are several labs: say which with --name {' or '.join(names)}")
    raise RequestError(f"there is no lab {name!r}; {suggestion(name, names)}")


def _place_of(name: str) -> Path:
    usual = labs_folder() / name
    return usual.readlink() if usual.is_symlink() else usual
