"""Does a server leave a mark as it comes and goes? python -m grapevine_lab.no_cliff [--quick] [--seeds N] [--out DIR].

Twenty simulated agents. Every run is kept in the folder as JSON, so that a broken-off table goes on where it was;
`no-cliff.md` in it is made of them. MNIST is found through GRAPEVINE_DATA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grapevine_lab.kept_tables import command_of, named, tabulate
from grapevine_lab.no_cliff.cases import ARRANGEMENTS, ROUNDS, TASKS
from grapevine_lab.no_cliff.runs import Asked, Found, run_all
from grapevine_lab.no_cliff.table import tables

app = typer.Typer(add_completion=False, help=__doc__)
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
    tasks = named("--task", task or (["digits-4"] if quick else list(TASKS)), TASKS)
    ways = named("--only", only or (["lost"] if quick else list(ARRANGEMENTS)), ARRANGEMENTS)
    wanted = [
        Asked(task=each, arrangement=way, seed=seed, rounds=QUICK_ROUNDS if quick else ROUNDS)
        for seed in range(1 if quick else seeds)
        for each in tasks
        for way in ways
    ]
    command = command_of("grapevine_lab.no_cliff")
    tabulate(
        run_all(wanted, out),
        total=len(wanted),
        line_of=_line,
        text_of=lambda found: "\n".join([f"    {command}\n", *map(str, tables(found))]),
        out=out,
        name="no-cliff.md",
    )


def _line(found: Found) -> str:
    asked = found.asked
    falls = ", ".join(f"{each.event} {each.mean:.2f} (an agent {each.agent:.2f})" for each in found.falls())
    told = f"final {found.final:.4f}; falls in points: {falls or 'none looked for'}"
    return f"{asked.task} {asked.arrangement} seed {asked.seed}: {told} ({found.wall_s:.0f} s)"


if __name__ == "__main__":
    app()
