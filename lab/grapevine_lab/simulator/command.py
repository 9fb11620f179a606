"""`grapevine simulate`.

Exit codes: 0 it ran to its end; 1 it failed, or an invariant of a long run did not hold; 2 the command line is
wrong; 130 ended by Ctrl-C, 143 by SIGTERM, with a checkpoint left behind from which `--resume` goes on.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grapevine_agent.cli.output import JsonOption, console, tell
from grapevine_lab.scenarios import find_scenario, scenario_names
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError

if TYPE_CHECKING:
    from grapevine_lab.simulator.life_report import LifeReport
    from grapevine_lab.simulator.summary import Summary

SIGNAL_EXIT = 128
MOST_SEEDS = 10_000
NEEDED = ("torch", "networkx", "pyarrow", "matplotlib", "sklearn", "scipy")


def register(app: typer.Typer) -> None:
    """Attach the command."""

    @app.command()
    def simulate(
        scenario: Annotated[
            str, typer.Argument(help=f"A scenario file (TOML), or one of {', '.join(scenario_names())}.")
        ],
        quick: Annotated[
            bool, typer.Option("--quick", help="The small size that the file has for trying out.")
        ] = False,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", help="A key of the scenario and its value, as nodes.num=10; may be repeated."),
        ] = None,
        seeds: Annotated[
            int, typer.Option(help="How many runs, with seeds from the scenario's on.", min=1, max=MOST_SEEDS)
        ] = 1,
        out: Annotated[
            Path | None,
            typer.Option(help="Where results go. By default simulations/<name of the file>.", show_default=False),
        ] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints that lie there.")] = False,
        events: Annotated[
            Path | None,
            typer.Option(
                help="A file for everything that happens, as `grapevine events --json`; of several seeds one each, "
                "NAME-SEED.",
                show_default=False,
                dir_okay=False,
            ),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Run many agents on a virtual clock: the devices' own code, as fast as this machine can.

        Leaves a page to send on, tables (CSV, Parquet), plots (PNG, SVG), and while it runs a checkpoint a minute.
        """
        _check_installed()
        path = find_scenario(scenario)
        folder = out or Path("simulations") / (path.stem + ("-quick" if quick else ""))
        status = _simulate(path, quick, set_ or [], seeds, folder, resume=resume, as_json=as_json, events=events)
        if status:
            raise typer.Exit(status)


def _check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the simulator needs {', '.join(missing)}: {distribution.to_add_extra('lab')}")


def _simulate(
    path: Path,
    quick: bool,
    changes: list[str],
    num_seeds: int,
    folder: Path,
    *,
    resume: bool,
    as_json: bool,
    events: Path | None,
) -> int:
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        from grapevine_lab.simulator.experiment import prepare  # noqa: PLC0415 - others start without all this
        from grapevine_lab.simulator.progress import Progress  # noqa: PLC0415
        from grapevine_lab.simulator.results import run_all  # noqa: PLC0415
        from grapevine_lab.simulator.scenario import read_scenario  # noqa: PLC0415

        scenario = read_scenario(path, quick=quick, changes=changes)
        prepared = prepare(scenario)
        with Progress(scenario.name) as progress:
            summary, notes, lives = run_all(
                prepared,
                num_seeds,
                folder,
                progress,
                resume=resume,
                stopping=lambda: bool(received),
                events=events,
            )
    except KeyboardInterrupt:
        again = [argument for argument in sys.argv[1:] if argument != "--resume"]
        tell(f"stopped; go on with: grapevine {shlex.join([*again, '--resume'])}")
        return SIGNAL_EXIT + (received[0] if received else signal.SIGINT)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for note in notes:
        tell(note)
    _print(summary, lives, folder, as_json=as_json)
    broken = [f"seed {seed}: {each.name}" for seed, life in lives.items() for each in life.broken]
    if broken:
        tell(f"did not hold: {'; '.join(broken)}")
    return 1 if broken else 0


def _print(summary: Summary, lives: Mapping[int, LifeReport], folder: Path, *, as_json: bool) -> None:
    """What came of it, and where it lies."""
    from grapevine_lab.pages.printed import print_table  # noqa: PLC0415
    from grapevine_lab.simulator.invariants import as_json as life_as_json  # noqa: PLC0415
    from grapevine_lab.simulator.life_report import invariant_table  # noqa: PLC0415
    from grapevine_lab.simulator.page import PAGE_FILE  # noqa: PLC0415
    from grapevine_lab.simulator.summary import as_json as summary_as_json  # noqa: PLC0415
    from grapevine_lab.simulator.summary import print_summary  # noqa: PLC0415

    if as_json:
        told = {**summary_as_json(summary), "folder": str(folder)}
        if lives:
            told["invariants"] = {seed: life_as_json(life.invariants) for seed, life in lives.items()}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        print_summary(summary, console())
        for seed, life in lives.items():
            print_table(invariant_table(life, seed), console())
        console().print(f"on one page: {folder / PAGE_FILE}", markup=False, soft_wrap=True)
        console().print(f"tables and plots: {folder}", markup=False, soft_wrap=True)
