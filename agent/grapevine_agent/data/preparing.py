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

from grapevine_agent.data.formats import describe, load
from grapevine_agent.data.matching import check_fit
from grapevine_agent.data.source import DataSource, RawSamples
from grapevine_proto.manifest import DataContract
from grapevine_tasks import pipelines
from grapevine_tasks.pipelines import MISSING, Prepared, held_out

_HELD_OUT_SEED = 0x7E57  # the same split after every start: what was tested on is never trained on


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples ready for a model: features scaled as the contract says, dtypes as it says."""

    x: NDArray[np.generic]  # [n, …]
    y: NDArray[np.generic]  # [n, …]
    x_test: NDArray[np.generic]
    y_test: NDArray[np.generic]


def load_samples(contract: DataContract, source: DataSource) -> Samples:
    """Load and prepare the samples of a source that matches.

    Without test samples of its own a source gives up a fifth: drawn once and for all, or of a series the
    last in time. Raises TaskError when the source does not fit the contract, or holds numbers that are not
    finite or classes outside `num_classes`.
    """
    check_fit(contract, source, describe(source, contract))
    where = f"{source.name}: {source.path.name or source.dataset}"
    learnt, tested = _prepared(load(source, contract), contract, where)
    return Samples(x=learnt.x, y=learnt.y, x_test=tested.x, y_test=tested.y)


def _prepared(raw: RawSamples, contract: DataContract, where: str) -> tuple[Prepared, Prepared]:
    """What to train on and what to test with."""
    tests = f"{where}, held out to test with"
    if raw.x_test is not None:
        learnt = pipelines.prepare_learning(raw.x, raw.y, contract, where)
        return learnt, pipelines.prepare_learning(raw.x_test, raw.y_test, contract, tests, learnt.learnt)
    train, test = split(raw, is_series=pipelines.is_series(contract))
    learnt = pipelines.prepare_learning(raw.x, raw.y, contract, where, rows=train)
    return learnt, pipelines.prepare_learning(raw.x, raw.y, contract, tests, learnt.learnt, rows=test)


def split(raw: RawSamples, *, is_series: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the rows to train on, and of those to test with.

    Of a series a row that is missing keeps stretches apart: no window reaches across it.
    """
    if not is_series:
        order = np.random.default_rng(_HELD_OUT_SEED).permutation(len(raw.x))
        test, train = np.split(order, [held_out(len(order))])
        return train, test
    starts = np.cumsum([0, *(raw.series or (len(raw.x),))])
    trains, tests = [], []
    for start, end in pairwise(starts.tolist()):
        cut = end - held_out(end - start)
        trains.append(np.arange(start, cut))
        tests.append(np.arange(cut, end))
    has_gaps = raw.x.dtype.kind == "f"
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
