"""Does a server leave a mark as it comes and goes? python -m grapevine_lab.no_cliff [--quick] [--seeds N] [--out DIR].

Twenty simulated agents. Every run is kept in the folder as JSON, so that a broken-off table goes on where it was;
`no-cliff.md` in it is made of them. MNIST is found through GRAPEVINE_DATA.
"""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from grapevine_lab.no_cliff.cases import ARRANGEMENTS, ROUNDS, TASKS
from grapevine_lab.no_cliff.runs import Asked, Found, run_all
from grapevine_lab.no_cliff.table import tables
from grapevine_proto.errors import GrapevineError

app = typer.Typer(add_completion=False, help=__doc__)
console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
QUICK_ROUNDS = 60


@app.command()
def table(
    quick: Annotated[bool, typer.Option(help="60 rounds of one seed: digits, 4 classes each, a lost server.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each kind.")] = 5,
    task: Annotated[list[str] | None, typer.Option(help="A task; more than once for several.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="An arrangement; more than once for several.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the tables.")] = Path("no-cliff"),
) -> None:
    """Run what is not there yet, and print and write the tables."""
    tasks = _named("--task", task or (["digits-4"] if quick else list(TASKS)), TASKS)
    ways = _named("--only", only or (["lost"] if quick else list(ARRANGEMENTS)), ARRANGEMENTS)
    wanted = [
        Asked(task=each, arrangement=way, seed=seed, rounds=QUICK_ROUNDS if quick else ROUNDS)
        for seed in range(1 if quick else seeds)
        for each in tasks
        for way in ways
    ]
    found: list[Found] = []
    command = shlex.join(["python", "-m", "grapevine_lab.no_cliff", *sys.argv[1:]])
    try:
        for each in run_all(wanted, out):
            found.append(each)
            progress.print(_line(each, len(found), len(wanted)), soft_wrap=True)
        text = "\n".join([f"    {command}\n", *map(str, tables(found))])
        (out / "no-cliff.md").write_text(text, encoding="utf-8")
    except OSError as error:
        _end(f"--out: {error.filename or out} cannot be written ({error.strerror}); give another folder")
    except GrapevineError as error:
        _end(str(error))
    console.print(text, markup=False, soft_wrap=True)


def _end(why: str) -> NoReturn:
    progress.print("error:", why, style="red", soft_wrap=True, markup=False)
    raise typer.Exit(1)


def _named(option: str, given: Collection[str], known: Collection[str]) -> list[str]:
    """What was given, each once. Raises BadParameter for what there is not."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose of {', '.join(known)}"
            raise typer.BadParameter(f"{name!r} is not known; {hint}", param_hint=option)
    return list(dict.fromkeys(given))


def _line(found: Found, number: int, total: int) -> str:
    asked = found.asked
    falls = ", ".join(f"{each.event} {each.mean:.2f} (an agent {each.agent:.2f})" for each in found.falls())
    told = f"final {found.final:.4f}; falls in points: {falls or 'none looked for'}"
    return f"{number}/{total} {asked.task} {asked.arrangement} seed {asked.seed}: {told} ({found.wall_s:.0f} s)"


if __name__ == "__main__":
    app()
