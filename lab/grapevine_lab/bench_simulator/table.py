"""The report as a table for people, and as JSON."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from grapevine_lab.bench.table import PLAIN_WIDTH, number
from grapevine_lab.bench_simulator.processes import MEMORY_KIND
from grapevine_lab.bench_simulator.runs import SAMPLE_INTERVAL_S, Run
from grapevine_lab.bench_simulator.suite import Contest, Report
from grapevine_lab.bench_simulator.workload import Workload

_MB = 1e-6
_TITLES = ("seconds a round", "least … most", "start-up, s", f"memory ({MEMORY_KIND}), MB", "accuracy", "rounds x runs")


def print_table(report: Report, console: Console) -> None:
    """Print everything: in colours on a terminal, as plain text anywhere else."""
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN)
    table.add_column("nodes", justify="right")
    table.add_column("system")
    for title in _TITLES:
        table.add_column(title, justify="right")
    for contest in report.contests:
        table.add_row(*row(contest), style="" if contest.runs else "red" if contest.failed else "dim")
    console.print(table)
    for line in notes(report):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)


def row(contest: Contest) -> tuple[str, ...]:
    """The cells of one system with one workload: medians over its runs."""
    first = (str(contest.workload.num_nodes), contest.system)
    if not contest.runs:
        return (*first, "failed" if contest.failed else "skipped")
    rounds_s = [run.round_s for run in contest.runs]
    accuracies = [run.accuracy for run in contest.runs if run.accuracy is not None]
    return (
        *first,
        number(statistics.median(rounds_s)),
        f"{number(min(rounds_s))} … {number(max(rounds_s))}",
        number(statistics.median(run.start_up_s for run in contest.runs)),
        number(peak * _MB) if contest.weighed and (peak := contest.weighed.peak_bytes) else "",
        number(statistics.median(accuracies)) if accuracies else "",
        f"{min(len(run.round_ends_s) for run in contest.runs)} x {len(contest.runs)}",
    )


def notes(report: Report) -> list[str]:
    """What one has to know to read the table."""
    workloads = [contest.workload for contest in report.contests]
    lines = [f"Work: {line}." for line in dict.fromkeys(_described(workload) for workload in workloads)]
    lines += [
        f"Samples: {report.origin}. Machine: {report.machine}.",
        "A round: the median time between the ends of rounds, in each run, and over the runs. Start-up: from the start "
        "of the process to the end of its first round, less one such round. Memory: the most that it and all that it "
        f"started had together, asked every {SAMPLE_INTERVAL_S:g} s in a run that is not timed. Accuracy: on test "
        "samples, after the last round; it only shows that all did the work.",
        *report.set_ups,
    ]
    versions = {contest.system: contest.versions for contest in report.contests if contest.versions}
    lines += [f"{name}: " + ", ".join(f"{k} {v}" for k, v in found.items()) for name, found in versions.items()]
    skipped = {contest.system: contest.skipped for contest in report.contests if contest.skipped}
    lines += [f"{name} was skipped: {reason}" for name, reason in skipped.items()]
    lines += [
        f"{contest.system} failed with {contest.workload.num_nodes} nodes: {contest.failed}"
        for contest in report.contests
        if contest.failed
    ]
    return lines


def as_json(report: Report) -> dict[str, Any]:
    """Everything as plain values, unrounded."""
    return {
        "samples": report.origin,
        "machine": report.machine,
        "set_ups": report.set_ups,
        "memory": MEMORY_KIND,
        "results": [_plain(contest) for contest in report.contests],
    }


def _described(workload: Workload) -> str:
    return (
        f"{workload.num_nodes} nodes, each with {workload.num_samples} samples, train {workload.model} for "
        f"{workload.num_steps} steps of SGD {workload.learning_rate:g}, batch {workload.batch_size}, in every round"
    )


def _plain(contest: Contest) -> dict[str, Any]:
    reasons = {name: reason for name in ("skipped", "failed") if (reason := getattr(contest, name))}
    return {
        "system": contest.system,
        "workload": dataclasses.asdict(contest.workload),
        "versions": contest.versions,
        "download_bytes": contest.weight.download_bytes,
        "installed_bytes": contest.weight.installed_bytes,
        "runs": [_plain_run(run) for run in contest.runs],
        "peak_bytes": contest.weighed.peak_bytes if contest.weighed else None,
        "node_bytes": contest.weighed.node_bytes if contest.weighed else None,
        "bytes_a_round": contest.weighed.bytes_a_round if contest.weighed else None,
        "models_a_round": contest.weighed.models_a_round if contest.weighed else None,
        **reasons,
    }


def _plain_run(run: Run) -> dict[str, Any]:
    return {
        "round_s": run.round_s,
        "rounds_s": run.rounds_s,
        "start_up_s": run.start_up_s,
        "first_round_ended_s": run.round_ends_s[0] - run.started_s,
        "ready_s": None if run.ready_s is None else run.ready_s - run.started_s,
        "accuracy": run.accuracy,
    }
