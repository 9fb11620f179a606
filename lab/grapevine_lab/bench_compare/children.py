"""Commands of one build or the other, each in its own environment, and gone when we are interrupted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from grapevine_lab.bench_simulator.processes import ProcessTree

# What leads another interpreter to our packages, and another make to our settings.
_OURS: Final = (
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "PYTHONDONTWRITEBYTECODE",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
)


def environment_of(python: Path | None) -> dict[str, str]:
    """Our variables without what is ours alone; commands are looked for beside `python` first."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    if python is None:
        return kept
    return kept | {"PATH": os.pathsep.join([str(python.parent), kept.get("PATH", os.defpath)])}


def run_to_the_end(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> int:
    """Run a command and return its exit code. If we are interrupted, it ends with all that it has started."""
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )
    try:
        return process.wait()
    except BaseException:
        ProcessTree(process.pid).end()
        process.wait()
        raise
