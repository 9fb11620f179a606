"""A small board on a large machine: a control group lends a process and its children some cores and some memory.

Both versions of the kernel's control groups will do, if their folders may be written to (root, mostly).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_proto.errors import GrapevineError

GROUPS: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 100_000
_MIB = 1 << 20
_EMPTY_WITHIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What is lent, and where the kernel counts it."""

    folders: tuple[Path, ...]
    peak_file: Path

    @property
    def within(self) -> list[str]:
        """What comes before a command, so that it runs in here."""
        joins = "; ".join(f"echo $$ > {folder}/cgroup.procs" for folder in self.folders)
        return ["/bin/sh", "-c", f'set -e; {joins}; exec "$@"', "sh"]

    def peak_bytes(self) -> float:
        """The most memory that was in use at once, the page cache included."""
        return float(self.peak_file.read_text(encoding="ascii"))


def why_no_quota() -> str:
    """Why this machine lends no quota; empty if it does."""
    try:
        with quota(cores=1.0, memory_mb=512):
            return ""
    except GrapevineError as error:
        return str(error)


@contextmanager
def quota(*, cores: float, memory_mb: int) -> Iterator[Quota]:
    """A control group, until the block ends. Raises GrapevineError where none can be made."""
    name = f"grapevine-bench-{os.getpid()}"
    is_v2 = (GROUPS / "cgroup.controllers").exists()
    folders = [GROUPS / name] if is_v2 else [GROUPS / "cpu" / name, GROUPS / "memory" / name]
    cpu, memory = folders[0], folders[-1]
    quota_us, memory_bytes = str(int(cores * PERIOD_US)), str(memory_mb * _MIB)
    if is_v2:
        limits = {cpu / "cpu.max": f"{quota_us} {PERIOD_US}", memory / "memory.max": memory_bytes}
        peak = memory / "memory.peak"
    else:
        limits = {
            cpu / "cpu.cfs_period_us": str(PERIOD_US),
            cpu / "cpu.cfs_quota_us": quota_us,
            memory / "memory.limit_in_bytes": memory_bytes,
        }
        peak = memory / "memory.max_usage_in_bytes"
    try:
        _make(folders, limits)
        yield Quota(folders=tuple(folders), peak_file=peak)
    finally:
        _remove(folders)


def _make(folders: list[Path], limits: dict[Path, str]) -> None:
    try:
        for folder in folders:
            folder.mkdir()
        for file, limit in limits.items():
            file.write_text(limit, encoding="ascii")
    except OSError as error:
        why = f"no control group can be made here ({error}); it takes root, and a kernel that has them"
        raise GrapevineError(why) from None


def _remove(folders: list[Path]) -> None:
    """A group can only be removed once its last process has gone."""
    deadline_s = time.monotonic() + _EMPTY_WITHIN_S
    for folder in folders:
        while folder.exists() and time.monotonic() < deadline_s:
            with contextlib.suppress(OSError):
                folder.rmdir()
            time.sleep(0.05)
