"""`python -m grapevine_lab.overlay spread|staleness|sleep`: many agents, over real Mosquittos or simulated."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grapevine_lab.overlay.sleep import AVAILABILITY, measure_sleep
from grapevine_lab.overlay.spread import measure_spread
from grapevine_lab.overlay.staleness import measure_staleness

app = typer.Typer(add_completion=False, help=__doc__)
console, progress = Console(highlight=False), Console(stderr=True, highlight=False)


@app.command()
def spread(
    agents: Annotated[int, typer.Option(min=5, max=300)] = 100,
    brokers: Annotated[list[int], typer.Option(help="How many; more than once for several runs.")] = [1, 3],  # noqa: B006
    records: Annotated[int, typer.Option(min=1, max=50)] = 10,
) -> None:
    """How long a record takes to reach all agents."""
    for num_brokers in brokers:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(
                measure_spread(
                    num_agents=agents,
                    num_brokers=num_brokers,
                    num_records=records,
                    folder=Path(folder),
                    say=progress.print,
                )
            )
        console.print(
            f"{agents} agents, {num_brokers} broker{'s' * (num_brokers > 1)}, {records} records: "
            f"median {found.median_s:.2f} s, 95 % {found.p95_s:.2f} s, the last {found.last_s:.2f} s"
        )


@app.command()
def staleness(
    agents: Annotated[list[int], typer.Option(help="How many; more than once for several runs.")] = [8, 16, 30],  # noqa: B006
    send_rate: Annotated[str, typer.Option(help="log-n, log-log-n, constant or linear.")] = "log-n",
    seconds: Annotated[float, typer.Option(min=5.0)] = 120.0,
) -> None:
    """Staleness among agents that learn, against Lemma 1."""
    for num_agents in agents:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(
                measure_staleness(
                    num_agents=num_agents, send_rate=send_rate, for_s=seconds, folder=Path(folder), say=progress.print
                )
            )
        console.print(
            f"{num_agents} agents, {send_rate}: staleness {found.found:.3f} versions, Lemma 1 {found.bound:.3f} "
            f"({found.found / found.bound:.3f} of it); in a second {found.update_rate:.3f} updates and "
            f"{found.send_rate:.3f} sends"
        )


@app.command()
def sleep(
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Runs of each kind.")] = 3,
    quick: Annotated[bool, typer.Option(help="A short run of a few.")] = False,
) -> None:
    """What it is worth that devices say when they sleep: simulated."""
    for what, changes in AVAILABILITY.items():
        found = measure_sleep(changes, seeds=range(seeds), quick=quick)
        console.print(
            f"{what}: accuracy of those that sleep {found.of_sleepers:.3f}, of the others {found.of_others:.3f}; "
            f"sends of one device in an hour {found.sends:,.0f}, in vain {found.in_vain:.1f}"
        )


if __name__ == "__main__":
    app()
