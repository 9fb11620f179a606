"""Landlock: no files and no network for a process, said in the kernel's own words for both.

A second wall behind the list of system calls (`seccomp`): should a call be on that list that reaches
a file after all, there is nothing that it may open, remove or rename, no TCP port to bind or connect to,
and no process outside to signal. A ruleset that handles everything and has no exceptions says so.
What is open already stays usable.

It is a thread's, and is passed on to the threads that it starts: so it is set before there are many.
Kernels before 5.13, and some after, do not have it (landlock(7)); then the first wall stands alone.
"""

from __future__ import annotations

import ctypes
import os
import struct

# The same numbers on all processors.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
_PR_SET_NO_NEW_PRIVS = 38  # Landlock asks for it
_ALL_THREADS = 1 << 3  # LANDLOCK_RESTRICT_SELF_TSYNC
_ABI_WITH_NETWORK, _ABI_WITH_SCOPES, _ABI_WITH_ALL_THREADS = 4, 6, 8
# How many rights over files each version knows; a version that we do not know yet knows these too.
_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NUM_NETWORK_RIGHTS = 2  # bind and connect TCP
_NUM_SCOPES = 2  # abstract Unix sockets, signals


def landlock_version() -> int:
    """The version of Landlock that this kernel has, 0 for none."""
    version = _libc().syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    return max(0, int(version))


def give_up_files() -> int:
    """Take all rights over files (and, where the kernel can, TCP and signals) from this thread for ever.

    Returns the version of Landlock, 0 where this kernel has none or does not lend it to us.
    """
    version = landlock_version()
    if not version:
        return 0
    libc = _libc()
    handled = ruleset(version)
    ruleset_fd = libc.syscall(ctypes.c_long(_CREATE_RULESET), handled, ctypes.c_size_t(len(handled)), ctypes.c_uint(0))
    if ruleset_fd < 0:
        return 0
    flags = _ALL_THREADS if version >= _ABI_WITH_ALL_THREADS else 0
    privileges_given_up = libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0
    restricted = privileges_given_up and not libc.syscall(
        ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset_fd), ctypes.c_uint(flags)
    )
    os.close(ruleset_fd)
    return version if restricted else 0


def ruleset(version: int) -> bytes:
    """All that a version of Landlock can handle, as a landlock_ruleset_attr: 8, 16 or 24 bytes."""
    files = (1 << _NUM_FILE_RIGHTS.get(version, max(_NUM_FILE_RIGHTS.values()))) - 1
    words = [files]
    if version >= _ABI_WITH_NETWORK:
        words.append((1 << _NUM_NETWORK_RIGHTS) - 1)
    if version >= _ABI_WITH_SCOPES:
        words.append((1 << _NUM_SCOPES) - 1)
    return struct.pack(f"={len(words)}Q", *words)


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
