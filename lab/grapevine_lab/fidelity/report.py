"""What a fidelity check found: as tables for people, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from grapevine_lab.fidelity.compare import Comparison, Figure, Gap
from grapevine_lab.fidelity.real import RealRun
from grapevine_lab.pages import Cell, Table
from grapevine_lab.pages.printed import print_table
from grapevine_lab.pages.sections import NONE

REPORT_FILE = "fidelity.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A check's result, and what it is of."""

    scenario: str
    metric: str
    num_nodes: int
    num_rounds: int
    seeds: tuple[int, ...]
    interval_s: float
    alone_at_most: float  # the best accuracy that any node could reach by itself; NaN for another metric
    comparison: Comparison
    runs: tuple[RealRun, ...]


def write_report(found: Found, path: Path) -> None:
    """Write everything but the single messages as JSON; what is not a number is null."""
    runs = [
        {
            "seed": run.seed,
            "rounds": run.rounds,
            "rejected": run.rejected,
            "load_before": run.load_before,
            "load_after": run.load_after,
            "num_cores": run.num_cores,
            "wall_s": run.wall_s,
            "reached_limit": run.reached_limit,
            "messages": len(run.passed),
        }
        for run in found.runs
    ]
    told = {name: getattr(found, name) for name in Found.__dataclass_fields__ if name not in ("comparison", "runs")}
    content = _plain({**told, "comparison": asdict(found.comparison), "runs": runs})
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_report(found: Found, console: Console) -> None:
    """Print the tables: with lines on a terminal, as Markdown anywhere else."""
    for line in in_words(found):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    for table in tables_of(found):
        print_table(table, console)


def in_words(found: Found) -> list[str]:
    """What was compared, and what learning together is held against."""
    seeds = ", ".join(map(str, found.seeds))
    lines = [f"{found.scenario}: {found.num_nodes} nodes, {found.num_rounds} rounds, seeds {seeds}"]
    if math.isfinite(found.alone_at_most):
        lines.append(f"by itself no node could pass {100 * found.alone_at_most:.1f} %")
    return lines


def tables_of(found: Found) -> tuple[Table, ...]:
    """How far apart the curves are, the figures of both sides, and the real runs; for a terminal or a page."""
    return _gap_table(found), _figure_table(found.comparison.figures), _run_table(found.runs)


def _gap_table(found: Found) -> Table:
    comparison = found.comparison
    headings = [
        "medians of the released models",
        "compared",
        "mean difference",
        "largest",
        "at the end",
        "beyond the seeds' range",
    ]
    rows: list[list[Cell]] = []
    for name, apart, unit in (
        (f"{found.metric} by rounds", comparison.metric, "round {:.0f}"),
        (f"{found.metric} over time", comparison.metric_over_time, "{:.1f} s"),
        ("loss by rounds", comparison.loss, "round {:.0f}"),
    ):
        rows.append([name, "simulated − real, same seeds", *_one(apart.same_seeds, unit)])
        if apart.other_seeds:
            rows.append(["", f"{len(apart.other_seeds)} other simulated sets − real", *_several(apart.other_seeds)])
            rows.append(["", f"simulated sets, {len(apart.simulated)} pairs", *_several(apart.simulated)])
    return Table(headings, rows)


def _one(gap: Gap, unit: str) -> list[str]:
    largest = f"{_signed(gap.largest)} ({unit.format(gap.at)})"
    return [number(gap.mean), largest, _signed(gap.end), f"{100 * gap.num_beyond / gap.num:.0f} %"]


def _several(gaps: Sequence[Gap]) -> list[str]:
    """Sizes alone: mean, and from the least to the greatest."""
    columns = ([gap.mean for gap in gaps], [abs(gap.largest) for gap in gaps], [abs(gap.end) for gap in gaps])
    beyond = [100 * gap.num_beyond / gap.num for gap in gaps]
    cells = [f"{number(sum(each) / len(each))} ({number(min(each))} … {number(max(each))})" for each in columns]
    return [*cells, f"{sum(beyond) / len(beyond):.0f} % ({min(beyond):.0f} … {max(beyond):.0f} %)"]


def _figure_table(figures: Sequence[Figure]) -> Table:
    """Means over seeds, and from the least to the greatest seed."""
    rows = []
    for each in figures:
        name = f"{each.name} ({each.unit})" if each.unit else each.name
        means = [sum(side) / len(side) for side in (each.simulated, each.real)]
        cells = [
            f"{number(mean)} ({number(min(side))} … {number(max(side))})"
            for mean, side in zip(means, (each.simulated, each.real), strict=True)
        ]
        rows.append([name, *cells, _signed(means[0] - means[1])])
    return Table(["figure", "simulated", "real", "difference"], rows)


def _run_table(runs: Sequence[RealRun]) -> Table:
    headings = ["real run", "rounds that agents reached", "messages", "dropped", "load before, after", "wall time (s)"]
    rows = []
    for run in runs:
        dropped = ", ".join(f"{reason} {number_}" for reason, number_ in sorted(run.rejected.items())) or "0"
        rounds = f"{min(run.rounds)} to {max(run.rounds)}" + (" (given up)" if run.reached_limit else "")
        load = f"{run.load_before:.1f}, {run.load_after:.1f} on {run.num_cores} cores"
        rows.append([f"seed {run.seed}", rounds, str(len(run.passed)), dropped, load, f"{run.wall_s:.0f}"])
    return Table(headings, rows)


def number(value: float) -> str:
    """Three significant digits or more, never an exponent; a dash for what was not measured."""
    if not math.isfinite(value):
        return NONE
    size = abs(value)
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.3f}"


def _signed(value: float) -> str:
    return number(value) if not math.isfinite(value) or value < 0 else f"+{number(value)}"


def _plain(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value
