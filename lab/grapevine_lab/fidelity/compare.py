"""How far apart simulated and real runs are, beside how far apart simulated runs are from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.simulator.measurements import Measurements, in_order, series_of
from grapevine_lab.simulator.plots import curve_of

Numbers: TypeAlias = NDArray[np.float64]
Field: TypeAlias = Literal["metric", "loss"]

MOMENTS_PER_ROUND = 2  # at which models are compared over time


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Two curves, each a median over all nodes of several seeds: how far they are apart, the first minus the second.

    `mean` is the mean size of their differences, `largest` the largest one, `at` where on the x axis it is, `end` the
    last one. `num_beyond` of `num` are larger than the range of the single seeds' medians of either side.
    """

    mean: float
    largest: float
    at: float
    end: float
    num_beyond: int
    num: int


@dataclass(frozen=True, kw_only=True)
class Apart:
    """One quantity: simulated minus real, and what chance alone does.

    `same_seeds` is the simulation of the real runs' seeds against them, `other_seeds` are further sets of as many
    simulated seeds against them, and `simulated` all pairs of these sets against each other.
    """

    same_seeds: Gap
    other_seeds: tuple[Gap, ...]
    simulated: tuple[Gap, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number for each seed of both sides."""

    name: str
    unit: str
    simulated: tuple[float, ...]
    real: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was compared, of released models, staleness and traffic."""

    metric: Apart
    metric_over_time: Apart
    loss: Apart
    figures: tuple[Figure, ...]


def compare(simulated: Sequence[Measurements], real: Measurements, *, num_rounds: int, interval_s: float) -> Comparison:
    """Compare simulations with real runs.

    Args:
        simulated: One or more sets of as many seeds and nodes as `real` has: first that of the same seeds.
        real: The real runs. Times count from the first round and there are no rounds beyond `num_rounds`, in all.
        num_rounds: How many there are.
        interval_s: Of a round.

    Raises:
        ValueError: The sides are not of as many seeds and nodes.
    """
    sizes = {_num_series(each) for each in (*simulated, real)}
    if len(sizes) != 1:
        raise ValueError(f"the sides have {sorted(sizes)} nodes over all seeds: give them as many")
    by_round = np.arange(1.0, num_rounds + 1)  # before, it is the task's initial model on both sides
    end_s = min(float(side.readings.column("time_s").max()) for side in (*simulated, real))
    over_time = np.arange(0.0, end_s, interval_s / MOMENTS_PER_ROUND)
    return Comparison(
        metric=_apart(simulated, real, "metric", "round", by_round),
        metric_over_time=_apart(simulated, real, "metric", "time_s", over_time),
        loss=_apart(simulated, real, "loss", "round", by_round),
        figures=tuple(_figures(simulated, real, num_rounds)),
    )


@dataclass(frozen=True, kw_only=True)
class Medians:
    """Medians over the nodes of all seeds together [k], and over those of each seed [seeds, k]."""

    together: Numbers
    seeds: Numbers


def gap_between(one: Medians, other: Medians, x: Numbers) -> Gap:
    """The gap between two curves at `x` [k]."""
    difference = one.together - other.together
    ranges = [each.seeds.max(axis=0) - each.seeds.min(axis=0) for each in (one, other)]
    largest = int(np.argmax(np.abs(difference)))
    return Gap(
        mean=float(np.abs(difference).mean()),
        largest=float(difference[largest]),
        at=float(x[largest]),
        end=float(difference[-1]),
        num_beyond=int((np.abs(difference) > np.maximum(*ranges)).sum()),
        num=len(x),
    )


def _apart(
    simulated: Sequence[Measurements], real: Measurements, field: Field, over: Literal["round", "time_s"], x: Numbers
) -> Apart:
    sets = [_medians(each, field, over, x) for each in simulated]
    against = _medians(real, field, over, x)
    same, *others = (gap_between(each, against, x) for each in sets)
    return Apart(
        same_seeds=same,
        other_seeds=tuple(others),
        simulated=tuple(gap_between(one, other, x) for one, other in combinations(sets, 2)),
    )


def _medians(measured: Measurements, field: Field, over: Literal["round", "time_s"], x: Numbers) -> Medians:
    def at_x(side: Measurements) -> Numbers:
        curve = curve_of(side, "released", field, over=over)
        return np.asarray(np.interp(x, curve.x, curve.median), np.float64)

    return Medians(together=at_x(measured), seeds=np.stack([at_x(each) for each in _each_seed(measured)]))


def _num_series(measured: Measurements) -> int:
    return len(np.unique(series_of(measured.readings)))


def _each_seed(measured: Measurements) -> list[Measurements]:
    return [measured.of_seed(int(seed)) for seed in np.unique(measured.readings.column("seed"))]


# --- figures --------------------------------------------------------------------------------------


def _figures(simulated: Sequence[Measurements], real: Measurements, num_rounds: int) -> list[Figure]:
    sides = [seed for each in simulated for seed in _each_seed(each)], _each_seed(real)
    half = num_rounds // 2

    def figure(name: str, unit: str, of: Callable[[Measurements], float]) -> Figure:
        values = [tuple(of(seed) for seed in side) for side in sides]
        return Figure(name=name, unit=unit, simulated=values[0], real=values[1])

    def rate(column: str, unit: float = 1.0) -> Callable[[Measurements], float]:
        return lambda seed: _per_round(seed, column) / unit

    def settled(column: str) -> Callable[[Measurements], float]:
        return lambda seed: float(seed.samples.column(column)[seed.samples.column("round") >= half].mean())

    return [
        figure("released metric at the end, median over nodes", "", lambda seed: float(np.median(_last_metrics(seed)))),
        figure("… the worst node", "", lambda seed: float(_last_metrics(seed).min())),
        figure("… the best node", "", lambda seed: float(_last_metrics(seed).max())),
        figure("time from round to round", "s", rate("time_s")),
        figure("training in a round, median", "ms", lambda seed: 1e3 * _median_training_s(seed)),
        figure("nodes have their first round behind them within", "s", _skew_s),
        figure("messages sent per node and round", "", rate("messages_sent")),
        figure("messages received per node and round", "", rate("messages_received")),
        figure("sent per node and round", "kB", rate("bytes_sent", 1e3)),
        figure("received per node and round", "kB", rate("bytes_received", 1e3)),
        figure(f"staleness from round {half} on, mean", "versions", settled("staleness")),
        figure(f"peers to gossip with from round {half} on, mean", "", settled("num_neighbours")),
    ]


def _last_metrics(seed: Measurements) -> Numbers:
    """Every node's last value of the metric [n]."""
    readings = seed.readings
    order = in_order(readings)
    last = order[np.append(np.diff(series_of(readings)[order]) != 0, True)]
    values: Numbers = readings.column("metric")[last]
    return values


def _per_round(seed: Measurements, column: str) -> float:
    """What a total grows by in a round, from the first one that a node has behind it to its last: mean over nodes.

    What comes before, joining and starting the trainer, is no part of a round.
    """
    rates = []
    for rounds, values in _totals(seed, column):
        if rounds[-1] > rounds[0]:
            rates.append(float((values[-1] - values[0]) / (rounds[-1] - rounds[0])))
    return float(np.mean(rates)) if rates else float("nan")


def _median_training_s(seed: Measurements) -> float:
    """Of all rounds but the first, over all nodes."""
    took_s = [np.diff(values) / np.diff(rounds) for rounds, values in _totals(seed, "training_s")]
    return float(np.median(np.concatenate(took_s)))


def _totals(seed: Measurements, column: str) -> list[tuple[Numbers, Numbers]]:
    """For each node, the rounds from the first on that it has behind it [k], and a column's values there [k]."""
    samples = seed.samples
    order = in_order(samples)
    order = order[samples.column("round")[order] >= 1]
    nodes = samples.column("node")[order]
    rounds, values = samples.column("round")[order], samples.column(column)[order]
    return [(rounds[nodes == node], values[nodes == node]) for node in np.unique(nodes)]


def _skew_s(seed: Measurements) -> float:
    """Between the first and the last node's second round."""
    times = seed.samples.column("time_s")[seed.samples.column("round") == 1]
    return float(times.max() - times.min())
