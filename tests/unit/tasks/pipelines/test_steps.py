"""What each step makes of samples, by hand or beside PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep
from grapevine_tasks.pipelines import (
    count_prepared,
    derives_target,
    is_series,
    model_specs,
    prepare,
    prepare_learning,
    rows_needed,
)

CLASS = FeatureSpec(name="y", dtype="int64", shape=())
RNG = np.random.default_rng(3)


def step(name: str, **arguments: float | list[float]) -> PipelineStep:
    return PipelineStep(
        name=name, arguments={k: tuple(v) if isinstance(v, list) else (float(v),) for k, v in arguments.items()}
    )


def contract(shape: tuple[int, ...], *steps: PipelineStep, **fields: Any) -> DataContract:
    given = {"target": CLASS, "num_classes": 3, **fields}
    features = FeatureSpec(name="x", dtype=given.pop("dtype", "float32"), shape=shape)
    return DataContract(kind="k", features=features, pipeline=steps, **given)


def series(shape: tuple[int, ...], *steps: PipelineStep) -> DataContract:
    """A contract whose target a step makes, filled in as a task file's is."""
    return contract(shape, *steps, target=FeatureSpec(name="y", dtype="float32", shape=()), num_classes=0)


def made(x: Any, data: DataContract, y: Any = None) -> tuple[Any, Any]:
    if y is None and not derives_target(data):
        y = np.zeros(len(x), np.int64)
    found = prepare(np.asarray(x), y, data, "here")
    for array, spec in zip(found, model_specs(data), strict=True):
        assert (array.dtype, array.shape[1:]) == (np.dtype(spec.dtype), spec.shape)
    return found


def test_scale_and_offset_come_before_the_steps() -> None:
    data = contract((2,), step("clip", low=0, high=1), scale=0.5, offset=1.0)
    np.testing.assert_array_equal(made([[1, 2], [9, -9]], data)[0], [[0, 0.5], [1, 0]])


def test_normalise_takes_a_number_for_each_column_or_one_for_all() -> None:
    each = contract((2,), step("normalise", mean=[1, 10], std=[2, 5]))
    np.testing.assert_array_equal(made([[3.0, 20.0]], each)[0], [[1, 2]])
    one = contract((2,), step("normalise", mean=1, std=2))
    np.testing.assert_array_equal(made([[3.0, 21.0]], one)[0], [[1, 10]])


def test_normalise_goes_along_the_channels_of_images() -> None:
    x = np.ones((1, 2, 2, 3))
    data = contract((2, 2, 3), step("channels-first"), step("normalise", mean=[0, 1, 2], std=1))
    np.testing.assert_array_equal(made(x, data)[0][0, :, 0, 0], [1, 0, -1])


def test_standardise_measures_the_training_samples_and_tests_use_the_same_numbers() -> None:
    x, test = RNG.normal(5, 3, (200, 4)), RNG.normal(50, 3, (20, 4))
    data = contract((4,), step("standardise"))
    trained = prepare_learning(x, np.zeros(200, np.int64), data, "here")
    np.testing.assert_allclose(trained.x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(trained.x.std(0), 1, atol=1e-5)
    tested = prepare_learning(test, np.zeros(20, np.int64), data, "here", trained.learnt)
    np.testing.assert_allclose(tested.x, (test - x.mean(0)) / x.std(0), rtol=1e-4)


def test_standardise_leaves_a_column_that_never_changes_finite() -> None:
    found = made(np.full((5, 2), 7.25), contract((2,), step("standardise")))[0]
    np.testing.assert_array_equal(found, 0)


def test_standardise_leaves_missing_numbers_out() -> None:
    rows = np.array([[0.0], [2.0], [np.nan], [4.0], [6.0]])
    data = contract((1,), step("standardise"), step("window", length=1))
    x = made(rows, data)[0]
    assert len(x) == 4
    assert x.mean() == pytest.approx(0, abs=1e-6)


def test_log1p_refuses_what_has_no_logarithm() -> None:
    data = contract((), step("log1p"))
    np.testing.assert_allclose(made([0.0, 1.0], data)[0], np.log([1, 2]), rtol=1e-6)
    with pytest.raises(TaskError, match=r"here: row 1: the step log1p .* and there is -1: put clip before"):
        made([-1.0], data)


@pytest.mark.parametrize(("height", "width"), [(10, 14), (5, 7), (9, 30), (5, 5)])
def test_images_that_grow_are_interpolated_as_pytorch_does(height: int, width: int) -> None:
    x = RNG.random((3, 2, 5, 5)).astype(np.float32)
    found = made(x, contract((2, 5, 5), step("resize", height=height, width=width)))[0]
    expected = F.interpolate(torch.from_numpy(x), (height, width), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_images_that_shrink_are_averaged_over_areas() -> None:
    x = RNG.random((3, 12, 8)).astype(np.float32)
    found = made(x, contract((12, 8), step("resize", height=4, width=4)))[0]
    np.testing.assert_allclose(found, F.avg_pool2d(torch.from_numpy(x), (3, 2)).numpy(), atol=1e-6)
    uneven = made([[[0.0, 3.0, 6.0]]], contract((1, 3), step("resize", height=1, width=2)))[0]
    np.testing.assert_allclose(uneven, [[[1.0, 5.0]]], rtol=1e-6)  # each new pixel covers one and a half


def test_crop_and_pad_keep_the_middle() -> None:
    x = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(made(x, contract((4, 4), step("crop", height=2, width=2)))[0], [[[5, 6], [9, 10]]])
    padded = made(x, contract((4, 4), step("pad", height=6, width=4, value=-1)))[0]
    np.testing.assert_array_equal(padded[0, 1:5], x[0])
    np.testing.assert_array_equal(padded[0, [0, 5]], -1)


def test_a_colour_picture_becomes_a_small_grey_one() -> None:
    x = np.zeros((1, 4, 4, 3), np.uint8)
    x[..., 1] = 255
    steps = (step("channels-first"), step("grey"), step("resize", height=2, width=2), step("flatten"))
    np.testing.assert_allclose(made(x, contract((4, 4, 3), *steps, scale=1 / 255))[0], 0.587, rtol=1e-6)


def test_whole_numbers_become_one_hot() -> None:
    data = contract((2,), step("one-hot", classes=3), dtype="int64")
    np.testing.assert_array_equal(made([[2, 0]], data)[0], [[[0, 0, 1], [1, 0, 0]]])
    with pytest.raises(TaskError, match="row 1, column 1: the step one-hot is for 0 to 2, and there is 3"):
        made([[1, 3]], data)


def test_a_class_becomes_one_hot() -> None:
    _, y = made(np.zeros((2, 1)), contract((1,), step("one-hot-target")), np.array([2, 0]))
    np.testing.assert_array_equal(y, [[0, 0, 1], [1, 0, 0]])


def test_windows_take_the_target_of_their_last_row() -> None:
    data = contract((1,), step("window", length=3, stride=2))
    x, y = made(np.arange(8.0)[:, None], data, np.arange(8) % 3)
    np.testing.assert_array_equal(x[..., 0], [[0, 1, 2], [2, 3, 4], [4, 5, 6]])
    np.testing.assert_array_equal(y, np.array([2, 4, 6]) % 3)


def test_a_forecast_is_what_follows_the_window() -> None:
    rows = np.stack([np.arange(9.0), 100 + np.arange(9.0)], 1)
    data = series((2,), step("forecast", length=3, horizon=2, stride=2, columns=[1]))
    x, y = made(rows, data)
    np.testing.assert_array_equal(x[..., 0], [[0, 1, 2], [2, 3, 4], [4, 5, 6]])
    np.testing.assert_array_equal(y[..., 0], [[103, 104], [105, 106], [107, 108]])
    assert derives_target(data)
    assert is_series(data)


def test_a_series_of_single_numbers_is_forecast_too() -> None:
    x, y = made(np.arange(5.0), series((), step("forecast", length=2)))
    np.testing.assert_array_equal(x, [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(y, [[2], [3], [4]])


def test_a_window_that_misses_a_number_is_left_out() -> None:
    rows = np.arange(10.0)
    rows[4] = np.nan
    _, y = made(rows, series((), step("forecast", length=2, horizon=1)))
    np.testing.assert_array_equal(y[:, 0], [2, 3, 7, 8, 9])
    with pytest.raises(TaskError, match=r"each of the 8 samples .* fill the gaps"):
        made(np.full(10, np.nan), series((), step("forecast", length=2)))


def test_a_missing_number_is_refused_where_order_means_nothing() -> None:
    with pytest.raises(TaskError, match="not finite"):
        made([[np.nan]], contract((1,), step("clip", low=0, high=1)))


def test_differences_and_windows_of_them() -> None:
    data = series((), step("difference"), step("forecast", length=2))
    x, y = made([0.0, 1.0, 3.0, 6.0, 10.0], data)
    np.testing.assert_array_equal(x, [[1, 2], [2, 3]])
    np.testing.assert_array_equal(y, [[3], [4]])
    assert rows_needed(data) == 4
    assert count_prepared(5, data) == 2
    assert count_prepared(3, data) == 0


def test_an_autoencoder_is_shown_what_it_has_to_give() -> None:
    x, y = made(RNG.random((4, 2, 3)), series((2, 3), step("flatten"), step("reconstruct")))
    np.testing.assert_array_equal(x, y)
    assert x.shape == (4, 6)


def test_a_series_that_is_too_short_says_how_many_rows_are_needed() -> None:
    with pytest.raises(TaskError, match="here: 4 rows of a series are too few, the step forecast needs 5"):
        made(np.zeros(4), series((), step("forecast", length=4)))


def test_what_would_take_too_much_memory_is_refused_before_it_is_taken() -> None:
    long = np.zeros(2_000_000, np.float32)
    with pytest.raises(TaskError, match=r"step 1 \(window\) would make .* at most 1024 MiB"):
        made(long, contract((), step("window", length=60_000)))


def test_without_steps_arrays_are_what_they_always_were() -> None:
    x = RNG.integers(0, 17, (20, 8, 8)).astype(np.uint8)
    found, y = made(x, contract((8, 8), scale=1 / 16, offset=2.0), np.arange(20) % 3)
    np.testing.assert_array_equal(found, (x.astype(np.float32) - np.float32(2)) * np.float32(1 / 16))
    assert y.dtype == np.int64


WRONG = [
    (((4,), step("normalize")), "step 1 is named 'normalize'; did you mean 'normalise'"),
    (((4,), step("clip", low=0)), "the step clip lacks 'high': write it"),
    (((4,), step("clip", low=0, hihg=1)), "no argument 'hihg'; did you mean 'high'"),
    (((4,), step("clip", low=2, high=1)), "write a low below high"),
    (((4,), step("flatten", length=2)), "it takes none: remove it"),
    (((4,), step("normalise", mean=[1, 2], std=1)), "mean has 2 numbers, and .* write 1 or as many"),
    (((4,), step("normalise", mean=0, std=0)), "std is 0; write numbers, each from"),
    (((4,), step("resize", height=2, width=2)), r"takes images \[h, w\] or \[c, h, w\]"),
    (((4, 4), step("resize", height=2.5, width=2)), "height is 2.5; write one whole number"),
    (((4, 4), step("resize", height=[2, 2], width=2)), "height has 2 numbers"),
    (((4, 4), step("crop", height=5, width=2)), "use pad"),
    (((4, 4), step("pad", height=3, width=5)), "use crop"),
    (((4, 4), step("grey")), "put channels-first before"),
    (((4, 4), step("window", length=2)), "takes rows"),
    (((4,), step("window", length=2), step("window", length=2)), "which were cut before it"),
    (((4,), step("forecast", length=2)), "set data.num_classes to 0"),
    (((4096, 4096),), "make it 4194304 numbers or fewer"),
    (((65,), step("window", length=65536)), "make it 4194304 numbers or fewer"),
    (((4,), step("one-hot", classes=3)), "takes int64 features"),
    (((4,), *[step("log1p")] * 33), "33 steps; write at most 32"),
]


@pytest.mark.parametrize(("parts", "message"), WRONG)
def test_a_wrong_pipeline_is_named_with_its_remedy(parts: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        model_specs(contract(*parts))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step("forecast", length=2, columns=[0, 4])], "numbers from 0 to 3, each once"),
        ([step("forecast", length=2, columns=[1, 1])], "each once"),
        ([step("forecast", length=2), step("reconstruct")], "a step before it did"),
        ([step("flatten-target"), step("reconstruct")], "put it after forecast or reconstruct"),
    ],
)
def test_a_wrong_target_is_named_with_its_remedy(steps: list[PipelineStep], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        model_specs(series((4,), *steps))
