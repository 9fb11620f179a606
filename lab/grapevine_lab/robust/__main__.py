"""What hostile members cost: python -m grapevine_lab.robust [--quick] [--seeds N] [--only ATTACK] [--out FOLDER].

Twenty simulated agents, of which four are hostile. Every run is kept in the folder as JSON, so that a broken-off table
goes on where it was; `robust.md` in it is made of them. MNIST is found through GRAPEVINE_DATA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from grapevine_agent.merge import STRATEGIES as KNOWN_STRATEGIES
from grapevine_lab.kept_tables import command_of, end, named, tabulate
from grapevine_lab.papers.report import Table
from grapevine_lab.robust.attacks import ATTACKS, REFERENCES, SHORT
from grapevine_lab.robust.columns import COLUMNS, ROUNDS, SHORTER, STRATEGIES
from grapevine_lab.robust.runs import Asked, Found, read, run_all
from grapevine_lab.robust.table import accuracy_table, refusal_table
from grapevine_proto.errors import GrapevineError

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def table(
    quick: Annotated[bool, typer.Option(help="One seed of the short list on the digits with 4 classes each.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each cell.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="An attack; more than once for several.")] = None,
    strategy: Annotated[list[str] | None, typer.Option(help="A merge strategy; more than once for several.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="A column; more than once for several.")] = None,
    defences: Annotated[Literal["on", "off"], typer.Option(help="Whether members judge each other's updates.")] = "on",
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")] = Path("robust"),
    processes: Annotated[int, typer.Option(min=1, max=256, help="Runs at a time.")] = 1,
    kept: Annotated[bool, typer.Option(help="Run nothing: tables of what is in the folder.")] = False,
) -> None:
    """Run what is not there yet, and print and write the tables."""
    usual = STRATEGIES[:1] if quick else (*STRATEGIES, *SHORTER)
    strategies = named("--strategy", strategy or usual, KNOWN_STRATEGIES)
    columns = named("--task", task or (["digits-4"] if quick else list(COLUMNS)), COLUMNS)
    attacks = named("--only", only or (SHORT if quick else list(ATTACKS)), ATTACKS)
    attacks = [name for name in ATTACKS if name in {*attacks, *REFERENCES}]
    shorter = () if strategy else SHORTER
    wanted = runs_of(strategies, columns, attacks, num_seeds=1 if quick else seeds, shorter=shorter)
    wanted = [replace(each, defences=defences == "on") for each in wanted]
    try:
        if kept:
            wanted = [each for each in wanted if read(each, out) is not None]
    except GrapevineError as error:
        end(str(error))
    if not wanted:
        end(f"--kept: nothing that is asked for is in {out}; leave --kept out, or give another --out")
    command = command_of("grapevine_lab.robust")
    tabulate(
        run_all(wanted, out, processes=processes),
        total=len(wanted),
        line_of=_line,
        text_of=lambda found: report(found, strategies, command),
        out=out,
        name="robust.md",
    )


def runs_of(
    strategies: Sequence[str], columns: Sequence[str], attacks: Sequence[str], *, num_seeds: int, shorter: Sequence[str]
) -> list[Asked]:
    """All runs of the tables, seed by seed; of the `shorter` strategies the short list on the first column alone."""
    return [
        Asked(column=column, strategy=strategy, attack=attack, seed=seed, rounds=ROUNDS)
        for seed in range(num_seeds)
        for strategy in strategies
        for column in columns
        for attack in attacks
        if strategy not in shorter or (column == columns[0] and attack in SHORT)
    ]


def report(found: Sequence[Found], strategies: Sequence[str], command: str) -> str:
    """Command and tables, in Markdown."""
    seeds = len({each.asked.seed for each in found})
    tables: list[Table] = []
    there = {each.asked.strategy for each in found}
    for strategy in [each for each in strategies if each in there]:
        tables += [accuracy_table(found, strategy), refusal_table(found, strategy)]
    without = "" if found[0].asked.defences else ", without defences"
    head = f"    {command}\n\n{seeds} seed{'s' * (seeds > 1)}, {found[0].asked.rounds} rounds{without}.\n"
    return "\n".join([head, *map(str, tables)])


def _line(found: Found) -> str:
    asked = found.asked
    return (
        f"{asked.strategy} {asked.column} {asked.attack} seed {asked.seed}: "
        f"{found.mean:.4f}, worst {found.worst:.4f} ({found.wall_s:.0f} s)"
    )


if __name__ == "__main__":
    app()
