"""From the arrays of a source to samples that a model takes: held out, scaled, through the task's pipeline.

Nothing is copied on the way that need not be: which rows are held out are numbers of rows, and the raw arrays go
as soon as the last sample is made of them. What all of it takes is known before anything is read
(`pipelines.sample_memory`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.baselines import Baseline, is_forecast, of_last_value, of_training, up_to_forecast
from grapevine_agent.data.formats import describe, load
from grapevine_agent.data.matching import check_fit
from grapevine_agent.data.source import DataSource, RawSamples
from grapevine_proto.manifest import DataContract
from grapevine_tasks import pipelines
from grapevine_tasks.pipelines import (
    HELD_OUT_SEED,
    MISSING,
    held_out,
    held_out_stretches,
    holdout_of,
    is_series,
    left_stretches,
    rows_needed,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples ready for a model: features scaled as the contract says, dtypes as it says."""

    x: NDArray[np.generic]  # [n, …]
    y: NDArray[np.generic]  # [n, …]
    x_test: NDArray[np.generic]
    y_test: NDArray[np.generic]
    baseline: Baseline | None = None  # in the metric that was asked for
    unit: float | None = None  # what 1 in the targets is in the owner's units, where there is such a number


def load_samples(contract: DataContract, source: DataSource, metric: str = "") -> Samples:
    """Load and prepare the samples of a source that matches.

    Without test samples of its own a source gives up a fifth, by the contract's `holdout`. With the task's `metric`
    there is a baseline beside them, if there are test samples. Raises TaskError when the source does not fit the
    contract, or holds numbers that are not finite or classes outside `num_classes`.
    """
    check_fit(contract, source, describe(source, contract))
    where = f"{source.name}: {source.path.name or source.dataset}"
    raw = load(source, contract)
    tests = f"{where}, held out to test with"
    train = test = None
    x_test, y_test = raw.x_test, raw.y_test
    if x_test is None:
        train, test = split(raw, contract)
        x_test, y_test = raw.x, raw.y
    learnt = pipelines.prepare_learning(raw.x, raw.y, contract, where, rows=train)
    baseline = None
    if metric and is_forecast(contract):  # before the test samples: what it takes beside others is no more than they do
        known = up_to_forecast(contract)
        if known != contract:
            seen = pipelines.prepare_learning(x_test, y_test, known, tests, learnt.learnt, rows=test)
            baseline = of_last_value(metric, seen.x, seen.y, contract)
            del seen
    tested = pipelines.prepare_learning(x_test, y_test, contract, tests, learnt.learnt, rows=test)
    if metric and baseline is None:
        if is_forecast(contract):
            baseline = of_last_value(metric, tested.x, tested.y, contract)
        else:
            baseline = of_training(metric, learnt.y, tested.y)
    return Samples(
        x=learnt.x,
        y=learnt.y,
        x_test=tested.x,
        y_test=tested.y,
        baseline=baseline,
        unit=pipelines.target_unit(contract, learnt.learnt),
    )


def split(raw: RawSamples, contract: DataContract) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the rows to train on, and of those to test with.

    Of a series a row that is missing keeps stretches apart: no window reaches across it.
    """
    holdout, in_order = holdout_of(contract), is_series(contract)
    if holdout == "random" and not in_order:
        order = np.random.default_rng(HELD_OUT_SEED).permutation(len(raw.x))
        test, train = np.split(order, [held_out(len(order))])
        return train, test
    starts = np.cumsum([0, *((raw.series if in_order else ()) or (len(raw.x),))])
    span = rows_needed(contract)
    trains, tests = [], []
    for start, end in pairwise(starts.tolist()):
        tested = held_out_stretches(end - start, span, holdout)
        trains += [np.arange(start + a, start + b) for a, b in left_stretches(end - start, tested)]
        tests += [np.arange(start + a, start + b) for a, b in tested]
    has_gaps = in_order and contract.features.dtype == "float32"
    return _joined(trains, has_gaps=has_gaps), _joined(tests, has_gaps=has_gaps)


def _joined(stretches: list[NDArray[np.int64]], *, has_gaps: bool) -> NDArray[np.int64]:
    parts: list[NDArray[np.int64]] = []
    for rows in stretches:
        if not len(rows):
            continue
        if parts and has_gaps:
            parts.append(np.array([MISSING]))
        parts.append(rows)
    return np.concatenate(parts) if parts else stretches[0]
