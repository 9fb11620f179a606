"""`command_start`: what a command costs before it has done anything.

Each command is run as a process of its own, in turn with a program of one Typer command that prints its help and with
the bare interpreter: what those two take, no command of ours can save. Time is the CPU time of the process, so that
other work counts less; memory is the most that it had resident. Nothing runs that could answer: `status` finds no
socket.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.spent import Spent, starter

NAME: Final = "command_start"
NUM: Final = 9
MB_TARGET: Final = Target(limit=40.0, at_most=True)
_TYPER: Final = (
    "import typer\nfrom rich.console import Console\napp = typer.Typer(rich_markup_mode='rich')\n"
    "@app.command()\ndef main(name: str = 'x') -> None:\n    'Say nothing.'\napp(['--help'])\n"
)
_OURS: Final = {"--help": ("--help",), "status": ("status",), "review list --help": ("review", "list", "--help")}


def missing() -> str:
    """Nothing that this needs can be missing."""
    return ""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Run each in turn, several times; about a minute."""
    programs: dict[str, tuple[str, ...]] = {"python": ("-c", "pass"), "typer": ("-c", _TYPER)}
    programs |= {name: ("-m", "grapevine_agent", *words) for name, words in _OURS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    memory: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(NUM + 1):
            for name, words in programs.items():
                took_s, most_mb = _cost(words, Path(folder))
                if turn:  # the first one compiles, and reads from the disk
                    seconds[name].append(took_s)
                    memory[name].append(most_mb)
    found = []
    for name in programs:
        found.append(figure(NAME, f"{name}: CPU", seconds[name], unit="s"))
        target = MB_TARGET if name in _OURS else None
        found.append(figure(NAME, f"{name}: memory", memory[name], unit="MB", target=target))
        say(f"{name}: {found[-2].median:.2f} s, {found[-1].median:.0f} MB")
    for name in _OURS:
        ratios = [ours / floor for ours, floor in zip(seconds[name], seconds["typer"], strict=True)]
        found.append(figure(NAME, f"{name}: CPU, over a Typer program's", ratios))
    return found


def _cost(words: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """CPU seconds of a run, and the most MB that it had resident."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAPEVINE_")}
    environment["GRAPEVINE_STATE_DIR"] = str(folder)
    command = starter([sys.executable, *words])
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    spent = Spent.told(done.stdout)
    return spent.cpu_s, spent.peak_mb
