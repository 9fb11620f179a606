"""Steps that are for some columns: which they are, what becomes of the others, and what they are called afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.tasks.pipelines.test_steps import contract, made, series, step

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import PipelineStep, TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_tasks.authoring.task_file import read_task_file
from grapevine_tasks.pipelines import last_form, model_specs, prepare_learning

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_normalise_some_columns_with_a_number_for_each_or_one_for_all() -> None:
    each = contract((3,), step("normalise", mean=[3, 1], std=[1, 2], columns=[2, 0]))
    np.testing.assert_array_equal(made(X, each)[0], [[0, 2, 0], [1.5, 5, 3]])
    one = contract((3,), step("normalise", mean=1, std=2, columns=[0, 1]))
    np.testing.assert_array_equal(made(X, one)[0], [[0, 0.5, 3], [1.5, 2, 6]])


def test_clip_and_log1p_leave_other_columns_alone() -> None:
    data = contract((3,), step("clip", low=0, high=2, columns=[1]), step("log1p", columns=[2]))
    np.testing.assert_allclose(made(X, data)[0], [[1, 2, np.log(4)], [4, 2, np.log(7)]], rtol=1e-6)
    np.testing.assert_allclose(
        made([[-5.0, 1.0, 1.0]], contract((3,), step("log1p", columns=[1])))[0], [[-5, np.log(2), 1]], rtol=1e-6
    )


def test_standardise_measures_the_columns_that_are_chosen() -> None:
    x = np.random.default_rng(0).normal(5, 3, (200, 3))
    data = contract((3,), step("standardise", columns=[2, 0]))
    trained = prepare_learning(x, np.zeros(200, np.int64), data, "here")
    np.testing.assert_array_equal(trained.x[:, 1], x[:, 1].astype(np.float32))
    np.testing.assert_allclose(trained.x[:, [0, 2]].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(trained.x[:, [0, 2]].std(0), 1, atol=1e-5)
    tested = prepare_learning(x[:5] + 9, np.zeros(5, np.int64), data, "here", trained.learnt)
    np.testing.assert_allclose(tested.x[:, 2], (x[:5, 2] + 9 - x[:, 2].mean()) / x[:, 2].std(), rtol=1e-4)


def test_columns_of_windows_and_channels_of_images() -> None:
    windows = contract((2,), step("window", length=2), step("clip", low=0, high=1, columns=[1]))
    np.testing.assert_array_equal(made([[5.0, 5.0], [6.0, 6.0]], windows, np.zeros(2, np.int64))[0], [[[5, 1], [6, 1]]])
    image = contract((3, 2, 2), step("clip", low=0, high=1, columns=[2]))
    found = made(np.full((1, 3, 2, 2), 7.0), image)[0]
    assert found[0, :, 0, 0].tolist() == [7, 7, 1]


def test_one_hot_in_the_place_of_a_column_and_the_others_move_up() -> None:
    data = contract((3,), step("one-hot", classes=3, columns=[1]))
    found = made([[7.0, 2.0, 8.0], [7.0, 0.0, 8.0]], data)[0]
    np.testing.assert_array_equal(found, [[7, 0, 0, 1, 8], [7, 1, 0, 0, 8]])
    whole = contract((2,), step("one-hot", classes=2, columns=[0, 1]), dtype="int64")
    np.testing.assert_array_equal(made(np.array([[1, 0]]), whole)[0], [[0, 1, 1, 0]])
    for wrong in (0.5, 3.0, -1.0):
        with pytest.raises(TaskError, match=f"one-hot is for whole numbers from 0 to 2, and there is {wrong:g}"):
            made([[7.0, wrong, 8.0]], data)


def test_a_number_that_a_step_refuses_is_told_by_row_and_column() -> None:
    data = contract((2,), step("log1p", columns=[1]))
    rows = np.array([2, 0])
    with pytest.raises(TaskError, match="here: row 3, column 1: the step log1p"):
        prepare_learning(np.array([[0.0, 0], [0, 0], [-5, -2]]), np.zeros(3, int), data, "here", rows=rows)
    whole = contract((2,), step("one-hot", classes=3), dtype="int64")
    with pytest.raises(TaskError, match="row 2, column 1: the step one-hot is for 0 to 2, and there is 3"):
        made(np.array([[1, 0], [0, 3]]), whole)
    cut = series((2,), step("window", length=2), step("log1p"), step("forecast", length=1))
    with pytest.raises(TaskError, match="here: column 0: the step log1p"):  # a window is no row
        made(np.array([[0.0, 0]] * 4 + [[-2.0, 0]] + [[0.0, 0]] * 4), cut)


def test_a_missing_number_is_missing_in_all_the_columns_it_becomes() -> None:
    data = series((2,), step("one-hot", classes=2, columns=[0]), step("forecast", length=1, columns=[2]))
    x, _ = made([[0.0, 1.0], [1.0, 2.0], [np.nan, 3.0], [1.0, 4.0], [0.0, 5.0]], data)
    np.testing.assert_array_equal(x[:, 0], [[1, 0, 1], [0, 1, 2], [0, 1, 4]])


def test_an_hour_becomes_a_place_on_a_circle() -> None:
    data = contract((2,), step("cyclic", period=24, columns=[1]))
    found = made([[1.0, 0.0], [1.0, 6.0], [1.0, 12.0], [1.0, 18.0]], data)[0]
    np.testing.assert_allclose(found, [[1, 0, 1], [1, 1, 0], [1, 0, -1], [1, -1, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "chosen", "message"),
    [
        ((3,), step("clip", low=0, high=1, columns=[3]), "clip: columns is .3.; write numbers from 0 to 2"),
        ((3,), step("standardise", columns=[0, 0]), "standardise: columns is .0, 0.; write numbers from 0 to 2, each"),
        ((3,), step("log1p", columns=[-1, 0]), "log1p: columns is .-1, 0."),
        ((3,), step("normalise", mean=[1, 2, 3], std=1, columns=[0, 1]), "mean has 3 numbers.*2 columns"),
        ((), step("clip", low=0, high=1, columns=[0]), "has no columns or channels"),
        ((3, 2, 2), step("one-hot", classes=2, columns=[0]), r"takes columns of \[k\]"),
        ((3, 2, 2), step("cyclic", period=2, columns=[0]), r"takes columns of \[k\]"),
        ((3,), step("cyclic", period=0), "period is 0"),
        ((4096,), step("one-hot", classes=65536, columns=list(range(1024))), "make it 4194304 numbers or fewer"),
    ],
)
def test_wrong_columns_are_named_with_their_remedy(shape: tuple[int, ...], chosen: PipelineStep, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        model_specs(contract(shape, chosen))


# --- names, in task.toml --------------------------------------------------------------------------

_TASK = """
[task]
name = "power"
[data]
kind = "power"
num_classes = 2
[data.features]
name = "x"
dtype = "float32"
shape = [4]
columns = ["watts", "mode", "time.hour", "temperature"]
[data.target]
name = "y"
dtype = "int64"
shape = []
"""


def _read(folder: Path, *steps: str) -> Any:
    (folder / "task.toml").write_text(_TASK + "".join(f"[[data.pipeline]]\n{each}\n" for each in steps))
    return read_task_file(folder / "task.toml").data


def test_names_stay_with_their_columns_where_others_move(tmp_path: Path) -> None:
    data = _read(
        tmp_path,
        'name = "one-hot"\nclasses = 3\ncolumns = ["mode"]',
        'name = "cyclic"\nperiod = 24\ncolumns = ["time.hour"]',
        'name = "standardise"\ncolumns = ["temperature", "watts"]',
        'name = "window"\nlength = 5',
        'name = "clip"\nlow = 0\nhigh = 1\ncolumns = ["time.hour cos", "mode=2"]',
    )
    assert [each.arguments.get("columns") for each in data.pipeline] == [(1.0,), (4.0,), (6.0, 0.0), None, (5.0, 3.0)]
    names = ("watts", "mode=0", "mode=1", "mode=2", "time.hour sin", "time.hour cos", "temperature")
    assert last_form(data).features.columns == names
    assert model_specs(data)[0].shape == (5, 7)


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as raised:
        _read(tmp_path, 'name = "log1p"\ncolumns = ["wats"]')
    assert "there is no column 'wats'; did you mean 'watts'?" in str(raised.value)
    assert "There are watts, mode, time.hour, temperature" in str(raised.value)
    with pytest.raises(TaskError, match="no column 'mode'; did you mean 'mode="):
        _read(tmp_path, 'name = "one-hot"\nclasses = 3\ncolumns = ["mode"]', 'name = "log1p"\ncolumns = ["mode"]')


def test_a_step_that_names_no_columns_is_written_as_it_always_was(tmp_path: Path, manifest: TaskManifest) -> None:
    data = _read(tmp_path, 'name = "standardise"', 'name = "clip"\nlow = 0\nhigh = 1')
    assert [dict(each.arguments) for each in data.pipeline] == [{}, {"low": (0.0,), "high": (1.0,)}]
    model_specs(data)
    encoded = encode_manifest(replace(manifest, data=replace(manifest.data, pipeline=data.pipeline)))
    assert b"columns" not in encoded
