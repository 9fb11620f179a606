"""The engine that needs nothing but Mosquitto: each machine is a process of this host, each line a proxy's.

A process leads a session of its own, so that Ctrl-C does not reach it, and the kernel kills it when the one that uses
this engine ends (`grapevine_broker.leash`). Beside that each is written down with its process id and the moment of its
start: `remove` ends exactly those, from any process. Profiles' CPU and memory are not enforced here; what agents hold
themselves to by their configuration is.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from grapevine_broker.mosquitto import find_mosquitto
from grapevine_lab.proxy import HERE
from grapevine_lab.testbed.engine import EngineName, Machine, MachineState
from grapevine_lab.testbed.lines import Lines
from grapevine_lab.testbed.room import check_room
from grapevine_lab.testbed.store import append, entries
from grapevine_proto.errors import BrokerError, ConfigError, GrapevineError

JOURNAL: Final = "processes.jsonl"
LOG: Final = "log"
GOODBYE_S: Final = 8.0
START_TOLERANCE_S: Final = 0.05


@dataclass
class _Running:
    machine: Machine
    process: subprocess.Popen[bytes]
    is_paused: bool = False
    was_killed: bool = field(default=False)


class ProcessEngine:
    """See the module's docstring, and `Engine` for the methods."""

    name: EngineName = "processes"
    listens_on = HERE

    def __init__(self, folder: Path, _name: str) -> None:
        self._folder = folder
        self.lines = Lines()
        self._running: dict[str, _Running] = {}

    def check(self, machines: Iterable[Machine]) -> None:
        """See `Engine`."""
        try:
            find_mosquitto()
        except BrokerError as error:
            raise ConfigError("no mosquitto on this machine: install it (Debian: apt-get install mosquitto)") from error
        check_room(machines)

    def host_of(self, broker: Machine, *, seen_by: Machine | None) -> tuple[str, int]:
        """See `Engine`."""
        port = self.lines.port(seen_by.name, broker.name, broker.port) if seen_by is not None else broker.port
        return HERE, port

    def start(self, machine: Machine) -> None:
        """See `Engine`."""
        if self.state(machine.name) in ("running", "paused"):
            raise GrapevineError(f"{machine.name} runs already")
        command = [sys.executable, "-m", "grapevine_broker.leash", "--kill", str(os.getpid()), *_program(machine)]
        with (machine.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd=machine.folder,
                start_new_session=True,
            )
        self._note(machine.name, process.pid)
        self._running[machine.name] = _Running(machine, process)

    def stop(self, name: str) -> None:
        """See `Engine`."""
        running = self._find(name)
        if running.is_paused:
            self.resume(name)
        with contextlib.suppress(ProcessLookupError):
            running.process.terminate()
        try:
            running.process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._end(running)

    def kill(self, name: str) -> None:
        """See `Engine`."""
        running = self._find(name)
        running.was_killed = running.was_killed or self.state(name) in ("running", "paused")
        self._end(running)

    def pause(self, name: str) -> None:
        """See `Engine`."""
        running = self._alive(name)
        for each in _family(running.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.suspend()
        running.is_paused = True

    def resume(self, name: str) -> None:
        """See `Engine`."""
        running = self._alive(name)
        for each in _family(running.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()
        running.is_paused = False

    def restart(self, name: str) -> None:
        """See `Engine`."""
        running = self._find(name)
        if self.state(name) in ("running", "paused"):
            self.stop(name)
        self.start(running.machine)

    def state(self, name: str) -> MachineState:
        """See `Engine`."""
        running = self._running.get(name)
        if running is None:
            return "absent"
        if running.process.poll() is None:
            return "paused" if running.is_paused else "running"
        return "killed" if running.was_killed else "stopped"

    def logs(self, name: str, tail: int | None) -> str:
        """See `Engine`."""
        text = (self._find(name).machine.folder / LOG).read_text(encoding="utf-8", errors="replace")
        return text if tail is None else "".join(text.splitlines(keepends=True)[-tail:])

    def remove(self) -> None:
        """See `Engine`. Those that we started ourselves are ended in an orderly way."""
        self._leave()
        journal = self._folder / JOURNAL
        doomed = [process for entry in entries(journal) if (process := _still_there(entry)) is not None]
        families = [each for process in doomed for each in _family(process.pid)]
        for each in families:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(families, timeout=GOODBYE_S)
        self.lines.close()
        journal.unlink(missing_ok=True)

    def _leave(self) -> None:
        """Let agents say goodbye while their brokers are there, all at once, then the brokers."""
        for is_broker in (False, True):
            leaving = [
                each
                for each in self._running.values()
                if (each.machine.kind == "broker") == is_broker and each.process.poll() is None
            ]
            for each in leaving:
                if each.is_paused:
                    self.resume(each.machine.name)
                with contextlib.suppress(ProcessLookupError):
                    each.process.terminate()
            deadline_s = time.monotonic() + GOODBYE_S
            for each in leaving:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    each.process.wait(max(0.01, deadline_s - time.monotonic()))
                self._end(each)

    def _end(self, running: _Running) -> None:
        """Kill it with all that it has started."""
        if running.process.poll() is None:
            for each in _family(running.process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        running.process.wait()

    def _find(self, name: str) -> _Running:
        if name not in self._running:
            raise GrapevineError(f"{name} has not been started")
        return self._running[name]

    def _alive(self, name: str) -> _Running:
        running = self._find(name)
        if running.process.poll() is not None:
            raise GrapevineError(f"{name} does not run; start it with: grapevine lab restart {name}")
        return running

    def _note(self, name: str, pid: int) -> None:
        started_s = psutil.Process(pid).create_time()
        append(self._folder / JOURNAL, {"name": name, "pid": pid, "started_s": started_s})


def _program(machine: Machine) -> list[str]:
    """Its command, with the programs of this host in their places."""
    program, *arguments = machine.command
    match program:
        case "grapevine":
            return [sys.executable, "-m", "grapevine_agent", *arguments]
        case "mosquitto":
            return [find_mosquitto(), *arguments]
    return [program, *arguments]


def _environment() -> dict[str, str]:
    """Ours, without what is the owner's own, and with one thread for each: they share this machine's few cores."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GRAPEVINE_")}
    return own | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started, itself first."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _still_there(entry: dict[str, Any]) -> psutil.Process | None:
    """The process of an entry, unless it is gone and its number is another's."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(entry["pid"]))
        if abs(process.create_time() - float(entry["started_s"])) < START_TOLERANCE_S:
            return process
    return None
