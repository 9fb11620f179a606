"""`python -m grapevine_lab.fidelity`.

Exit codes: 0 both sides ran to their end, and the tables say how far they are apart; 1 it failed; 2 the command line is
wrong; 130 ended by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.scenarios import find_scenario
from grapevine_proto.errors import GrapevineError


def main(
    scenario: Annotated[str, typer.Argument(help="A scenario file (TOML), or the name of one, as fidelity.")],
    out: Annotated[Path, typer.Option(help="Where the comparison goes.", file_okay=False)],
    seeds: Annotated[
        int, typer.Option(help="How many runs of each side, with seeds from the scenario's on.", min=1)
    ] = 3,
    controls: Annotated[
        int, typer.Option(help="Further sets of as many simulated runs, to show what chance does.", min=0)
    ] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="The small size that the file has for trying out.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key of the scenario and its value, as nodes.num=4; may be repeated."),
    ] = None,
) -> None:
    """Run a scenario simulated and as real processes over Mosquitto, and compare."""
    from grapevine_lab.fidelity.check import check  # noqa: PLC0415 - --help answers without all this
    from grapevine_lab.fidelity.page import PAGE_FILE  # noqa: PLC0415
    from grapevine_lab.fidelity.report import print_report  # noqa: PLC0415
    from grapevine_lab.simulator.scenario import read_scenario  # noqa: PLC0415

    console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes are ended in either case
    try:
        read = read_scenario(find_scenario(scenario), quick=quick, changes=set_ or [])
        found = check(
            read, out, num_seeds=seeds, num_controls=controls, say=lambda text: progress.print(text, markup=False)
        )
    except GrapevineError as error:
        progress.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    print_report(found, console)
    console.print(f"on one page: {out / PAGE_FILE}", markup=False, soft_wrap=True)
    console.print(f"tables and plots: {out}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
