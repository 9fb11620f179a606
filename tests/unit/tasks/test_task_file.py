"""task.toml: pipelines, schedules and constants are read, and mistakes are told with their remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, PipelineStep, Schedule
from grapevine_tasks.authoring.task_file import TaskFile, read_task_file

FORECAST = """
[task]
name = "Hours to come"

[data]
kind = "weather"
max_age_s = 3600

[data.features]
name = "hour"
dtype = "float32"
shape = [2]
columns = ["temperature", "humidity"]

[[data.pipeline]]
name = "normalise"
mean = [10, 60.5]
std = 5

[[data.pipeline]]
name = "forecast"
length = 24
horizon = 6
columns = ["humidity"]

[training]
loss = "huber"
metric = "mae"
max_gradient_norm = 1

[training.loss_constants]
delta = 2

[training.schedule]
name = "cosine"
steps = 1000

[training.optimiser]
name = "sgd"
momentum = 0.9
nesterov = 1
weight_decay = 0.01
"""


def _read(folder: Path, text: str, changes: Mapping[str, Any] | None = None) -> TaskFile:
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return read_task_file(folder / "task.toml", changes)


def test_everything_new_is_read_and_the_target_is_filled_in(tmp_path: Path) -> None:
    task = _read(tmp_path, FORECAST)
    assert task.data.pipeline == (
        PipelineStep(name="normalise", arguments={"mean": (10.0, 60.5), "std": (5.0,)}),
        PipelineStep(name="forecast", arguments={"length": (24.0,), "horizon": (6.0,), "columns": (1.0,)}),
    )
    assert (task.data.target.name, task.data.target.dtype, task.data.target.shape) == ("target", "float32", (6, 1))
    assert task.data.max_age_s == 3600
    assert task.training.loss_constants == {"delta": 2.0}
    assert task.training.schedule == Schedule(name="cosine", constants={"steps": 1000.0})
    assert task.training.optimiser == Optimiser(momentum=0.9, weight_decay=0.01, constants={"nesterov": 1.0})
    assert task.training.max_gradient_norm == 1


@pytest.mark.parametrize("named", [["int8+zstd", "top-k"], ["int8+zstd", "float32", "top-k"]])
def test_float32_is_always_among_the_encodings(tmp_path: Path, named: list[str]) -> None:
    assert _read(tmp_path, FORECAST).merging.encodings == ("float32",)
    task = _read(tmp_path, f"{FORECAST}\n[merging]\nencodings = {named}\n")
    assert task.merging.encodings == ("float32", "int8+zstd", "top-k")


def test_classes_are_counted(tmp_path: Path) -> None:
    text = FORECAST.split("[[data.pipeline]]", maxsplit=1)[0].replace("max_age_s = 3600", 'classes = ["dry", "wet"]')
    task = _read(tmp_path, text + '[data.target]\nname = "y"\ndtype = "int64"\nshape = []\n')
    assert (task.data.classes, task.data.num_classes) == (("dry", "wet"), 2)


def test_another_optimiser_schedule_or_loss_drops_the_constants_of_the_old_one(tmp_path: Path) -> None:
    changes = {
        "training": {
            "optimiser": {"name": "adam", "beta1": 0.8},
            "schedule": {"name": "warm-up", "warm_up": 5},
            "loss": "mse",
        }
    }
    task = _read(tmp_path, FORECAST, changes)
    assert task.training.optimiser == Optimiser(name="adam", weight_decay=0.01, constants={"beta1": 0.8})
    assert task.training.schedule == Schedule(name="warm-up", constants={"warm_up": 5.0})
    assert task.training.loss_constants == {}
    kept = _read(tmp_path, FORECAST, {"training": {"schedule": {"final": 0.5}}})
    assert kept.training.schedule.constants == {"steps": 1000.0, "final": 0.5}


def test_another_pipeline_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    changes = {"data": {"pipeline": [{"name": "reconstruct"}]}}
    assert _read(tmp_path, FORECAST, changes).data.target.shape == (2,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "forecast"', 'name = "forcast"', r"\[\[data.pipeline\]\], step 2: name is 'forcast'; .* 'forecast'"),
        ("horizon = 6", "horizn = 6", "no key 'horizn'; did you mean 'horizon'"),
        ("horizon = 6", "horizon = true", "write a number or a list of numbers"),
        ("horizon = 6", 'horizon = "6"', "write a number or a list of numbers"),
        ('columns = ["humidity"]', 'columns = ["humdity"]', "no column 'humdity'; did you mean 'humidity'"),
        ("length = 24", "length = 0", "length is 0; write one whole number from 1 to"),
        ('name = "cosine"', 'name = "cosin"', "did you mean 'cosine'"),
        ("steps = 1000", "stepps = 1000", "did you mean 'steps'"),
        ('name = "cosine"\n', "", "lacks 'name'"),
        ("nesterov = 1", "nestrov = 1", "did you mean 'nesterov'"),
        ("nesterov = 1", "nesterov = true", "write a number"),
        ("delta = 2", "beta = 2", "did you mean 'delta'"),
        ('loss = "huber"', 'loss = "hubert"', "did you mean 'huber'"),
        ('name = "sgd"', 'name = "sdg"', "did you mean 'sgd'"),
        ('columns = ["temperature", "humidity"]', "columns = [1, 2]", "list of strings"),
        ("length = 24\n", "", "lacks 'length'"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in FORECAST
    with pytest.raises(TaskError, match=message):
        _read(tmp_path, FORECAST.replace(old, new))


def test_without_a_step_that_makes_it_a_target_must_be_written(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="lacks 'target': write it, or a step"):
        _read(
            tmp_path,
            FORECAST.replace('name = "forecast"\nlength = 24\nhorizon = 6\ncolumns = ["humidity"]', 'name = "log1p"'),
        )


def test_what_is_stale_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, FORECAST).merging.stale_after == 0
    merging = _read(tmp_path, f'{FORECAST}\n[merging]\nstale_after = 500\nstale = "refuse"\n').merging
    assert (merging.stale_after, merging.stale) == (500, "refuse")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('kind = "weather"', 'kind = "weather"\nstrategy = "median"', "kind", r"did you mean \[merging\] strategy\?"),
        ('name = "forecast"', 'name = "forcast"', 'name = "forcast"', "did you mean 'forecast'"),
        ("horizon = ", "horizont = ", "horizont = ", "has no key 'horizont'"),
    ],
)
def test_a_mistake_has_its_line_wherever_it_is(tmp_path: Path, old: str, new: str, line: str, says: str) -> None:
    assert old in FORECAST
    text = FORECAST.replace(old, new, 1)
    number = next(i for i, each in enumerate(text.splitlines(), 1) if line in each)
    number += "\nstrategy" in new
    with pytest.raises(TaskError, match=rf"task\.toml, line {number}: .*{says}"):
        _read(tmp_path, text)


def test_what_has_no_effect_for_want_of_another_key_is_said(tmp_path: Path) -> None:
    vain = _read(tmp_path, FORECAST + '\n[merging]\nstale = "refuse"\n')
    line = FORECAST.count("\n") + 3
    assert vain.warnings == (
        f"task.toml, line {line}: merging.stale is 'refuse' and has no effect without stale_after: write stale_after = "
        "200, in optimiser steps, or leave stale out",
    )
    assert _read(tmp_path, FORECAST + '\n[merging]\nstale = "refuse"\nstale_after = 50\n').warnings == ()
    assert _read(tmp_path, FORECAST).warnings == ()
