"""Removes a lab's containers when the process that uses them ends, however it ends.

    python -m grapevine_lab.testbed.warden FOLDER NAME     waits until its standard input ends

The kernel ends processes whose parent has died (`grapevine_broker.leash`), but no containers: so somebody waits for it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

RELEASE_S: Final = 60.0


class Warden:
    """One for the lab of this name in this folder. It begins with this object and ends with `release`, or with us."""

    def __init__(self, folder: Path, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "grapevine_lab.testbed.warden", str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """Nothing is left to look after."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"done")
        self._process.stdin.close()
        self._process.wait(RELEASE_S)


def main(folder: Path, name: str) -> None:
    """Wait for a word, or for the end of whoever could say it."""
    if sys.stdin.buffer.read():
        return
    from grapevine_lab.testbed.docker_engine import DockerEngine  # noqa: PLC0415 - it may wait for days

    DockerEngine(folder, name).remove()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
