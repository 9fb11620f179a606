"""`python -m grapevine_lab.papers.delta_sum [--size full|medium|quick] [--out DIR] [PART …]`.

Runs that were broken off go on from their checkpoints, and those that are over are not run again.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import numpy as np

from grapevine_lab.papers.delta_sum import analysis, traffic
from grapevine_lab.papers.delta_sum.figures import draw_figure_2, draw_figure_3, draw_figure_4
from grapevine_lab.papers.delta_sum.plan import PARTS, SIZES, Part, settings
from grapevine_lab.papers.delta_sum.runs import Found, run
from grapevine_lab.papers.report import Table, decimals, write_report

TRAFFIC = "traffic"


def main() -> None:
    """Run the parts that are asked for, and leave a table of each as Markdown, and the plots."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_lab.papers.delta_sum", description=__doc__)
    known = [*PARTS, TRAFFIC]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(known)}; figures by default")
    parser.add_argument("--size", choices=SIZES, default="medium", help="how much work (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("simulations/delta-sum"), help="default: %(default)s")
    told = parser.parse_args()
    if unknown := [part for part in told.parts if part not in known]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(known)}")
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: received.append(number))
    out = told.out / told.size
    for part in told.parts or ["figures"]:
        if part == TRAFFIC:
            tables = [count_traffic(out, quick=told.size == "quick")]
        else:
            found = []
            for setting in settings(part, SIZES[told.size]):
                sys.stderr.write(f"{part}: {setting.name}\n")
                try:
                    found.append(run(setting, out, stopping=lambda: bool(received)))
                except KeyboardInterrupt:
                    sys.stderr.write("stopped; the same command goes on from here\n")
                    sys.exit(130)
            tables = report(part, found, out)
        write_report(tables, out / f"{part}.md")
        sys.stdout.write("\n".join(map(str, tables)) + "\n")


def report(part: Part, found: list[Found], out: Path) -> list[Table]:
    """A table of all runs; for the figures the drops, the fits and the plots as well."""
    table = Table(
        title=f"Accuracy in the last round (after the integration): {PARTS[part]}",
        head=("run", "median", "least", "greatest", "released, median"),
    )
    for each in found:
        median, least, greatest = each.final()
        released = each.final("released")[0]
        table.rows.append([each.setting.name, *(decimals(v, 4) for v in (median, least, greatest, released))])
    if part != "figures":
        return [table]
    draw_figure_2(found, out / "fig2")
    draw_figure_3(found, out / "fig3")
    return [table, drops(found)]


def drops(found: list[Found]) -> Table:
    """What a larger topology costs, by strategy."""
    strategies = list(dict.fromkeys(each.setting.strategy for each in found))
    accuracy = {s: {e.setting.num_nodes: e.final()[0] for e in found if e.setting.strategy == s} for s in strategies}
    nodes = np.array(sorted({each.setting.num_nodes for each in found}), np.float64)
    smallest, largest = int(nodes[0]), int(nodes[-1])
    table = Table(
        title=f"Drop from {smallest} to {largest} nodes, in percentage points",
        head=("strategy", "drop", "smaller than average's by", "better fit", "left over: linear, logarithmic"),
    )
    reference = accuracy["average"][smallest] - accuracy["average"][largest]
    for strategy in strategies:
        drop = accuracy[strategy][smallest] - accuracy[strategy][largest]
        shape = ["–", "–"]
        if len(nodes) >= 3:
            fitted = analysis.fit(nodes, np.array([accuracy[strategy][int(n)] for n in nodes]))
            shape = [fitted.better, f"{100 * fitted.linear_rms:.3f}, {100 * fitted.log_rms:.3f}"]
        smaller = f"{analysis.smaller_by(drop, reference):.0%}" if strategy != "average" and reference else "–"
        table.rows.append([strategy, f"{100 * drop:.2f}", smaller, *shape])
    return table


def _denser(num_nodes: int, fewest: int) -> int:
    """Neighbours where ever more nodes share one place: in proportion, even so that a regular graph exists."""
    return round(traffic.CONSTANT_DEGREE * num_nodes / fewest / 2) * 2


def count_traffic(out: Path, *, quick: bool) -> Table:
    """Fig. 4's table and plot."""
    sizes = (6, 12) if quick else (10, 25, 50, 100)
    constant = [traffic.gossip(n, traffic.CONSTANT_DEGREE) for n in sizes]
    growing = [traffic.gossip(n, _denser(n, sizes[0])) for n in sizes if n <= 50]
    federated = [traffic.federated(n) for n in sizes]
    seldom = [traffic.federated(n, sync_rounds=20) for n in sizes]
    table = Table(
        title="Models' worth of bytes for each node and epoch (1 = 221 kB)",
        head=("nodes", "gossip", "its neighbours", "gossip, denser", "its neighbours", "FedAvg", "FedAvg, every 20"),
    )
    for k, n in enumerate(sizes):
        dense = [decimals(growing[k].models), decimals(growing[k].neighbours, 1)] if k < len(growing) else ["–", "–"]
        table.rows.append(
            [
                str(n),
                decimals(constant[k].models),
                decimals(constant[k].neighbours, 1),
                *dense,
                decimals(federated[k].models),
                decimals(seldom[k].models),
            ]
        )
    draw_figure_4(
        {
            "gossip, constant connectivity": constant,
            "gossip, connectivity grows with density": growing,
            "FedAvg": federated,
            "FedAvg, model every 20 epochs": seldom,
        },
        out / "fig4",
    )
    return table


if __name__ == "__main__":
    main()
