"""A process and everything that it starts: on which cores, how much memory, and its end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

GOODBYE_S = 5.0
HAS_PSS = sys.platform == "linux"
MEMORY_KIND = "PSS" if HAS_PSS else "RSS"


def usable_cores() -> list[int]:
    """The numbers of the cores that we may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Bytes of memory: of a process and all that it started, and of those among them that are nodes."""

    whole: int = 0
    nodes: int = 0  # with what each of them started

    def or_more(self, other: Weighed) -> Weighed:
        """The larger of both."""
        return Weighed(whole=max(self.whole, other.whole), nodes=max(self.nodes, other.nodes))


class ProcessTree:
    """A process, and all that it has started since we began to look.

    One that was seen once is not lost when its parent ends before it does.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: dict[tuple[int, float], psutil.Process] = {}
        self.look()

    def pin(self, num_cores: int) -> None:
        """Keep the first process, and whatever it will start, on so many of the cores that we may use (Linux only)."""
        if sys.platform == "linux":
            with contextlib.suppress(psutil.NoSuchProcess):
                self._root.cpu_affinity(usable_cores()[:num_cores])

    def weigh(self, node_pids: Sequence[int] = ()) -> Weighed:
        """The memory that is theirs alone plus their shares of what they share; where Linux is not, the sum of RSS."""
        self.look()
        found = {process.pid: _memory_bytes(process) for process in self._seen.values()}
        return Weighed(whole=sum(found.values()), nodes=sum(found.get(pid, 0) for pid in _with_descendants(node_pids)))

    def end(self) -> None:
        """Ask the first one to end, give it a while, then kill whoever is left."""
        self.look()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._root.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                self._root.wait(GOODBYE_S)
        self.look()
        for process in self._seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(self._seen.values()), timeout=GOODBYE_S)

    def look(self) -> None:
        """Notice whom they have started since, and who has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._root, *self._root.children(recursive=True)):
                self._seen.setdefault((process.pid, process.create_time()), process)
        for key, process in list(self._seen.items()):
            if not process.is_running():
                del self._seen[key]


def _with_descendants(pids: Sequence[int]) -> set[int]:
    found = set(pids)
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(child.pid for child in psutil.Process(pid).children(recursive=True))
    return found


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss if HAS_PSS else process.memory_info().rss)
    except psutil.Error:  # it has just ended, or is somebody else's
        return 0
