"""What a model without any learning comes to: by hand, and as a source's samples give it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grapevine_agent.data.baselines import Baseline, of_training
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep
from grapevine_tasks.pipelines import in_units, model_specs

ROW = FeatureSpec(name="row", dtype="float32", shape=(2,))
CLASS = FeatureSpec(name="y", dtype="int64", shape=())


def near(name: str, value: float) -> Any:
    """A baseline of that name and, but for rounding, that value."""
    return Baseline(name=name, value=pytest.approx(value))  # type: ignore[arg-type]


def source(tmp_path: Path, **arrays: Any) -> DataSource:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return DataSource(name="own", kind="rows", path=path)


def test_the_majority_is_of_the_training_samples() -> None:
    y, tests = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 1, 2])
    assert of_training("accuracy", y, tests) == Baseline(name="majority class", value=0.25)
    many = np.repeat(np.arange(8), np.arange(8, 0, -1))
    assert of_training("top-5-accuracy", many, np.arange(8)) == Baseline(name="majority class", value=5 / 8)
    sides = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    assert of_training("binary-accuracy", sides, sides) == Baseline(name="majority class", value=5 / 6)


def test_the_mean_is_each_numbers_own() -> None:
    y = np.array([[0.0, 10.0], [2.0, 30.0]], np.float32)
    tests = np.array([[1.0, 22.0], [4.0, 20.0]], np.float32)
    for metric, value in (("mse", 13 / 4), ("rmse", math.sqrt(13 / 4)), ("mae", 5 / 4)):
        assert of_training(metric, y, tests) == near("mean", value)


def test_without_test_samples_there_is_no_baseline(tmp_path: Path) -> None:
    assert of_training("accuracy", np.array([1, 2]), np.array([], np.int64)) is None
    contract = DataContract(kind="rows", features=ROW, target=CLASS, num_classes=3)
    four = source(tmp_path, x=np.zeros((4, 2), np.float32), y=np.zeros(4, np.int64))
    samples = load_samples(contract, four, "accuracy")
    assert (len(samples.x_test), samples.baseline) == (0, None)


def forecast(*steps: PipelineStep, before: tuple[PipelineStep, ...] = (), **arguments: float) -> DataContract:
    cut = PipelineStep(
        name="forecast", arguments={"length": (4.0,), "horizon": (2.0,), **{k: (v,) for k, v in arguments.items()}}
    )
    contract = DataContract(kind="rows", features=ROW, target=ROW, pipeline=(*before, cut, *steps))
    return DataContract(kind="rows", features=ROW, target=model_specs(contract)[1], pipeline=contract.pipeline)


@pytest.mark.parametrize("steps", [(), (PipelineStep(name="flatten"),)], ids=["last", "then flattened"])
def test_of_a_forecast_it_is_that_all_goes_on_as_it_was(tmp_path: Path, steps: tuple[PipelineStep, ...]) -> None:
    rising = np.stack([np.arange(100.0), np.zeros(100)], axis=1)
    own = source(tmp_path, x=rising.astype(np.float32))
    both = load_samples(forecast(*steps), own, "mae")
    assert both.baseline == near("last value", (1 + 2 + 0 + 0) / 4)
    first = load_samples(forecast(*steps, columns=0.0), own, "rmse")
    assert first.baseline == near("last value", math.sqrt((1 + 4) / 2))


def test_errors_of_a_standardised_column_are_told_in_its_own_units(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(20, 5, (500, 2)).astype(np.float32)
    contract = forecast(before=(PipelineStep(name="standardise"),), columns=0.0)
    samples = load_samples(contract, source(tmp_path, x=rows), "rmse")
    std = float(rows[:400, 0].std())
    assert samples.unit == pytest.approx(std, rel=1e-5)
    assert samples.baseline is not None
    plain = load_samples(forecast(columns=0.0), source(tmp_path, x=rows), "rmse").baseline
    assert plain is not None
    assert in_units("rmse", samples.baseline.value, samples.unit) == pytest.approx(plain.value, rel=1e-5)
    assert in_units("mse", 0.25, 2.0) == 1.0
    assert (in_units("accuracy", 0.9, 2.0), in_units("rmse", None, 2.0), in_units("rmse", 0.5, 1.0)) == (None,) * 3
