"""What a run measures: kept as columns, read as rows, grouped without loops."""

import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_lab.simulator.measurements import (
    MODELS,
    Measurements,
    Reading,
    Rows,
    Sample,
    columns_of,
    grouped,
    in_order,
)

READING = Reading(seed=7, time_s=1.5, round=3, node=2, model="merged", loss=0.25, metric=0.75, num_evaluated=360)
SAMPLE = Sample(
    seed=7, time_s=1.5, round=3, node=2, online=True, version=3, age=30, staleness=1.25, staleness_bound=math.inf,
    num_neighbours=4, server="reachable", messages_sent=12, bytes_sent=480_000, messages_received=11,
    bytes_received=440_000, joules=7.5, training_s=0.75,
)  # fmt: skip


def swarm(
    num_nodes: int = 8, num_rounds: int = 30, seeds: tuple[int, ...] = (1, 2), round_s: float = 4.0
) -> Measurements:
    """Made-up but likely: accuracy saturates, the working model lags and scatters, a node is away for a while."""
    measurements = Measurements()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        sent = np.zeros(num_nodes, dtype=int)
        received = np.zeros(num_nodes, dtype=int)
        for turn in range(1, num_rounds + 1):
            reached = 0.96 - 0.86 * math.exp(-turn / (num_rounds / 6))
            for node in range(num_nodes):
                online = not (node == 1 and num_rounds // 3 < turn <= num_rounds // 2)
                time_s = (turn + rng.uniform(-0.3, 0.3)) * round_s
                for model, lag, scatter in (("working", 0.10, 0.05), ("merged", 0.03, 0.02), ("released", 0.0, 0.006)):
                    metric = float(np.clip(reached - lag + rng.normal(0, scatter), 0, 1))
                    measurements.add(
                        Reading(
                            seed=seed, time_s=time_s, round=turn, node=node, model=model, num_evaluated=360,
                            metric=metric, loss=-math.log(max(metric, 1e-3)) + rng.uniform(0, 0.05),
                        )
                    )  # fmt: skip
                sent[node] += rng.poisson(3) * online
                received[node] += rng.poisson(3) * online
                measurements.add(
                    replace(
                        SAMPLE, seed=seed, time_s=time_s, round=turn, node=node, online=online, version=turn,
                        age=10 * turn, staleness=float(rng.gamma(4, 0.25) * min(1, turn / 4)), staleness_bound=1.05,
                        server="reachable" if turn > num_rounds // 2 else "unknown", messages_sent=int(sent[node]),
                        bytes_sent=int(sent[node]) * 221_352, messages_received=int(received[node]),
                        bytes_received=int(received[node]) * 221_352, joules=turn * round_s * (2.7 + 0.1 * node),
                        training_s=turn * 0.8,
                    )
                )  # fmt: skip
    return measurements


def test_rows_come_back_as_they_went_in_and_in_order() -> None:
    other = replace(READING, model="released", loss=math.inf, node=0)
    measurements = Measurements([READING, SAMPLE, other])
    assert list(measurements.readings) == [READING, other]
    assert list(measurements.samples) == [SAMPLE]
    assert measurements.readings[-1] == other
    assert measurements.readings[0:1] == [READING]
    assert type(measurements.samples[0].online) is bool


def test_what_is_not_a_number_stays_so() -> None:
    measurements = Measurements([replace(READING, loss=math.nan), replace(SAMPLE, staleness=math.nan)])
    assert math.isnan(measurements.readings[0].loss)
    assert math.isnan(measurements.samples[0].staleness)
    assert measurements == Measurements([replace(READING, loss=math.nan), replace(SAMPLE, staleness=math.nan)])


@pytest.mark.parametrize(
    ("row", "error", "words"),
    [
        (replace(READING, model="best"), ValueError, "model: 'best' is none of working, merged, released"),
        (replace(SAMPLE, server="gone"), ValueError, "server: 'gone' is none of unknown, reachable, suspect, lost"),
        (replace(READING, num_evaluated=1.5), TypeError, "float"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_raises_and_leaves_no_trace(row: Any, error: type[Exception], words: str) -> None:
    measurements = Measurements([READING, SAMPLE])
    with pytest.raises(error, match=words):
        measurements.add(row)
    assert measurements == Measurements([READING, SAMPLE])


def test_a_checkpoint_keeps_them_and_they_can_go_on() -> None:
    measurements = swarm(num_nodes=2, num_rounds=3)
    kept = pickle.loads(pickle.dumps(measurements))
    assert kept == measurements
    kept.add(READING)
    assert kept != measurements
    assert len(kept.readings) == len(measurements.readings) + 1


def test_runs_are_merged_one_after_the_other_and_stay_as_they_are() -> None:
    one, two = swarm(seeds=(1,)), swarm(seeds=(2,))
    before = len(one.readings)
    together = Measurements.merged([one, two])
    assert together == swarm(seeds=(1, 2))
    assert together.of_seed(2) == two
    assert len(one.readings) == before


def test_columns_are_arrays_that_outlive_later_rows() -> None:
    measurements = Measurements([READING])
    metric = measurements.readings.column("metric")
    measurements.add(READING)  # an array that shared memory with the rows would forbid it
    assert metric.dtype == np.float64
    assert metric.tolist() == [0.75]
    assert measurements.readings.column("model").tolist() == [MODELS.index("merged")] * 2
    assert measurements.readings.column("round").dtype == np.int64
    assert Measurements([SAMPLE]).samples.column("online").dtype == np.bool_


def test_rows_can_be_built_from_columns() -> None:
    rows = swarm().samples
    cells = {column.name: rows.column(column.name) for column in columns_of(Sample)}
    assert Rows.from_columns(Sample, cells) == rows
    with pytest.raises(ValueError, match="no column joules"):
        Rows.from_columns(Sample, {name: cells[name] for name in cells if name != "joules"})
    with pytest.raises(ValueError, match="age has 3 rows"):
        Rows.from_columns(Sample, cells | {"age": cells["age"][:3]})
    with pytest.raises(ValueError, match="server holds a word"):
        Rows.from_columns(Sample, cells | {"server": np.full(len(rows), -1)})


def test_every_column_says_what_it_holds() -> None:
    for kind in (Reading, Sample):
        assert [column.name for column in columns_of(kind)] == list(kind.__dataclass_fields__)
        assert all(len(column.doc) > 8 for column in columns_of(kind))


def test_rows_are_ordered_by_seed_node_and_time() -> None:
    places = [(2, 0, 1.0), (1, 1, 5.0), (1, 0, 3.0), (1, 1, 2.0), (1, 1, 5.0)]
    rows = Measurements([replace(READING, seed=s, node=n, time_s=t) for s, n, t in places]).readings
    assert in_order(rows).tolist() == [2, 3, 1, 4, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf]))))
def test_groups_agree_with_numpy_group_by_group(pairs: list[tuple[int, float]]) -> None:
    keys = np.array([key for key, _ in pairs], dtype=np.int64)
    values = np.array([value for _, value in pairs], dtype=np.float64)
    groups = grouped(keys, values)
    finite = {key: values[(keys == key) & np.isfinite(values)] for key in range(4)}
    assert groups.keys.tolist() == [key for key, held in finite.items() if len(held)]
    for i, key in enumerate(groups.keys.tolist()):
        for share in (0.0, 0.25, 0.5, 1.0):
            assert groups.quantile(share)[i] == pytest.approx(np.quantile(finite[key], share), abs=1e-6)
        assert groups.mean()[i] == pytest.approx(finite[key].mean(), abs=1e-6)
        assert groups.deviation()[i] == pytest.approx(finite[key].std(), abs=1e-5)
