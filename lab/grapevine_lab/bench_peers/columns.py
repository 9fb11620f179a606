"""The tables of the comparison, as Markdown: a row for each system and workload."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from grapevine_lab.bench.table import number
from grapevine_lab.bench_simulator.suite import Contest

TITLES = (
    "nodes",
    "system",
    "seconds a round",
    "least … most",
    "start-up, s",
    "bytes a model",
    "kB a node and round",
    "accuracy",
    "PSS a node, MB",
    "PSS in all, MB",
    "download, MB",
    "installed, MB",
)
NOT_SENT = "not sent"
_MB, _KB = 1e-6, 1e-3


def markdown(contests: Sequence[Contest]) -> str:
    """One table."""
    rows = [list(TITLES), ["---:" if title != "system" else "---" for title in TITLES], *map(row, contests)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(contest: Contest) -> list[str]:
    """The cells of one system with one workload: medians over its runs; empty where nothing was measured."""
    first = [str(contest.workload.num_nodes), contest.system]
    last = [_scaled(contest.weight.download_bytes, _MB), _scaled(contest.weight.installed_bytes, _MB)]
    if not contest.runs:
        return [*first, "failed" if contest.failed else "skipped", *[""] * (len(TITLES) - 5), *last]
    rounds_s = [run.round_s for run in contest.runs]
    weighed, num_nodes = contest.weighed, contest.workload.num_nodes
    measured = [*contest.runs, *([weighed] if weighed else [])]
    accuracies = [run.accuracy for run in measured if run.accuracy is not None]
    peak, of_node = (weighed.peak_bytes, weighed.node_bytes) if weighed else (None, None)
    return [
        *first,
        number(statistics.median(rounds_s)),
        f"{number(min(rounds_s))} … {number(max(rounds_s))}",
        number(statistics.median(run.start_up_s for run in contest.runs)),
        *_wire(contest),
        number(statistics.median(accuracies)) if accuracies else "",
        _scaled(of_node or (peak / num_nodes if peak else None), _MB),
        _scaled(peak, _MB),
        *last,
    ]


def _wire(contest: Contest) -> tuple[str, str]:
    weighed = contest.weighed
    if weighed is None:
        return "", ""
    num_bytes, num_models = weighed.bytes_a_round, weighed.models_a_round
    if num_bytes is None:
        return NOT_SENT, NOT_SENT
    a_model = f"{num_bytes / num_models:,.0f}" if num_models else ""
    return a_model, _scaled(num_bytes / contest.workload.num_nodes, _KB)


def item(line: str) -> str:
    """A line below the tables; of several, as the end of a log is, all but the first stand as they are."""
    first, _, others = line.partition("\n")
    as_it_is = "".join(f"      {each}\n" for each in others.splitlines())
    return f"- {first}\n" + (f"\n{as_it_is}\n" if as_it_is else "")


def _scaled(value: float | None, factor: float) -> str:
    return "" if value is None else number(value * factor)
