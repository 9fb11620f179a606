"""What Linux calls the calls that a trainer process may make, by number and by processor.

The numbers are those of the kernel's tables (`arch/*/…/syscall*.tbl`). 64-bit ARM has the generic
table; a Raspberry Pi with a 32-bit system has ARM's EABI. A call that a processor does not have is
None. Calls that are not in this list cannot be made in the sandbox: it is the list to extend when a
new version of PyTorch or of the C library needs one, and the shorter it is the better.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

ArchitectureName: TypeAlias = Literal["x86_64", "aarch64", "arm"]

# From this number on, all processors number their calls alike (pidfd_send_signal, Linux 5.1), and no
# C library takes a call from here on for granted.
FIRST_NEW_CALL: Final = 424


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A processor, as `seccomp` sees it."""

    name: ArchitectureName
    audit: int  # AUDIT_ARCH_… of linux/audit.h
    seccomp: int  # the number of seccomp(2)
    column: int  # in `CALLS`


ARCHITECTURES: Final = {
    "x86_64": Architecture(name="x86_64", audit=0xC000003E, seccomp=317, column=0),
    "aarch64": Architecture(name="aarch64", audit=0xC00000B7, seccomp=277, column=1),
    "arm": Architecture(name="arm", audit=0x40000028, seccomp=383, column=2),
}

# name: (x86_64, aarch64, arm)
CALLS: Final[dict[str, tuple[int | None, int | None, int | None]]] = {
    # Memory.
    "mmap": (9, 222, None),
    "mmap2": (None, None, 192),
    "munmap": (11, 215, 91),
    "mremap": (25, 216, 163),
    "mprotect": (10, 226, 125),
    "madvise": (28, 233, 220),
    "brk": (12, 214, 45),
    "mincore": (27, 232, 219),
    "membarrier": (324, 283, 389),
    "get_mempolicy": (239, 236, 320),
    # Threads.
    "clone": (56, 220, 120),
    "futex": (202, 98, 240),
    "futex_time64": (None, 422, 422),
    "set_robust_list": (273, 99, 338),
    "rseq": (334, 293, 398),
    "sched_yield": (24, 124, 158),
    "sched_getaffinity": (204, 123, 242),
    "sched_getparam": (143, 121, 155),
    "sched_getscheduler": (145, 120, 157),
    "sched_get_priority_max": (146, 125, 159),
    "sched_get_priority_min": (147, 126, 160),
    "getcpu": (309, 168, 345),
    "exit": (60, 93, 1),
    "exit_group": (231, 94, 248),
    "arm_cacheflush": (None, None, 0xF0002),
    "arm_set_tls": (None, None, 0xF0005),
    # What is open already.
    "read": (0, 63, 3),
    "readv": (19, 65, 145),
    "write": (1, 64, 4),
    "writev": (20, 66, 146),
    "recv": (None, None, 291),
    "recvfrom": (45, 207, 292),
    "send": (None, None, 289),
    "sendto": (44, 206, 290),
    "poll": (7, None, 168),
    "ppoll": (271, 73, 336),
    "ppoll_time64": (None, None, 414),
    "lseek": (8, 62, 19),
    "_llseek": (None, None, 140),
    "fstat": (5, 80, 108),
    "fstat64": (None, None, 197),
    "fcntl": (72, 25, 55),
    "fcntl64": (None, None, 221),
    "close": (3, 57, 6),
    # Signals, to this process alone.
    "rt_sigaction": (13, 134, 174),
    "rt_sigprocmask": (14, 135, 175),
    "rt_sigreturn": (15, 139, 173),
    "sigreturn": (None, None, 119),
    "sigaltstack": (131, 132, 186),
    "restart_syscall": (219, 128, 0),
    "kill": (62, 129, 37),
    "tgkill": (234, 131, 268),
    # Time.
    "clock_gettime": (228, 113, 263),
    "clock_gettime64": (None, None, 403),
    "clock_getres": (229, 114, 264),
    "clock_getres_time64": (None, None, 406),
    "clock_nanosleep": (230, 115, 265),
    "clock_nanosleep_time64": (None, None, 407),
    "nanosleep": (35, 101, 162),
    "gettimeofday": (96, 169, 78),
    "time": (201, None, None),
    "times": (100, 153, 43),
    # What this process is and has.
    "gettid": (186, 178, 224),
    "getpid": (39, 172, 20),
    "getppid": (110, 173, 64),
    "getuid": (102, 174, None),
    "getuid32": (None, None, 199),
    "geteuid": (107, 175, None),
    "geteuid32": (None, None, 201),
    "getrusage": (98, 165, 77),
    "getrlimit": (97, 163, None),
    "ugetrlimit": (None, None, 191),
    "prlimit64": (302, 261, 369),
    "prctl": (157, 167, 172),
    "arch_prctl": (158, None, None),
    "uname": (63, 160, 122),
    "sysinfo": (99, 179, 116),
    "getrandom": (318, 278, 384),
}


def this_architecture() -> Architecture | None:
    """The processor that this process runs on, None when there is no table for it."""
    return architecture_of(platform.machine(), pointer_bytes=struct.calcsize("P"))


def architecture_of(machine: str, *, pointer_bytes: int) -> Architecture | None:
    """The architecture of a process on a machine, as uname(2) names it.

    A 32-bit process on a 64-bit kernel sees the kernel's name, and makes 32-bit calls.
    """
    if machine == "x86_64" and pointer_bytes == 8:
        return ARCHITECTURES["x86_64"]
    if machine == "aarch64" and pointer_bytes == 8:
        return ARCHITECTURES["aarch64"]
    if machine.startswith(("armv", "aarch64")) and machine[-1] != "b" and pointer_bytes == 4:
        return ARCHITECTURES["arm"]
    return None
