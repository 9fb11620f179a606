"""Which samples are held out: a fifth, by the task's word, and of a series without a leak."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.data.preparing import split
from grapevine_agent.data.source import RawSamples
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep
from grapevine_tasks.checks.contract import check_contract
from grapevine_tasks.pipelines import (
    HOLDOUTS,
    MISSING,
    fewest_samples,
    held_out,
    held_out_stretches,
    left_stretches,
    model_specs,
    prepare_learning,
    sample_memory,
    target_unit,
)

FORECAST = PipelineStep(name="forecast", arguments={"length": (24.0,), "horizon": (6.0,)})


def series(holdout: str, **changes: Any) -> DataContract:
    features = FeatureSpec(name="row", dtype="float32", shape=(2,))
    contract = DataContract(kind="hourly", features=features, target=features, pipeline=(FORECAST,), holdout=holdout)
    contract = replace(contract, **changes)
    return replace(contract, target=model_specs(contract)[1])


def raw_rows(num: int) -> RawSamples:
    """Rows that say which they are."""
    numbers = np.arange(num, dtype=np.float32)
    return RawSamples(x=np.stack([numbers, numbers], axis=1), y=None)


@given(st.integers(0, 3_000), st.integers(1, 60), st.sampled_from(sorted(HOLDOUTS)))
def test_stretches_are_in_order_apart_and_a_fifth(num_rows: int, span: int, holdout: str) -> None:
    tested = held_out_stretches(num_rows, span, holdout)
    assert sum(end - start for start, end in tested) == held_out(num_rows)
    trained = left_stretches(num_rows, tested)
    rows = sorted(row for start, end in (*tested, *trained) for row in range(start, end))
    assert rows == list(range(num_rows))
    assert tested == sorted(tested)
    if len(tested) > 1:
        assert all(end - start >= 4 * span - 1 for start, end in tested)


@pytest.mark.parametrize("holdout", ["", *HOLDOUTS])
def test_no_row_of_a_test_window_is_in_a_training_window(holdout: str) -> None:
    contract, raw = series(holdout), raw_rows(2_000)
    train, test = split(raw, contract)
    both = [prepare_learning(raw.x, None, contract, "rows", rows=rows) for rows in (train, test)]
    seen = [{int(row) for array in (each.x, each.y) for row in np.unique(array[..., 0])} for each in both]
    assert not seen[0] & seen[1]
    for each in both:  # and each is made of rows that follow on each other
        whole = np.concatenate([each.x[..., 0], each.y[..., 0]], axis=1)
        assert (np.diff(whole, axis=1) == 1).all()
        assert len(whole) > 100
    num_tested = int((test != MISSING).sum())
    assert num_tested == held_out(2_000)


def test_blocks_reach_every_season_and_the_last_fifth_does_not() -> None:
    raw = raw_rows(8_760)
    quarters = [
        (test[test != MISSING] // 2_190) for test in (split(raw, series(name))[1] for name in ("blocks", "last"))
    ]
    assert set(quarters[0].tolist()) == {0, 1, 2, 3}
    assert set(quarters[1].tolist()) == {3}
    np.testing.assert_array_equal(split(raw, series(""))[1], split(raw, series("last"))[1])


def test_samples_without_an_order_are_drawn_unless_the_task_says_otherwise() -> None:
    plain = {"pipeline": (), "features": FeatureSpec(name="row", dtype="float32", shape=(2,))}
    raw = RawSamples(x=np.zeros((100, 2), np.float32), y=np.zeros((100, 2), np.float32))
    drawn = split(raw, series("", **plain))[1]
    np.testing.assert_array_equal(drawn, split(raw, series("random", **plain))[1])
    assert len(set(np.diff(np.sort(drawn)).tolist())) > 1
    np.testing.assert_array_equal(split(raw, series("last", **plain))[1], np.arange(80, 100))
    assert len(split(raw, series("blocks", **plain))[1]) == 20


def test_the_fewest_samples_of_stretches_are_fewer() -> None:
    last, blocks = (fewest_samples(series(name, minimum_samples=3_000)) for name in ("last", "blocks"))
    assert last == (2_400 - 29, 600 - 29)
    num = len(held_out_stretches(3_000, 30, "blocks"))
    assert blocks == (2_400 - 29 * (num + 1), 600 - 29 * num)


def test_memory_counts_the_seams_between_stretches() -> None:
    last, blocks = (sample_memory(series(name), num=9_000, raw_bytes=1) for name in ("last", "blocks"))
    assert blocks.kept > last.kept


def test_a_holdout_that_is_none_and_one_that_would_leak_are_refused() -> None:
    for fine in ("", *HOLDOUTS):
        check_contract(series(fine))
    with pytest.raises(TaskError, match=r"data.holdout is 'block'; .*blocks"):
        check_contract(series("block"))
    contract = DataContract(
        kind="words",
        features=FeatureSpec(name="word", dtype="int64", shape=()),
        target=FeatureSpec(name="y", dtype="int64", shape=()),
        num_classes=2,
        pipeline=(PipelineStep(name="window", arguments={"length": (8.0,)}),),
        holdout="blocks",
    )
    with pytest.raises(TaskError, match="cannot say where a series is cut"):
        check_contract(contract)


def test_the_owners_units_are_those_of_the_column_that_is_predicted() -> None:
    one = PipelineStep(name="forecast", arguments={"length": (24.0,), "horizon": (6.0,), "columns": (1.0,)})
    standard, normal = PipelineStep(name="standardise"), {"mean": (0.0, 0.0), "std": (4.0, 0.5)}
    learnt = ({"mean": (1.0, 1.0), "std": (3.0, 8.0)},)
    assert target_unit(series("", pipeline=(standard, one)), learnt) == 8.0
    assert target_unit(series("", pipeline=(standard, FORECAST)), learnt) is None  # two units together
    assert target_unit(series("", pipeline=(FORECAST,), scale=0.5), ()) == 2.0
    both = (PipelineStep(name="normalise", arguments=normal), standard, one)
    assert target_unit(series("", pipeline=both), learnt) == 4.0
    logarithm = PipelineStep(name="log1p")
    assert target_unit(series("", pipeline=(logarithm, one)), ()) is None
    row, own = (FeatureSpec(name=name, dtype="float32", shape=(size,)) for name, size in (("row", 2), ("y", 1)))
    assert target_unit(DataContract(kind="k", features=row, target=own, pipeline=(standard,)), learnt) == 1.0
