"""Holds the bound on memory against what random legal programs really take.

`python -m tests.unit.tasks.hostile.memory.run [--trials 5000] [--first 0] [--out memory-trials.jsonl]`, which takes
an hour or two on one core. Each trial is a line of the file: its seed, the bound, the estimate, what it took, and
whether it ran to its end. Seeds that are in the file are not tried again, so a campaign that was stopped goes on
where it was. Bound and estimate are worked out anew for all of them at the end, as the checks are now. Exit code
1: a program took more than its bound.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from tests.unit.tasks.hostile.memory.measure import Measured, measure, prepare
from tests.unit.tasks.hostile.memory.programs import LIMITS, Trial, trial

from grapevine_tasks.checks import check_program, estimate_memory

MIB = 2**20
LARGE = 20 * MIB  # what weighs less is mostly the libraries' own
_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def figures(tried: Trial) -> tuple[int, int]:
    """The bound and the estimate, in bytes."""
    report = check_program(tried.program, replace(LIMITS, largest_batch=tried.plan.batch_size))
    return report.memory_bytes, estimate_memory(tried.program, report, tried.plan).peak_bytes


def main(
    trials: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 5000,
    first: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="A line for each trial; read first.")] = Path("memory-trials.jsonl"),
) -> None:
    """Try every seed that is not in the file, and print what came of all of them."""
    found = {line["seed"]: line for line in _lines(out)}
    seeds = range(first, first + trials)
    missing = [seed for seed in seeds if seed not in found]
    if missing:
        prepare()
    with out.open("a", encoding="utf-8") as file:
        for seed in missing:
            tried = trial(seed)
            found[seed] = _line(tried, measure(tried))
            file.write(json.dumps(found[seed]) + "\n")
            file.flush()
    wanted = [found[seed] for seed in seeds]
    too_low = report(_worked_out_anew(wanted))
    raise typer.Exit(1 if too_low else 0)


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(text)


def _line(tried: Trial, measured: Measured) -> dict[str, Any]:
    return {"seed": tried.seed, **asdict(measured)}


def _worked_out_anew(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    worked = []
    for line in lines:
        tried = trial(line["seed"])
        bound, estimate = figures(tried)
        worked.append({**line, "bound": bound, "estimate": estimate, "operators": tried.operators})
    return worked


def report(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Print quantiles; whether the bound was too low for any program, also for one that did not run to its end."""
    whole = [line for line in lines if not line["error"]]
    _say(f"{len(lines)} programs, of which {len(whole)} ran to their end")
    for line in lines:
        if line["error"]:
            _say(f"  seed {line['seed']}: {line['error']}")
    large = [line for line in whole if line["num_bytes"] >= LARGE]
    _say(f"memory in MB: {_quantiles([line['num_bytes'] / MIB for line in whole])}")
    for name, some in (("all", whole), (f"those of {LARGE // MIB} MB and more, {len(large)}", large)):
        for figure in ("bound", "estimate"):
            ratios = [line[figure] / max(1, line["num_bytes"]) for line in some]
            _say(f"{figure} over what was taken, {name}: {_quantiles(ratios)}")
    too_low = [line for line in lines if line["num_bytes"] > line["bound"]]
    _say(f"bound too low: {len(too_low)}")
    for line in too_low:
        _say(
            f"  seed {line['seed']}: took {line['num_bytes'] / MIB:.1f} MB, bound {line['bound'] / MIB:.1f} MB: "
            f"{' '.join(line['operators'])}"
        )
    return bool(too_low)


def _quantiles(numbers: Sequence[float]) -> str:
    if not numbers:
        return "–"
    ordered = sorted(numbers)
    chosen = [ordered[round(q * (len(ordered) - 1))] for q in _QUANTILES]
    names = ["least", *(f"{q:.0%}" for q in _QUANTILES[1:-1]), "most"]
    mean = statistics.fmean(ordered)
    return ", ".join(f"{name} {number:.2f}" for name, number in zip(names, chosen, strict=True)) + f"; mean {mean:.2f}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    typer.run(main)
