"""What preparing samples is said to take, it takes, and no more: NumPy tells tracemalloc of every array."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.unit.tasks.pipelines.test_any_pipeline import SMALL, contracts
from tests.unit.tasks.pipelines.test_steps import contract, series, step

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import (
    STEPS,
    PreparedBytes,
    derives_target,
    fewest_samples_memory,
    prepare_learning,
    prepared_bytes,
    sample_memory,
)

RNG = np.random.default_rng(5)
COLOURED = (step("channels-first"),)

# At least one pipeline for each step, of samples that take megabytes.
PIPELINES: dict[str, tuple[DataContract, int]] = {
    "nothing": (contract((100,)), 20_000),
    "normalise": (contract((100,), step("normalise", mean=1, std=2)), 20_000),
    "standardise": (contract((100,), step("standardise")), 60_000),
    "standardise single numbers": (
        series((), step("standardise"), step("window", length=3), step("reconstruct")),
        10**6,
    ),
    "clip": (contract((100,), step("clip", low=0, high=1)), 20_000),
    "log1p": (contract((100,), step("log1p")), 20_000),
    "flatten": (contract((10, 10), step("flatten")), 20_000),
    "flatten-target": (series((3,), step("forecast", length=20, horizon=5), step("flatten-target")), 20_000),
    "one-hot": (contract((8,), step("one-hot", classes=50), dtype="int64"), 20_000),
    "one-hot of columns": (contract((20,), step("one-hot", classes=20, columns=[3, 0, 9]), offset=0.5), 20_000),
    "cyclic": (contract((20,), step("cyclic", period=24, columns=[3, 0, 9])), 50_000),
    "cyclic windows": (contract((4,), step("window", length=40), step("cyclic", period=24, columns=[1])), 20_000),
    "log1p of columns": (contract((100,), step("log1p", columns=[3, 0])), 20_000),
    "clip of columns": (contract((100,), step("clip", low=0, high=1, columns=[3, 0])), 20_000),
    "normalise columns": (contract((100,), step("normalise", mean=1, std=2, columns=[3, 0])), 20_000),
    "standardise columns": (contract((20,), step("standardise", columns=[3, 0])), 100_000),
    "one-hot-target": (contract((4,), step("one-hot-target"), num_classes=100), 50_000),
    "channels-first": (contract((30, 30, 3), *COLOURED), 2_000),
    "add-channel": (contract((40, 40), step("add-channel"), step("clip", low=0, high=1)), 3_000),
    "grey": (contract((30, 30, 3), *COLOURED, step("grey")), 3_000),
    "resize down": (contract((40, 40), step("resize", height=10, width=12)), 3_000),
    "resize up": (contract((20, 20), step("resize", height=50, width=64)), 2_000),
    "resize one that is wider on its way": (contract((64, 1), step("resize", height=4, width=128)), 4_000),
    "crop": (contract((40, 40), step("crop", height=20, width=40)), 3_000),
    "pad": (contract((20, 20), step("pad", height=40, width=40)), 3_000),
    "window": (contract((3,), step("window", length=50, stride=2)), 50_000),
    "forecast": (series((3,), step("forecast", length=50, columns=[0, 2])), 30_000),
    "difference": (series((3,), step("difference"), step("forecast", length=5)), 200_000),
    "reconstruct": (series((100,), step("reconstruct")), 20_000),
    "reconstruct, then in place": (series((100,), step("reconstruct"), step("clip", low=0, high=1)), 20_000),
    "targets that are images": (
        contract((20, 20), target=contract((30, 30)).features, num_classes=0),
        3_000,
    ),
}


def _samples(data: DataContract, num: int) -> tuple[Any, Any]:
    x = RNG.integers(0, 3, (num, *data.features.shape))
    y = RNG.integers(0, max(1, data.num_classes), (num, *data.target.shape)).astype(data.target.dtype)
    return (x if data.features.dtype == "int64" else x + 0.5), None if derives_target(data) else y


def _measured(data: DataContract, x: Any, y: Any, rows: Any = None) -> PreparedBytes:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        prepared = prepare_learning(x, y, data, "here", rows=rows)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(prepared.x) > 0
    return PreparedBytes(peak=peak - before, kept=kept - before)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_step_takes_what_it_says_and_says_little_more(name: str) -> None:
    data, num = PIPELINES[name]
    told = prepared_bytes(data, num)
    found = _measured(data, *_samples(data, num))
    assert found.peak <= told.peak
    assert found.kept <= told.kept
    assert told.peak <= 1.5 * found.peak  # or honest tasks would be refused
    assert told.kept <= 1.1 * found.kept + 2**17


def test_every_step_is_measured() -> None:
    measured = {named.name for data, _ in PIPELINES.values() for named in data.pipeline}
    assert measured == set(STEPS)


def test_rows_that_are_chosen_take_no_copy_of_all_rows() -> None:
    data, num = contract((100,)), 20_000
    x, y = _samples(data, num)
    rows = RNG.permutation(num)[: num // 2]
    found = _measured(data, x, y, rows)
    assert found.peak <= prepared_bytes(data, num // 2).peak


def test_a_series_with_gaps_is_cleaned_in_its_own_memory() -> None:
    data, num = series((3,), step("forecast", length=50)), 30_000
    x, _ = _samples(data, num)
    x[RNG.random(num) < 0.001] = np.nan
    found = _measured(data, x, None)
    assert found.peak <= prepared_bytes(data, num).peak


@settings(max_examples=300, deadline=None)
@given(contracts(SMALL, strange=False), st.sampled_from([1, 20, 3_000, 100_000]))
@example(series((3, 2, 1), step("grey"), step("reconstruct")), 100_000)
def test_no_pipeline_takes_more_than_it_says(data: DataContract, num: int) -> None:
    try:
        told = prepared_bytes(data, num)
        found = _measured(data, *_samples(data, num))
    except (TaskError, AssertionError):
        assume(False)
    assert found.peak <= told.peak
    assert found.kept <= told.kept


def test_windows_multiply_what_is_kept_and_so_does_the_count() -> None:
    rows, length = 10_000, 100
    data = series((3,), step("forecast", length=length))
    told = sample_memory(data, num=rows, raw_bytes=8 * 3 * rows)
    assert told.kept > 4 * 3 * length * (rows - 2 * length)
    assert told.preparing > told.kept


def test_what_a_source_takes_to_be_read_counts_with_what_is_read() -> None:
    data = contract((10,))
    small = sample_memory(data, num=1000, raw_bytes=80_000)
    read = sample_memory(data, num=1000, raw_bytes=80_000, working_bytes=10**9, library_bytes=7)
    assert (read.preparing, read.libraries, read.kept) == (10**9 + 80_000, 7, small.kept)


def test_the_fewest_samples_need_no_more_than_any_source_of_them() -> None:
    data = contract((10,), minimum_samples=5000)
    least = fewest_samples_memory(data)
    for raw_bytes in (11 * 5000, 88 * 5000):
        any_source = sample_memory(data, num=5000, raw_bytes=raw_bytes)
        assert least.preparing <= any_source.preparing
        assert least.kept == any_source.kept


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2**20, 2), "sides of up to 4096 pixels"), ((4000, 1), "numbers of an image of 4000 × 1 on its way")],
)
def test_an_image_that_grows_beyond_all_bounds_on_its_way_is_refused(shape: tuple[int, int], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        prepared_bytes(contract(shape, step("resize", height=1, width=4096)), 1)
