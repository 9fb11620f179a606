"""What a process may take that reads an owner's files: its memory is bounded, and it ends with its parent."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from grapevine_proto.errors import TaskError

MIB: Final = 2**20
MEMORY_SLACK: Final = 64 * MIB  # stacks of threads and arenas that are mapped but never filled
OOM_SCORE: Final = 800  # when the machine runs out of memory, this process is the one to go
GIVEN_BACK: Final = MIB
KEPT_BY_GLIBC: Final = 32 * MIB  # where glibc would have come to by itself
LIBRARIES: Final = 100 * MIB  # pages of files that a trainer has resident after a start from cold caches
_PR_SET_PDEATHSIG: Final = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class TooLittleMemoryError(TaskError):
    """The process is as large as it may be before it trains: PyTorch alone takes `bare_mb` of it."""

    bare_mb = 0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be asked
        os._exit(0)


def be_first_to_go() -> None:
    """Have the kernel kill this process first when the machine runs out of memory."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def allowed(which: int, most: int) -> int:
    """`most`, or what the hard limit `which` leaves of it: whoever started us may have set a lower one, for good."""
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


@contextmanager
def memory_limit(memory_mb: int) -> Iterator[None]:
    """Within, the process cannot grow beyond `memory_mb` (0: it can); what hits the limit is a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    if memory_mb:
        limit = allowed(resource.RLIMIT_DATA, memory_left(memory_mb))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def resident_bytes() -> int:
    """What the process holds of memory: its own, and pages of files as far as it needs them.

    Where a library lies in the page cache the kernel maps pages around each that is touched, of PyTorch some 60 MB more
    than it ever reads. They cost nothing, and are taken back where memory is short: no task is to be refused for them.
    """
    return status("RssAnon") + status("RssShmem") + min(status("RssFile"), LIBRARIES)


def memory_left(memory_mb: int) -> int:
    """The RLIMIT_DATA with which the process grows until it holds `memory_mb` (`resident_bytes`).

    It counts private writable memory whether it is filled or not, and libraries map much that they never
    fill: so the limit is what is mapped now, and what may be added to what is resident.
    """
    resident, mapped = resident_bytes(), status("VmData")
    left = memory_mb * MIB - resident
    if left <= 0:
        raise TooLittleMemoryError(
            f"the trainer takes {resident // MIB} MB before it trains; limits.memory_mb = {memory_mb} is too little"
        )
    return mapped + left + MEMORY_SLACK


def give_memory_back(*, at_least: int) -> None:
    """Have the C library give blocks of this size or more back to the system as they are freed, and now what it has.

    By itself glibc raises that size with each large block that is freed, up to 32 MB, and keeps the freed ones:
    good for training, which takes the same blocks again and again, and bad for arrays that are read once.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, at_least)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * at_least)
        library.malloc_trim(0)


def status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise TaskError(f"/proc/self/status has no {field}; write limits.memory_mb = 0 to train without a limit")
