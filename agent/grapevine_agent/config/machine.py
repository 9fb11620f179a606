"""What this machine reports of itself: cores and memory."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MB = 1 << 20
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine reports of itself: usable cores, and memory in MB (2²⁰ bytes)."""

    cores: int
    memory_mb: int


def detect_machine() -> Machine:
    """Ask the system for usable cores and memory, a container's limit included."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no control group, or "max": no limit
        memory = min(memory, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return Machine(cores=len(os.sched_getaffinity(0)), memory_mb=max(1, memory // _MB))
