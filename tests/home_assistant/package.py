"""Home Assistant's package, from PyPI: downloaded once, and asked in a process of its own.

It is larger than all that this project needs otherwise, wants a newer Python, and would bring a hundred other
packages. So nothing is installed: its wheel, and that of the library with which its schemas are written, lie in a
folder, and are imported from in that process (`rules.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

VERSIONS: Final = ("homeassistant==2026.11.0", "probatio==0.13.0")
_ROOT: Final = Path(__file__).parents[2]


def held_against_home_assistant(messages: Sequence[bytes | str]) -> list[dict[str, Any]]:
    """What Home Assistant makes of discovery messages: of each `{"taken": …}` or `{"refused": why}`."""
    texts = [message if isinstance(message, str) else message.decode() for message in messages]
    done = subprocess.run(
        [sys.executable, "-m", "tests.home_assistant.rules", *map(str, wheels())],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=100,
        cwd=_ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


@cache
def wheels() -> tuple[Path, ...]:
    """The wheels; the test is skipped where PyPI cannot be reached, and nothing is there from an earlier run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grapevine-tests" / "home-assistant"
    return tuple(_wheel(version, folder) for version in VERSIONS)


def _wheel(version: str, folder: Path) -> Path:
    pattern = f"{version.replace('==', '-')}-*.whl"
    if not (found := list(folder.glob(pattern))):
        folder.mkdir(parents=True, exist_ok=True)
        asked = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", *asked, "--dest", str(folder), version],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"{version} cannot be had from PyPI here: {(done.stderr.strip() or 'no word of pip')[-200:]}")
        found = list(folder.glob(pattern))
    return found[0]
