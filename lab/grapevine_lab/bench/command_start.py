"""`command_start`: what a command costs before it has done anything.

Each command is run as a process of its own, in turn with a program of one Typer command that prints its help and with
the bare interpreter: what those two take, no command of ours can save. Time is the CPU time of the process, so that
other work counts less, and, beside it, what a clock says from its start to its end; memory is the most that it had
resident. `status` is asked of an agent that has just begun.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.service import running_service, wait_until
from grapevine_lab.bench.spent import Spent, starter

NAME: Final = "command_start"
NUM: Final = 9
S_TARGET: Final = Target(limit=0.2, at_most=True)
MB_TARGET: Final = Target(limit=40.0, at_most=True)
_TYPER: Final = (
    "import typer\nfrom rich.console import Console\napp = typer.Typer(rich_markup_mode='rich')\n"
    "@app.command()\ndef main(name: str = 'x') -> None:\n    'Say nothing.'\napp(['--help'])\n"
)
_OURS: Final = {
    "--help": ("--help",),
    "status": ("status",),
    "status --json": ("status", "--json"),
    "a slip (tasks)": ("tasks",),
    "review list --help": ("review", "list", "--help"),
}


def missing() -> str:
    """Nothing that this needs can be missing."""
    return ""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Run each in turn, several times; about a minute."""
    programs: dict[str, tuple[str, ...]] = {"python": ("-c", "pass"), "typer": ("-c", _TYPER)}
    programs |= {name: ("-m", "grapevine_agent", *words) for name, words in _OURS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    clock: dict[str, list[float]] = {name: [] for name in programs}
    memory: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder, _answering(Path(folder)):
        for turn in range(NUM + 1):
            for name, words in programs.items():
                took_s, lasted_s, most_mb = _cost(words, Path(folder))
                if turn:  # the first one compiles, and reads from the disk
                    seconds[name].append(took_s)
                    clock[name].append(lasted_s)
                    memory[name].append(most_mb)
    found = []
    for name in programs:
        is_ours = name in _OURS
        found.append(figure(NAME, f"{name}: CPU", seconds[name], unit="s"))
        found.append(figure(NAME, f"{name}: start to end", clock[name], unit="s", target=S_TARGET if is_ours else None))
        found.append(figure(NAME, f"{name}: memory", memory[name], unit="MB", target=MB_TARGET if is_ours else None))
        say(f"{name}: {found[-3].median:.2f} s of CPU, {found[-2].median:.2f} s, {found[-1].median:.0f} MB")
    for name in _OURS:
        ratios = [ours / floor for ours, floor in zip(seconds[name], seconds["typer"], strict=True)]
        found.append(figure(NAME, f"{name}: CPU, over a Typer program's", ratios))
    return found


@contextmanager
def _answering(folder: Path) -> Iterator[None]:
    """An agent on the state folder, which no broker takes in."""
    config = folder / "agent.toml"
    config.write_text(f'[agent]\nstate_dir = "{folder}"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:1"]\n', encoding="utf-8")
    with running_service(config, folder / "log") as process:
        asyncio.run(wait_until(process, folder / SOCKET_FILE, bool, "answers"))
        yield


def _cost(words: tuple[str, ...], folder: Path) -> tuple[float, float, float]:
    """CPU seconds of a run, seconds from its start to its end, and the most MB that it had resident."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAPEVINE_")}
    environment["GRAPEVINE_STATE_DIR"] = str(folder)
    command = starter([sys.executable, *words])
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    spent = Spent.told(done.stdout)
    return spent.cpu_s, spent.wall_s, spent.peak_mb
