"""Small disks that can be filled, for what a service does on a full one. They need the right to mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

_FILLER = "filler"


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own, mounted at `path`."""

    path: Path

    def fill(self) -> None:
        """Take all the room that there is, to the last byte."""
        with (self.path / _FILLER).open("ab", buffering=0) as file, suppress(OSError):
            for size in (65_536, 4_096, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self) -> None:
        """Give the room back."""
        (self.path / _FILLER).unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`; nothing may be open for writing."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True, capture_output=True)


@contextmanager
def small_disk(path: Path, *, num_kb: int) -> Iterator[SmallDisk]:
    """A disk of `num_kb` KiB at `path`; skips the test where nothing may be mounted."""
    path.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={num_kb}k,mode=700", "tmpfs", str(path)]
    try:
        done = subprocess.run(mounting, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs mount, to make a disk that can be full")
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount, to make a disk that can be full: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)
