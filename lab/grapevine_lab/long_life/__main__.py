"""`python -m grapevine_lab.long_life --hours 1`: real agents, a broker that keeps dying, and a clock that is set.

Exit codes: 0 nobody was lost; 1 somebody was, or it failed; 2 the command line is wrong; 130 ended by Ctrl-C or
SIGTERM.
"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.long_life.plan import LifeTold, LongLife
from grapevine_proto.errors import GrapevineError

_DEFAULT = LongLife()


def main(
    hours: Annotated[float, typer.Option(help="How long they live.", min=0.01, max=1000.0)] = 1.0,
    agents: Annotated[int, typer.Option(help="How many.", min=2, max=50)] = _DEFAULT.num_agents,
    outage_every_s: Annotated[
        float, typer.Option(help="From one kill of the broker to the next.", min=20.0)
    ] = _DEFAULT.outage_every_s,
    clock_ahead_s: Annotated[
        float, typer.Option(help="How far the first agent's clock is set ahead; negative: behind.")
    ] = _DEFAULT.clock_ahead_s,
    out: Annotated[Path | None, typer.Option(help="A folder for the table as JSON, and for logs if it fails.")] = None,
    seed: Annotated[int, typer.Option(help="Of how long each outage is, and of who holds which samples.", min=0)] = 0,
) -> None:
    """Let real agents live with a broker that is killed and emptied again and again; nobody may be lost."""
    from grapevine_lab.long_life.story import live  # noqa: PLC0415 - --help answers without all this

    console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes are ended in either case
    plan = LongLife(
        duration_s=hours * 3600,
        num_agents=agents,
        outage_every_s=outage_every_s,
        clock_ahead_s=clock_ahead_s,
        seed=seed,
    )
    try:
        told = live(plan, say=lambda text: progress.print(text, markup=False), keep_logs=out)
    except GrapevineError as error:
        progress.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "long-life.json").write_text(json.dumps(asdict(told), indent=2) + "\n", encoding="utf-8")
    print_life(told, console)
    if not told.holds:
        raise typer.Exit(1)


def print_life(told: LifeTold, console: Console) -> None:
    """The table of outages, and who was lost."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.MARKDOWN)
    names = ("outage", "at (s)", "dark (s)", "first clock ahead (s)", "known again (s)", "merged again (s)")
    for name in names:
        table.add_column(name, justify="right")
    for each in told.outages:
        healed = ["never" if seconds is None else f"{seconds:.1f}" for seconds in (each.known_s, each.merged_s)]
        table.add_row(str(each.number), f"{each.at_s:.0f}", f"{each.dark_s:.1f}", f"{each.clock_ahead_s:,.0f}", *healed)
    console.print(table)
    console.print(f"rounds: {', '.join(map(str, told.rounds))}")
    console.print("memory of each service (MB): " + ", ".join(f"{a:.0f} to {b:.0f}" for a, b in told.memory_mb))
    console.print(f"lost: {'; '.join(told.lost)}" if told.lost else "nobody was lost")


if __name__ == "__main__":
    typer.run(main)
