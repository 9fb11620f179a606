"""What a run came to, in a page: for people as tables, for programs as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.pages import Cell, Table
from grapevine_lab.pages.printed import print_table
from grapevine_lab.pages.sections import shown
from grapevine_lab.simulator.measurements import (
    MODELS,
    Measurements,
    Reading,
    Rows,
    Sample,
    grouped,
    in_order,
    series_of,
)
from grapevine_lab.simulator.tally import Tally

if TYPE_CHECKING:
    from rich.console import Console

SETTLED_SHARE = 0.5  # of a run's virtual time: after it, staleness is taken as settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the run knows of itself beside its measurements. `targets` are values of the metric."""

    scenario: str
    seeds: tuple[int, ...]
    num_nodes: int
    num_rounds: int
    metric_name: str
    higher_is_better: bool = True
    targets: tuple[float, ...] = ()
    wall_s: float = math.nan  # for all seeds together
    transfers: Tally | None = None  # of all seeds together; None where everything goes whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One quantity at the end, over nodes. NaN where nothing finite was measured.

    `median` is the median over seeds of each seed's median over nodes, and `seed_low` to `seed_high` these medians'
    range; `low` and `high` are the least and the greatest value of any node of any seed.
    """

    median: float
    low: float
    high: float
    seed_low: float
    seed_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """When the median over nodes first reached a target: the median over seeds, infinite where most never did."""

    target: float
    rounds: float
    time_s: float  # virtual
    num_seeds: int  # that reached it


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One kind of model. `num_not_finite` counts the last models whose loss or metric is not a finite number."""

    model: str
    metric: Outcome
    loss: Outcome
    targets: tuple[Reached, ...]
    num_models: int
    num_not_finite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSummary:
    """What went in chunks, in one seed: transfers of all nodes, and the share of the bytes that were given again."""

    made: float
    resumed: float
    given_up: float
    share_again: float

    @classmethod
    def of(cls, tally: Tally, num_seeds: int) -> Self:
        """Means over seeds."""
        made, resumed, given_up = (each / num_seeds for each in (tally.made, tally.resumed, tally.given_up))
        return cls(made=made, resumed=resumed, given_up=given_up, share_again=tally.share_again)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A finished run. Rates and totals are means over nodes and seeds; seconds are virtual unless named `wall`."""

    scenario: str
    seeds: tuple[int, ...]
    num_nodes: int
    num_rounds: int
    metric_name: str
    higher_is_better: bool
    models: tuple[ModelSummary, ...]
    virtual_s: float  # of one seed
    staleness: float  # in versions, over nodes online in the settled part of the run
    staleness_bound: float  # over the same samples, those with a finite bound
    staleness_ratio: float  # measured over bound, of the samples with a finite bound
    messages: float  # sent in one seed, by all nodes
    messages_per_node_s: float  # sent
    bytes_sent_per_node: float
    bytes_received_per_node: float
    bytes_sent_per_node_s: float
    joules_per_node: float
    training_s_per_node: float
    wall_s: float
    wall_s_per_round: float  # one round of one seed
    transfers: TransferSummary | None = None  # None where no broker has a packet limit


def summarise(measurements: Measurements, facts: Facts) -> Summary:
    """Sum up a run of one or several seeds. What was not measured is NaN."""
    samples, readings = measurements.samples, measurements.readings
    last = samples.where(_last(samples))
    virtual_s = _mean_of_last_times(measurements, facts.seeds)
    num_seeds = max(1, len(facts.seeds))
    staleness, bound, ratio = _staleness(samples)
    per_node = {
        name: _mean(last.column(name))
        for name in ("messages_sent", "bytes_sent", "bytes_received", "joules", "training_s")
    }
    models = (_model(readings, model, facts) for model in MODELS)
    return Summary(
        scenario=facts.scenario,
        seeds=facts.seeds,
        num_nodes=facts.num_nodes,
        num_rounds=facts.num_rounds,
        metric_name=facts.metric_name,
        higher_is_better=facts.higher_is_better,
        models=tuple(model for model in models if model is not None),
        virtual_s=virtual_s,
        staleness=staleness,
        staleness_bound=bound,
        staleness_ratio=ratio,
        messages=float(last.column("messages_sent").sum()) / num_seeds if len(last) else math.nan,
        messages_per_node_s=_over(per_node["messages_sent"], virtual_s),
        bytes_sent_per_node=per_node["bytes_sent"],
        bytes_received_per_node=per_node["bytes_received"],
        bytes_sent_per_node_s=_over(per_node["bytes_sent"], virtual_s),
        joules_per_node=per_node["joules"],
        training_s_per_node=per_node["training_s"],
        wall_s=facts.wall_s,
        wall_s_per_round=_over(facts.wall_s, facts.num_rounds * num_seeds),
        transfers=TransferSummary.of(facts.transfers, num_seeds) if facts.transfers is not None else None,
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as plain values, unrounded. What was not measured, or never happened, is null."""
    plain: dict[str, Any] = _plain(asdict(summary))
    return plain


def print_summary(summary: Summary, console: Console) -> None:
    """Print the summary: as tables on a terminal, as plain text with one row a line anywhere else."""
    from rich.text import Text  # noqa: PLC0415 - only for whoever prints

    console.print(Text(f"{summary.scenario}: {size_of(summary)}"), soft_wrap=not console.is_terminal)
    for table in tables_of(summary):
        print_table(table, console)


def size_of(summary: Summary) -> str:
    """How large the run was, in words."""
    seeds = f"{'seed' if len(summary.seeds) == 1 else 'seeds'} {', '.join(map(str, summary.seeds))}"
    return f"{summary.num_nodes} nodes, {summary.num_rounds} rounds, {seeds}"


def tables_of(summary: Summary) -> tuple[Table, ...]:
    """The summary as tables, for a terminal or a page: models, targets, costs. Empty ones are left out."""
    tables = (_model_table(summary), _target_table(summary), _cost_table(summary))
    return tuple(table for table in tables if table.rows)


def _last(rows: Rows[Any]) -> NDArray[np.bool_]:
    """Which rows [n] are their node's last in their seed."""
    order = in_order(rows)
    series = series_of(rows)[order]
    mask = np.zeros(len(rows), dtype=np.bool_)
    mask[order[np.append(np.diff(series) != 0, True)] if len(rows) else order] = True
    return mask


def _model(readings: Rows[Reading], model: str, facts: Facts) -> ModelSummary | None:
    rows = readings.where(readings.column("model") == MODELS.index(model))
    if not len(rows):
        return None
    last = rows.where(_last(rows))
    finite = np.isfinite(last.column("metric")) & np.isfinite(last.column("loss"))
    return ModelSummary(
        model=model,
        metric=_outcome(last, "metric"),
        loss=_outcome(last, "loss"),
        targets=tuple(_reached(rows, target, facts) for target in facts.targets),
        num_models=len(last),
        num_not_finite=int((~finite).sum()),
    )


def _outcome(last: Rows[Reading], name: str) -> Outcome:
    groups = grouped(last.column("seed"), last.column(name))
    if not len(groups.keys):
        return Outcome(median=math.nan, low=math.nan, high=math.nan, seed_low=math.nan, seed_high=math.nan)
    medians = groups.quantile(0.5)
    return Outcome(
        median=float(np.median(medians)),
        low=float(groups.values.min()),
        high=float(groups.values.max()),
        seed_low=float(medians.min()),
        seed_high=float(medians.max()),
    )


def _reached(rows: Rows[Reading], target: float, facts: Facts) -> Reached:
    rounds, times = [], []
    for seed in facts.seeds:
        found = _first(rows.where(rows.column("seed") == seed), target, facts.higher_is_better)
        rounds.append(found[0])
        times.append(found[1])
    num_seeds = sum(math.isfinite(turn) for turn in rounds)
    # Of an even number of seeds the later of the two in the middle: half of a run that never ends is no time.
    middle = len(facts.seeds) // 2
    return Reached(
        target=target,
        rounds=sorted(rounds)[middle] if rounds else math.inf,
        time_s=sorted(times)[middle] if times else math.inf,
        num_seeds=num_seeds,
    )


def _first(rows: Rows[Reading], target: float, higher_is_better: bool) -> tuple[float, float]:
    """The first round whose median over nodes reaches the target, and the median time of that round's readings.

    Rounds in which fewer than half as many nodes were read as in the fullest one do not count: there a few fast nodes
    would speak for all. Infinite, both, where no round does.
    """
    metric = grouped(rows.column("round"), rows.column("metric"))
    if not len(metric.keys):
        return math.inf, math.inf
    medians = metric.quantile(0.5)
    reached = (medians >= target if higher_is_better else medians <= target) & (
        2 * metric.counts >= metric.counts.max()
    )
    if not reached.any():
        return math.inf, math.inf
    turn = metric.keys[np.argmax(reached)]
    return float(turn), float(np.median(rows.column("time_s")[rows.column("round") == turn]))


def _mean_of_last_times(measurements: Measurements, seeds: Sequence[int]) -> float:
    ends = []
    for seed in seeds:
        run = measurements.of_seed(seed)
        times = np.concatenate([run.readings.column("time_s"), run.samples.column("time_s")])
        if len(times):
            ends.append(float(times.max()))
    return _mean(np.array(ends))


def _staleness(samples: Rows[Sample]) -> tuple[float, float, float]:
    """Measured staleness, its bound, and their ratio, in versions, once the run has settled."""
    if not len(samples):
        return math.nan, math.nan, math.nan
    seeds = np.unique(samples.column("seed"), return_inverse=True)[1]
    times = samples.column("time_s")
    ends = np.zeros(int(seeds.max()) + 1)
    np.maximum.at(ends, seeds, times)
    measured, bound = samples.column("staleness"), samples.column("staleness_bound")
    settled = samples.column("online") & (times >= SETTLED_SHARE * ends[seeds]) & np.isfinite(measured)
    bounded = settled & np.isfinite(bound)
    return _mean(measured[settled]), _mean(bound[bounded]), _over(_mean(measured[bounded]), _mean(bound[bounded]))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _over(amount: float, of: float) -> float:
    return amount / of if of > 0 else math.nan


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


def _model_table(summary: Summary) -> Table:
    rows: list[list[Cell]] = []
    for model in summary.models:
        for name, outcome in ((summary.metric_name, model.metric), ("loss", model.loss)):
            seeds = f"{shown(outcome.seed_low)} to {shown(outcome.seed_high)}"
            numbers = (outcome.median, outcome.low, outcome.high)
            rows.append([model.model, name, *numbers, seeds, f"{model.num_not_finite} of {model.num_models}"])
    return Table(["last model", "figure", "median", "least", "greatest", "medians of seeds", "not finite"], rows)


def _target_table(summary: Summary) -> Table:
    bound = "≥" if summary.higher_is_better else "≤"
    headings = [
        "model",
        f"median {summary.metric_name}",
        "after rounds",
        "after virtual time (s)",
        "seeds that reached it",
    ]
    rows: list[list[Cell]] = []
    for model in summary.models:
        for reached in model.targets:
            num_seeds = f"{reached.num_seeds} of {len(summary.seeds)}"
            rows.append([model.model, f"{bound} {reached.target:g}", reached.rounds, reached.time_s, num_seeds])
    return Table(headings, rows)


def _cost_table(summary: Summary) -> Table:
    rows = (
        ("virtual time (s)", summary.virtual_s),
        ("staleness, settled (versions)", summary.staleness),
        ("staleness, Lemma 1's bound (versions)", summary.staleness_bound),
        ("staleness, measured / bound", summary.staleness_ratio),
        ("messages sent, all nodes", summary.messages),
        ("messages sent per node and virtual second", summary.messages_per_node_s),
        ("sent per node (MB)", summary.bytes_sent_per_node / 1e6),
        ("received per node (MB)", summary.bytes_received_per_node / 1e6),
        ("sent per node and virtual second (kB)", summary.bytes_sent_per_node_s / 1e3),
        *_transfer_rows(summary.transfers),
        ("energy per node (J)", summary.joules_per_node),
        ("training per node (virtual s)", summary.training_s_per_node),
        ("wall time (s)", summary.wall_s),
        ("wall time per round (s)", summary.wall_s_per_round),
    )
    return Table(["figure", "value"], rows)


def _transfer_rows(found: TransferSummary | None) -> tuple[tuple[str, float], ...]:
    if found is None:
        return ()
    return (
        ("transfers in chunks, all nodes", found.made),
        ("transfers resumed", found.resumed),
        ("transfers given up", found.given_up),
        ("sent again, of bytes in chunks (%)", 100 * found.share_again),
    )
