"""What a process took from its start to its end, with all that it waited for: time, CPU time, memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MB: Final = 1 << 10  # of what the kernel counts in kB
# A process is charged with the memory of whoever started it, so a small one starts it. It says nothing of its own.
_STARTER: Final = (
    "import os, sys, time\n"
    "quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]\n"
    "began_s = time.perf_counter()\n"
    "child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)\n"
    "_, status, used = os.wait4(child, 0)\n"
    "took_s = time.perf_counter() - began_s\n"
    "print(took_s, used.ru_utime + used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status))"
)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent on a process and those of its children that it waited for."""

    wall_s: float
    cpu_s: float  # of all together
    peak_mb: float  # the most that the largest of them had resident
    exit_code: int

    @classmethod
    def told(cls, line: str) -> Spent:
        """Of the line that a starter writes. Raises ValueError if it is none."""
        wall_s, cpu_s, kilobytes, exit_code = line.split()
        return cls(wall_s=float(wall_s), cpu_s=float(cpu_s), peak_mb=float(kilobytes) / _MB, exit_code=int(exit_code))


def starter(words: Sequence[str]) -> list[str]:
    """The command that runs `words`, found on the PATH that it is given, and writes what was spent on them."""
    return [sys.executable, "-S", "-c", _STARTER, *words]
