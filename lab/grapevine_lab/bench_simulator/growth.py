"""`python -m grapevine_lab.bench_simulator.growth`: what the protocol alone costs, from 100 nodes to 10,000.

Nobody trains: every message is encoded, routed, decoded and merged by the device's own core, and the
model stands still. Each size is a process of its own, whose time and memory are its own. The shipped
scenario `protocol` is run, with one send per node and round (`constant`), or as many as log n asks for.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from grapevine_lab.bench.table import PLAIN_WIDTH

SIZES = (100, 300, 1000, 3000, 10_000)
GOAL_NODES, GOAL_ROUNDS, GOAL_S, GOAL_MB = 1000, 100, 60.0, 2000.0
FEWER_ROUNDS = 20  # from 3,000 nodes on


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One run: `wall_s` for the rounds alone, `peak_mb` of the whole process (10⁶ bytes)."""

    num_nodes: int
    rounds: int
    send_rate: str
    wall_s: float
    prepare_s: float
    peak_mb: float
    num_events: int
    num_messages: int

    @property
    def seconds_a_round(self) -> float:
        """Wall seconds for a round of all nodes."""
        return self.wall_s / self.rounds


def run_one(num_nodes: int, rounds: int, send_rate: str) -> Growth:
    """Run one size here and now."""
    from grapevine_lab.scenarios import find_scenario  # noqa: PLC0415 - only in the measured process
    from grapevine_lab.simulator.experiment import prepare  # noqa: PLC0415
    from grapevine_lab.simulator.run import run_seed  # noqa: PLC0415
    from grapevine_lab.simulator.scenario import read_scenario  # noqa: PLC0415

    changes = [f"nodes.num={num_nodes}", f"scenario.rounds={rounds}", f"task.merging.send_rate={send_rate}"]
    began_s = time.perf_counter()
    prepared = prepare(read_scenario(find_scenario("protocol"), changes=changes))
    prepared_s = time.perf_counter()
    outcome = run_seed(prepared, 0)
    return Growth(
        num_nodes=num_nodes,
        rounds=outcome.rounds,
        send_rate=send_rate,
        wall_s=time.perf_counter() - prepared_s,
        prepare_s=prepared_s - began_s,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        num_events=outcome.num_events,
        num_messages=outcome.num_delivered,
    )


def draw(found: list[Growth], path: Path) -> None:
    """Seconds a round and memory over the number of nodes, both logarithmic."""
    from grapevine_lab.simulator.plots import Curve, Panel, draw_grid  # noqa: PLC0415 - slow to import

    def curves(what: str) -> dict[str, Curve]:
        drawn = {}
        for rate in dict.fromkeys(each.send_rate for each in found):
            of_rate = [each for each in found if each.send_rate == rate]
            x = np.log10([each.num_nodes for each in of_rate])
            y = np.array([getattr(each, what) for each in of_rate])
            drawn[f"send rate {rate}"] = Curve(x=x, median=y, low=y, high=y)
        return drawn

    draw_grid(
        [
            [
                Panel(
                    curves=curves("seconds_a_round"),
                    x_label="nodes (power of ten)",
                    y_label="wall seconds a round",
                    log_y=True,
                ),
                Panel(curves=curves("peak_mb"), x_label="nodes (power of ten)", y_label="memory, MB", log_y=True),
            ]
        ],
        path,
        title="The protocol alone, each node with twenty neighbours",
    )


def _in_a_process(num_nodes: int, rounds: int, send_rate: str) -> Growth:
    command = [sys.executable, "-m", __spec__.name, "--one", f"{num_nodes},{rounds},{send_rate}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Growth(**json.loads(done.stdout))


def main(
    out: Annotated[Path | None, typer.Option(help="Where the plot goes; none is drawn without it.")] = None,
    largest: Annotated[int, typer.Option(help="Up to so many nodes.", min=SIZES[0])] = SIZES[-1],
    as_json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
    one: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure how a simulation without training grows."""
    if one:
        number, count, rate = one.split(",")
        sys.stdout.write(json.dumps(asdict(run_one(int(number), int(count), rate))))
        return
    messages = Console(stderr=True, highlight=False)
    found = []
    for send_rate in ("constant", "log-n"):
        for num_nodes in SIZES:
            if num_nodes <= largest:
                rounds = GOAL_ROUNDS if num_nodes <= GOAL_NODES else FEWER_ROUNDS
                messages.print(f"{num_nodes} nodes, {rounds} rounds, send rate {send_rate}", markup=False)
                found.append(_in_a_process(num_nodes, rounds, send_rate))
    if out is not None:
        draw(found, out / "growth.svg")
    if as_json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    else:
        _print(found)


def _print(found: list[Growth]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN)
    for title in ("nodes", "rounds", "sends", "wall, s", "a round, s", "memory, MB", "messages", "events", "target"):
        table.add_column(title, justify="left" if title in ("sends", "target") else "right")
    for each in found:
        target = ""
        if (each.num_nodes, each.rounds, each.send_rate) == (GOAL_NODES, GOAL_ROUNDS, "constant"):
            met = each.wall_s < GOAL_S and each.peak_mb < GOAL_MB
            target = f"< {GOAL_S:g} s, < {GOAL_MB:,.0f} MB: {'met' if met else 'missed'}"
        table.add_row(
            f"{each.num_nodes:,}",
            str(each.rounds),
            each.send_rate,
            f"{each.wall_s:.1f}",
            f"{each.seconds_a_round:.3f}",
            f"{each.peak_mb:.0f}",
            f"{each.num_messages:,}",
            f"{each.num_events:,}",
            target,
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
