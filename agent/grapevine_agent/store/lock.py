"""One service per state folder: a lock that the kernel lets go of, however its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from grapevine_proto.errors import StoreError


class StateLock:
    """Holds the folder of `path` until `release`. Raises `StoreError`, naming the holder's process, if it is taken.

    `flock` and not a file's existence is the lock, so a killed holder leaves nothing to clean up. It lies on the
    folder itself, which can be locked on a disk that is full or read-only; and on the file `path` where that can be
    opened, for earlier versions lock only the file. The process id in it is for the message alone. Child processes
    must not inherit the descriptors across `fork` without `exec`, or they hold the lock on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptors: list[int] = []
        trouble = self._take(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        # A folder in its place, another user's file, no room for it: the folder's own lock is enough.
        if self._take(path, os.O_RDWR | os.O_CREAT) is None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptors[-1], 0)
                os.pwrite(self._descriptors[-1], f"{os.getpid()}\n".encode("ascii"), 0)
        if trouble is not None and not self._descriptors:
            raise StoreError(f"{path.parent}: cannot be locked ({trouble.strerror}); use a local file system")

    def release(self) -> None:
        """Let go. The file stays: deleting it would let two holders lock two files of one name."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _take(self, locked: Path, flags: int) -> OSError | None:
        """Lock one of the two; what hindered it, if that is not another holder."""
        descriptor = None
        try:
            descriptor = os.open(locked, flags | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                return error
            self.release()
            raise StoreError(
                f"{self._path.parent}: is in use by process {_holder(self._path)}; stop that agent, or give this one "
                "another state_dir"
            ) from None
        self._descriptors.append(descriptor)
        return None


def _holder(path: Path) -> str:
    """The process that the file names."""
    with contextlib.suppress(OSError):
        said = path.read_bytes()[:32].strip()
        if said.isdigit():
            return said.decode("ascii")
    return "unknown"
