"""Every task of the catalogue is a task, and learns."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.figures import metric_of

from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import Samples, load_samples
from grapevine_agent.data.source import DataSource
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.built import BuiltTask
from grapevine_tasks.catalogue import catalogue_names, catalogue_task
from grapevine_tasks.checks import check_manifest
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights

GIVEN = os.environ.get("GRAPEVINE_DATA", "")
needs_data = pytest.mark.skipif(not GIVEN, reason="GRAPEVINE_DATA is not set")
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


@cache
def built(name: str, folder: Path) -> BuiltTask:
    return build_task(catalogue_task(name), check_merging=check_merge_plan, into=folder / name)


def samples_of(name: str, folder: Path, **arrays: NDArray[Any]) -> Samples:
    """The arrays as an owner's npz file, taken as the task's."""
    contract = built(name, folder).draft.data
    source = DataSource(name="mine", kind=contract.kind, path=folder / f"{name}.npz")
    np.savez(source.path, **arrays)  # type: ignore[arg-type]
    match = match_source(contract, [source])
    assert match, str(match)
    return load_samples(contract, source)


class Trained:
    """A task trained by one device alone."""

    def __init__(self, name: str, folder: Path, samples: Samples, num_steps: int) -> None:
        self.manifest = built(name, folder).draft
        self.layout = ModelLayout.of(self.manifest.program)
        trainer = LocalTrainer(self.manifest.program, self.manifest.training, samples, num_threads=1)
        parameters, buffers = decode_weights(self.layout, built(name, folder).weights)
        self.before = metric_of(trainer.evaluate(parameters, buffers))
        self.result = trainer.train(parameters, buffers, num_steps)
        self.after = metric_of(trainer.evaluate(self.result.parameters, self.result.buffers))

    def output(self, x: NDArray[Any]) -> NDArray[Any]:
        named = self.layout.split(self.result.parameters, self.result.buffers)
        parameters = [torch.from_numpy(named[entry.name].copy()) for entry in self.layout.parameters]
        with torch.no_grad():
            output = Interpreter(self.manifest.program).run("eval", (torch.from_numpy(x),), parameters, ())[0]
        array: NDArray[Any] = output.numpy()
        return array


def seasons(num_hours: int, *, columns: int) -> NDArray[np.float32]:
    """Days and slower changes with noise, as sensors have them."""
    hours = np.arange(num_hours)[:, None]
    phases, slow = rng.uniform(0, 6, columns), rng.uniform(60, 200, columns)
    waves = np.sin(2 * np.pi * hours / 24 + phases) + 0.5 * np.sin(2 * np.pi * hours / slow)
    return (10 + 4 * waves + 0.2 * rng.normal(size=(num_hours, columns))).astype(np.float32)


@pytest.mark.parametrize("name", catalogue_names())
def test_a_task_of_the_catalogue_passes_the_checks_and_says_what_it_is(name: str, folder: Path) -> None:
    task = built(name, folder)
    check_manifest(task.draft, check_merging=check_merge_plan)
    assert len(task.weights) < 1_000_000  # one packet
    readme = (catalogue_task(name) / "README.md").read_text()
    assert f'kind = "{task.draft.data.kind}"' in readme
    assert f"{ModelLayout.of(task.draft.program).num_parameters:,} parameters" in readme


def nothing_changes(samples: Samples) -> float:
    """The error of a forecast that says what the last hour was."""
    last, truth = samples.x_test[:, -1:].astype(np.float64), samples.y_test.astype(np.float64)
    return float(np.sqrt(np.mean((truth - last) ** 2)))


def test_the_weather_of_the_next_hours_is_learned_better_than_that_nothing_changes(folder: Path) -> None:
    samples = samples_of("weather", folder, x=seasons(1500, columns=4) * [1, 5, 0.05, 1])
    trained = Trained("weather", folder, samples, 200)
    persistence = nothing_changes(samples)
    assert trained.after < 0.8 * persistence < trained.before


@needs_data
def test_the_weather_at_a_real_station_is_learned(folder: Path) -> None:
    with np.load(Path(GIVEN) / "irish_weather" / "irish_hourly_2017.npz") as archive:
        rows = np.stack([archive[name][3] for name in ("temp", "rhum", "rain", "dewpt_derived")], axis=-1)
    samples = samples_of("weather", folder, x=rows)
    trained = Trained("weather", folder, samples, 250)
    persistence = nothing_changes(samples)
    assert trained.after < 0.93 * persistence


def areas(scores: NDArray[Any], is_fault: NDArray[Any]) -> float:
    """The area under the ROC curve: how often a fault scores higher than a normal window."""
    order = np.argsort(np.argsort(scores)) + 1
    num_faults = int(is_fault.sum())
    above = order[is_fault].sum() - num_faults * (num_faults + 1) / 2
    return float(above / (num_faults * (len(scores) - num_faults)))


def test_a_sensor_that_misbehaves_is_reconstructed_worse(folder: Path) -> None:
    samples = samples_of("sensor-anomaly", folder, x=seasons(1500, columns=3))
    trained = Trained("sensor-anomaly", folder, samples, 400)
    assert trained.after < 0.4 * trained.before
    normal = samples.x_test
    stuck = np.repeat(normal[:, :1], normal.shape[1], axis=1)  # the same reading for half a day
    jumping = normal + (rng.random(normal.shape) < 0.2) * rng.choice([-2, 2], normal.shape)
    for faulty in (stuck, jumping.astype(np.float32)):
        both = np.concatenate([normal, faulty])
        scores = np.mean((trained.output(both) - both) ** 2, axis=(1, 2))
        assert areas(scores, np.arange(len(both)) >= len(normal)) > 0.8


def test_characters_are_learned_from_drawn_ones(folder: Path) -> None:
    shapes = rng.integers(0, 2, (5, 7, 7)) * 255  # five made-up characters …
    labels = rng.integers(0, 5, 300)
    drawn = np.kron(shapes[labels], np.ones((4, 4), np.int64)) + rng.integers(0, 60, (300, 28, 28))  # … and noise
    samples = samples_of("handwriting", folder, x=drawn.clip(0, 255).astype(np.uint8), y=labels)
    assert Trained("handwriting", folder, samples, 60).after > 0.9


@needs_data
def test_characters_of_real_writers_are_learned(folder: Path) -> None:
    with np.load(Path(GIVEN) / "unipen_by_writer" / "unipen_by_writer.npz") as archive:
        chosen = np.isin(archive["writer"], np.unique(archive["writer"][archive["sub80"]])[:20])
        x, y = archive["images"][chosen], archive["labels"][chosen].astype(np.int64)
    assert Trained("handwriting", folder, samples_of("handwriting", folder, x=x, y=y), 300).after > 0.35
