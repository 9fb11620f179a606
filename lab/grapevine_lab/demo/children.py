"""The demo's processes: started with a log each, watched, and never left behind.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which
then lets the children say goodbye. Should the demo itself be killed, the kernel ends them (see
`grapevine_broker.leash`). Start them from the main thread: the kernel takes that one for the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grapevine_lab.demo.plan import DemoError

GOODBYE_S = 5.0
TAIL_LINES = 12


class ChildDiedError(DemoError):
    """A process ended that should not have; `child` says which one."""

    def __init__(self, child: str, message: str) -> None:
        super().__init__(message)
        self.child = child


@dataclass(eq=False)
class Child:
    """One running process, and the file that takes what it prints."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    expected_to_end: bool = field(default=False)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


class Children:
    """All processes of one demo.

    Args:
        logs: The folder of their logs.
        extra_environment: Variables that they get beside ours. Our own `GRAPEVINE_…` are not passed
            on: they are the owner's settings, and these processes have theirs.
    """

    def __init__(self, logs: Path, extra_environment: Mapping[str, str] | None = None) -> None:
        self.logs = logs
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAPEVINE_")} | {
            # Several processes with a pool of threads each would fight for the same few cores.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            **(extra_environment or {}),
        }
        self._children: list[Child] = []
        self._watching: set[asyncio.Task[None]] = set()
        self._died: asyncio.Future[Child] = asyncio.get_running_loop().create_future()

    @property
    def num_started(self) -> int:
        """How many there have been."""
        return len(self._children)

    @property
    def running_pids(self) -> tuple[int, ...]:
        """Process ids of the children that have not ended."""
        return tuple(child.process.pid for child in self._children if child.process.returncode is None)

    async def start(self, name: str, command: Sequence[str], *, talks: bool = False) -> Child:
        """Start `python -m …` with the given arguments. With `talks`, its input and output are pipes."""
        log = self.logs / f"{name.replace(' ', '-')}.log"
        leash = [sys.executable, "-m", "grapevine_broker.leash", str(os.getpid())]
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *leash,
                sys.executable,
                *("-m", *command),
                stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talks else file,
                stderr=file,
                env=self._environment,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        watching = asyncio.create_task(self._watch(child), name=f"watch of {name}")
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return child

    async def run(self, name: str, command: Sequence[str]) -> str:
        """Run a command to its end; return what it wrote to its standard output.

        Raises:
            ChildDiedError: It failed.
        """
        child = await self.start(name, command, talks=True)
        child.expected_to_end = True
        output, _ = await child.process.communicate()
        if child.process.returncode != 0:
            raise _death_of(child)
        return output.decode(errors="replace")

    async def first_line(self, child: Child) -> str:
        """What a child that talks says first.

        Raises:
            ChildDiedError: It ended before it said anything.
        """
        assert child.process.stdout is not None
        line = await child.process.stdout.readline()
        if not line:
            child.expected_to_end = True  # what it died of is told here
            await child.process.wait()
            raise _death_of(child)
        return line.decode(errors="replace").strip()

    async def kill(self, child: Child) -> None:
        """End a child, and whatever it has started, with SIGKILL."""
        child.expected_to_end = True
        _signal_group(child, signal.SIGKILL)
        await child.process.wait()

    async def watch(self) -> None:
        """Wait for a child that ends without being expected to, and raise ChildDiedError."""
        raise _death_of(await asyncio.shield(self._died))

    async def end_all(self) -> None:
        """Let them say goodbye (SIGTERM), then make sure (SIGKILL)."""
        running = [child for child in self._children if child.process.returncode is None]
        for child in running:
            child.expected_to_end = True
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
        leaving = [asyncio.create_task(child.process.wait()) for child in running]
        if leaving:
            await asyncio.wait(leaving, timeout=GOODBYE_S)
        for child in running:
            _signal_group(child, signal.SIGKILL)
        await asyncio.gather(*leaving, *self._watching, return_exceptions=True)

    def keep_logs(self, folder: Path) -> None:
        """Copy all logs to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for child in self._children:
            shutil.copy(child.log, folder / child.log.name)

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        if not child.expected_to_end and not self._died.done():
            self._died.set_result(child)


def _signal_group(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)


def _death_of(child: Child) -> ChildDiedError:
    status = child.process.returncode
    how = f"was ended by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
    tail = child.tail()
    said = f"; the end of its log:\n{tail}" if tail else " without a word"
    return ChildDiedError(child.name, f"{child.name} {how}{said}")
