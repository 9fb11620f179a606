"""`python -m grapevine_lab.bench_simulator`.

Exit codes: 0 it was measured, or skipped for a reason that the table gives; 1 a run failed; 2 the command
line is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.bench_simulator.peers import environments_folder
from grapevine_lab.bench_simulator.roster import SIMULATED
from grapevine_lab.bench_simulator.suite import measure
from grapevine_lab.bench_simulator.table import as_json, print_table
from grapevine_lab.bench_simulator.workload import MODELS, workload_of
from grapevine_lab.kept_tables import named

NAMES = tuple(system.name for system in SIMULATED)
DEFAULT_NODES = (10, 100)
MIN_NODES = 2


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this system; may be repeated. One of {', '.join(NAMES)}.")
    ] = None,
    nodes: Annotated[
        list[int] | None, typer.Option(min=MIN_NODES, help="So many nodes; may be repeated. Else 10 and 100.")
    ] = None,
    model: Annotated[str, typer.Option(help=f"What they train: {' or '.join(MODELS)}.")] = MODELS[0],
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of each run, if they fit into a minute.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each system.")] = 3,
    environments: Annotated[
        Path | None, typer.Option(help="Where the others' virtual environments are, or are made.")
    ] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
) -> None:
    """Measure our simulator beside others, on the same work."""
    wanted = named("--only", only or NAMES, NAMES)
    chosen = [known for known in MODELS if known == model]
    if not chosen:
        msg = f"there is no model {model!r}: choose {' or '.join(MODELS)}"
        raise typer.BadParameter(msg, param_hint="--model")
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    report = measure(
        [system for system in SIMULATED if system.name in wanted],
        [workload_of(number, model=chosen[0], num_rounds=rounds) for number in nodes or DEFAULT_NODES],
        num_repeats=repeats,
        environments=environments or environments_folder(),
        say=lambda text: messages.print(text, markup=False),
    )
    if as_json_:
        sys.stdout.write(json.dumps(as_json(report), indent=2) + "\n")
    else:
        print_table(report, Console(highlight=False))
    if any(contest.failed for contest in report.contests):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
