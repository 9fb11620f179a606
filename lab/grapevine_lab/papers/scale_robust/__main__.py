"""`python -m grapevine_lab.papers.scale_robust [--quick] [--out DIR] [PART …]`: the paper's figures and theorems."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grapevine_lab.papers.report import Table, write_report
from grapevine_lab.papers.scale_robust import figures, tables

PARTS = {
    "staleness": "Lemma 1, Theorems 1 and 2, training delay, loss, in an event simulation (2 minutes)",
    "agents": "staleness among the simulator's agents (5 minutes)",
    "figures": "figs. 3 and 4 by the simulator's agents (10 minutes)",
    "speed-up": "linear speed-up with n (15 minutes)",
    "draws": "what the draw of the data does to fig. 4 (6 minutes)",
}


def main() -> None:
    """Run the parts that are asked for, and leave a table of each as Markdown, and the plots."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_lab.papers.scale_robust", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: two minutes in all")
    parser.add_argument("--out", type=Path, default=Path("simulations/scale-robust"), help="default: %(default)s")
    told = parser.parse_args()
    if unknown := [part for part in told.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    for part in told.parts or PARTS:
        say(f"{part}: {PARTS[part]}")
        found = run_part(part, quick=told.quick, out=told.out)
        write_report(found, told.out / f"{part}.md")
        sys.stdout.write("\n".join(map(str, found)) + "\n")


def run_part(part: str, *, quick: bool, out: Path) -> list[Table]:
    """One part's tables; its plots go to `out`."""
    match part:
        case "staleness":
            return [
                tables.lemma_1(quick=quick),
                tables.circumstances(quick=quick),
                *tables.theorem_2(quick=quick),
                tables.what_is_told(quick=quick),
            ]
        case "agents":
            return [tables.of_agents(quick=quick, say=say)]
        case "figures":
            return [
                figures.draw_figure("linear", like_n=False, quick=quick, out=out, say=say),
                figures.draw_figure("linear", like_n=True, quick=quick, out=out, say=say),
                figures.draw_figure("nonlinear", like_n=True, quick=quick, out=out, say=say),
            ]
        case "speed-up":
            return figures.measure_speedup(quick=quick, out=out, say=say)
        case _:
            return [figures.measure_draws(quick=quick), figures.agents_draws(quick=quick, say=say)]


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
