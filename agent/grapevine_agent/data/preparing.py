"""From the arrays of a source to samples that a model takes: held out, scaled, through the task's pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.formats import describe, load
from grapevine_agent.data.matching import check_fit
from grapevine_agent.data.source import DataSource, RawSamples
from grapevine_proto.manifest import DataContract
from grapevine_tasks import pipelines

_HELD_OUT_SEED = 0x7E57  # the same split after every start: what was tested on is never trained on


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples ready for a model: features scaled as the contract says, dtypes as it says."""

    x: NDArray[np.generic]  # [n, …]
    y: NDArray[np.generic]  # [n, …]
    x_test: NDArray[np.generic]
    y_test: NDArray[np.generic]


Part: TypeAlias = tuple[NDArray[Any], NDArray[Any] | None]


def load_samples(contract: DataContract, source: DataSource) -> Samples:
    """Load and prepare the samples of a source that matches.

    Without test samples of its own a source gives up a fifth: drawn once and for all, or of a series the
    last in time. Raises TaskError when the source does not fit the contract, or holds numbers that are not
    finite or classes outside `num_classes`.
    """
    check_fit(contract, source, describe(source, contract))
    raw = load(source, contract)
    train, test = split(raw, is_series=pipelines.is_series(contract))
    where = f"{source.name}: {source.path.name or source.dataset}"
    learnt = pipelines.prepare_learning(*train, contract, where)
    held_out = pipelines.prepare_learning(*test, contract, f"{where}, held out to test with", learnt.learnt)
    return Samples(x=learnt.x, y=learnt.y, x_test=held_out.x, y_test=held_out.y)


def split(raw: RawSamples, *, is_series: bool) -> tuple[Part, Part]:
    """(x, y) to train on and (x, y) to test with. Of a series, rows without numbers keep stretches apart."""
    if raw.x_test is not None:
        return (raw.x, raw.y), (raw.x_test, raw.y_test)
    if not is_series:
        order = np.random.default_rng(_HELD_OUT_SEED).permutation(len(raw.x))
        test, train = np.split(order, [len(order) // pipelines.HELD_OUT])
        return _taken(raw, train), _taken(raw, test)
    starts = np.cumsum([0, *(raw.series or (len(raw.x),))])
    trains, tests = [], []
    for start, end in pairwise(starts.tolist()):
        cut = end - (end - start) // pipelines.HELD_OUT
        trains.append(_taken(raw, np.arange(start, cut)))
        tests.append(_taken(raw, np.arange(cut, end)))
    return joined(trains), joined(tests)


def joined(parts: list[Part]) -> Part:
    """Stretches of a series as one, a row that is missing between each two: no window reaches across it."""
    xs: list[NDArray[Any]] = []
    ys: list[NDArray[Any]] = []
    for x, y in parts:
        if not len(x):
            continue
        if xs and x.dtype.kind == "f":
            xs.append(np.full_like(x[:1], np.nan))
            if y is not None:
                ys.append(np.zeros_like(y[:1]))
        xs.append(x)
        if y is not None:
            ys.append(y)
    if not xs:
        return parts[0]
    return np.concatenate(xs), np.concatenate(ys) if ys else None


def _taken(raw: RawSamples, indices: NDArray[np.int64]) -> Part:
    return raw.x[indices], None if raw.y is None else raw.y[indices]
