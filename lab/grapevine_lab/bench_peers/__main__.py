"""`python -m grapevine_lab.bench_peers`.

Exit codes: 0 all was measured, or skipped for a reason that is given; 1 a run failed, and the others went on; 2 the
command line is wrong; 130 ended by Ctrl-C. What was measured until then is kept.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.bench_peers.columns import item, markdown
from grapevine_lab.bench_peers.shelf import Folder
from grapevine_lab.bench_simulator.peers import environments_folder
from grapevine_lab.bench_simulator.processes import usable_cores
from grapevine_lab.bench_simulator.roster import REAL, SIMULATED, WEIGHED_OURS
from grapevine_lab.bench_simulator.runs import Patience
from grapevine_lab.bench_simulator.suite import Contest, Report, measure
from grapevine_lab.bench_simulator.systems import System
from grapevine_lab.bench_simulator.table import as_json, notes
from grapevine_lab.bench_simulator.workload import Workload, workload_of
from grapevine_lab.kept_tables import end, named
from grapevine_proto.errors import GrapevineError

SYSTEMS = (WEIGHED_OURS, *SIMULATED[1:], *REAL)
NAMES = tuple(system.name for system in SYSTEMS)
SIMULATED_NODES, REAL_NODES = (10, 100), (4,)
ROUNDS, QUICK_ROUNDS, REPEATS = 10, 5, 3
PATIENCE = Patience(rounds_s=1_200.0, whole_s=1_500.0)  # some need minutes, and all of them are to do the same steps
TABLE_FILE, RESULTS_FILE = "peers.md", "peers.json"
QUICK_FOLDER = "quick"


def main(
    out: Annotated[Path, typer.Option(help="Where results are kept, and found again.", file_okay=False)] = Path(
        "bench-peers"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this system; may be repeated. One of {', '.join(NAMES)}.")
    ] = None,
    nodes: Annotated[
        list[int] | None, typer.Option(min=2, help="So many nodes; may be repeated. Else 10 and 100, or 4 real ones.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help=f"One run of five rounds; kept apart, in the folder {QUICK_FOLDER} of --out."),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is kept.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Measure nothing: make the table of what is kept.")] = False,
    environments: Annotated[
        Path | None, typer.Option(help="Where the others' virtual environments are, or are made.")
    ] = None,
) -> None:
    """Measure Grapevine beside its peers, on the same work."""
    wanted = named("--only", only or NAMES, NAMES)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes are ended in either case
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    out = out / QUICK_FOLDER if quick else out
    folder = Folder(path=out)
    reports: list[Report] = []
    try:
        if table and not folder.all_of(NAMES):
            end(f"--table: nothing that was measured is kept in {out}; leave --table out to measure, or give its --out")
        out.mkdir(parents=True, exist_ok=True)
        if fresh and not table:
            for contest in folder.all_of(wanted):
                folder.forget(contest)
        for kind, of_kind in (("simulated", SIMULATED_NODES), ("real", REAL_NODES)):
            systems = [system for system in SYSTEMS if system.name in wanted and system.kind == kind]
            if systems and not table:
                works = [
                    workload_of(number, num_rounds=QUICK_ROUNDS if quick else ROUNDS) for number in nodes or of_kind
                ]
                reports.append(
                    _measure(systems, works, folder, environments, messages, num_repeats=1 if quick else REPEATS)
                )
        _write(folder, reports)
    except OSError as error:
        end(f"--out: {error.filename or out}: {error.strerror or error}; give another folder")
    except GrapevineError as error:
        end(str(error))
    except KeyboardInterrupt:
        messages.print(f"ended; what was measured is kept in {out}", markup=False)
        raise typer.Exit(130) from None
    Console(highlight=False).print((out / TABLE_FILE).read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    if any(contest.failed for report in reports for contest in report.contests):
        raise typer.Exit(1)


def _measure(
    systems: Sequence[System],
    workloads: Sequence[Workload],
    folder: Folder,
    environments: Path | None,
    messages: Console,
    *,
    num_repeats: int,
) -> Report:
    return measure(
        systems,
        workloads,
        num_repeats=num_repeats,
        environments=environments or environments_folder(),
        say=lambda text: messages.print(text, markup=False),
        shelf=folder.shelf,
        patience=PATIENCE,
    )


def _write(folder: Folder, reports: Sequence[Report]) -> None:
    """Make table and JSON of all that is kept, also of what was not asked for now. Raises OSError and ConfigError."""
    known = folder.all_of(NAMES)
    there = {contest.system for contest in known}
    set_ups = [system.set_up for system in SYSTEMS if system.name in there]
    origin = next((report.origin for report in reports if report.origin), "as in the files")
    machine = next((report.machine for report in reports), f"{len(usable_cores())} cores")
    whole = Report(contests=known, origin=origin, machine=machine, set_ups=set_ups)
    text = "\n".join(_sections(known)) + "\n" + "".join(map(item, notes(whole)))
    (folder.path / TABLE_FILE).write_text(text, encoding="utf-8")
    (folder.path / RESULTS_FILE).write_text(json.dumps(as_json(whole), indent=1) + "\n", encoding="utf-8")


def _sections(known: Sequence[Contest]) -> list[str]:
    kinds = {system.name: system.kind for system in SYSTEMS}
    found = []
    for kind, title in (("simulated", "Simulators"), ("real", "Real processes")):
        if of_kind := [contest for contest in known if kinds[contest.system] == kind]:
            found += [f"## {title}\n", markdown(of_kind)]
    return found


if __name__ == "__main__":
    typer.run(main)
