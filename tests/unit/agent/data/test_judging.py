"""A sample that a task cannot take is told by row, column and value, in whatever the table is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from grapevine_agent.data import inspection, recordings
from grapevine_agent.data.inspection import Inspection, inspect
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.data.source import DataSource, Dialect, RecordingPlan
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep

NUM = 20
ROW = 16  # from 0
CONTRACT = DataContract(
    kind="climate",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,), columns=("temperature", "humidity")),
    target=FeatureSpec(name="room", dtype="int64", shape=()),
    num_classes=3,
)
NAMED = replace(CONTRACT, classes=("attic", "bath", "cellar"))
REAL = replace(CONTRACT, target=FeatureSpec(name="room", dtype="float32", shape=()), num_classes=0)
COUNTED = replace(CONTRACT, target=FeatureSpec(name="room", dtype="int64", shape=()), num_classes=0)
SERIES = replace(
    CONTRACT,
    target=FeatureSpec(name="later", dtype="float32", shape=(1, 2)),
    num_classes=0,
    pipeline=(PipelineStep(name="forecast", arguments={"length": (3.0,)}),),
)

Make = Callable[..., DataSource]


@pytest.fixture(params=["csv", "parquet", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A table with one cell that is another, in each of the formats."""

    def made(column: str, value: Any, **columns: list[Any]) -> DataSource:
        table: dict[str, list[Any]] = {
            "temperature": [k / 2 for k in range(NUM)],
            "humidity": [float(k) for k in range(NUM)],
            "room": [k % 3 for k in range(NUM)],
        }
        table.update(columns)
        table[column] = [*table[column][:ROW], value, *table[column][ROW + 1 :]]
        path = tmp_path / f"s.{request.param}"
        if request.param == "sqlite":
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE t (temperature, humidity, room)")
                connection.executemany("INSERT INTO t VALUES (?, ?, ?)", zip(*table.values(), strict=True))
        elif request.param == "csv":
            rows = zip(*table.values(), strict=True)
            lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
            path.write_text("temperature,humidity,room\n" + "\n".join(lines) + "\n")
        else:
            pa.parquet.write_table(pa.table(table), path)
        return DataSource(
            name="home", kind="climate", path=path, format=request.param, query="SELECT * FROM t", max_bytes=10**6
        )

    return made


@pytest.mark.parametrize(
    ("contract", "column", "value", "told"),
    [
        (CONTRACT, "temperature", None, "is no number"),
        (CONTRACT, "humidity", float("inf"), "is not finite"),
        (CONTRACT, "humidity", 1e39, "is too large for float32"),
        (replace(CONTRACT, scale=1e20), "humidity", 1e20, "is too large for float32, scaled as the task wants it"),
        (CONTRACT, "room", None, "is no class of the task: its classes are numbered from 0 to 2"),
        (CONTRACT, "room", 3, "is no class of the task"),
        (CONTRACT, "room", -1, "is no class of the task"),
        (CONTRACT, "room", 255, "is no class of the task"),
        (NAMED, "room", 255, "which has 'attic', 'bath', 'cellar', or their numbers from 0 to 2"),
        (REAL, "room", None, "is no number"),
        (REAL, "room", 1e39, "is too large for float32"),
        (COUNTED, "room", None, "is no number"),
    ],
)
def test_a_number_that_no_task_can_take_is_told_by_row_and_column_in_the_words_of_the_trainer(
    make: Make, contract: DataContract, column: str, value: Any, told: str
) -> None:
    columns = {"room": [float(k) for k in range(NUM)]} if contract is REAL else {}
    source = make(column, value, **columns)
    match = match_source(contract, [source])
    assert not match
    assert f"home: row 17, column {column!r}: " in str(match)
    assert told in str(match)
    assert value is None or f"{value:g}"[:3] in str(match)
    with pytest.raises(TaskError) as refused:
        load_samples(contract, source)
    assert str(refused.value) == str(match)


@pytest.mark.parametrize(
    ("value", "told"), [("unavailable", "no class"), ("Attic", "'Attic' is no class"), (None, "no class")]
)
def test_a_label_that_is_no_class_is_told_by_row(make: Make, value: Any, told: str) -> None:
    source = make("room", value, room=[("attic", "bath")[k % 2] for k in range(NUM)])
    match = match_source(NAMED, [source])
    assert "row 17, column 'room': " in str(match)
    assert told in str(match)
    assert not match


@pytest.mark.parametrize("most", [0, 2**40])
def test_the_first_of_several_is_told_however_large_the_source_is(
    most: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MOST_PREPARED_BYTES", most)
    source = make(
        "room", 7, temperature=[*map(float, range(NUM - 1)), float("inf")], humidity=[*map(float, range(18)), 1e39, 0.0]
    )
    assert "row 17, column 'room': " in str(match_source(CONTRACT, [source]))


def test_a_number_that_is_missing_in_a_series_is_no_fault(make: Make) -> None:
    humidity = [None if k == 3 else float(k) for k in range(NUM)]
    assert match_source(SERIES, [make("temperature", 1.0, humidity=humidity)])


def test_a_series_of_which_no_window_is_whole_is_refused_before_it_is_joined(make: Make) -> None:
    """Its last fifth is held out: four rows, of which one is missing."""
    assert "holds a missing number" in str(match_source(SERIES, [make("humidity", None)]))


def test_an_infinite_number_in_a_series_is_a_fault(make: Make) -> None:
    assert "row 17, column 'humidity': " in str(match_source(SERIES, [make("humidity", float("inf"))]))


def test_the_cell_is_told_as_it_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    source = DataSource(name="home", kind="climate", path=path, format="csv")
    for cell, told in (
        ("unavailable", "'unavailable' is no number"),
        ("", "an empty cell is no number"),
        ("1e400", "'1e400' is"),
    ):
        path.write_text("temperature,humidity,room\n" + "1,2,0\n" * 16 + f"1,{cell},0\n")
        assert f"row 17, column 'humidity': {told}" in str(match_source(CONTRACT, [source]))


@pytest.mark.parametrize("cell", ["1_0", "１０", "oops", "0x10", "1.5", "1,5,5", "infinite"])
def test_a_cell_that_makes_a_column_text_is_told_whatever_stands_before_a_fraction(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text("temperature;humidity;room\n" + "0,5;-,25e1;0\n" * ROW + f'1,5;"{cell}";0\n', encoding="utf-8")
    source = DataSource(
        name="home", kind="climate", path=path, format="csv", dialect=Dialect(separator=";", decimal=",")
    )
    assert f"row 17, column 'humidity': '{cell}' is no number" in str(match_source(CONTRACT, [source]))


@pytest.mark.parametrize(
    ("arrays", "contract", "told"),
    [
        ({"y": np.full(NUM, 2**64 - 1, np.uint64)}, COUNTED, "y[0]: 18446744073709551615 is too large for int64"),
        ({"y_test": np.full(NUM, 3)}, CONTRACT, "y_test[0]: 3 is no class"),
        ({"x_test": np.full((NUM, 2), np.nan)}, CONTRACT, "x_test[0, 0]: nan is no number"),
    ],
)
def test_arrays_are_told_by_index(arrays: Any, contract: DataContract, told: str, tmp_path: Path) -> None:
    good = {"x": np.ones((NUM, 2)), "y": np.zeros(NUM, int)}
    tests = {"x_test": np.ones((NUM, 2)), "y_test": np.zeros(NUM, int)}
    np.savez(tmp_path / "s.npz", **good | (tests if any(name in tests for name in arrays) else {}) | arrays)
    source = DataSource(name="home", kind="climate", path=tmp_path / "s.npz")
    assert told in str(match_source(contract, [source]))
    with pytest.raises(TaskError, match=r"is no|too large"):
        load_samples(contract, source)


@pytest.mark.parametrize("most", [0, 2**40])
@pytest.mark.parametrize("step", [PipelineStep(name="log1p", arguments={}), None])
def test_what_a_step_refuses_is_known_before_it_is_joined_however_large_the_source_is(
    step: PipelineStep | None, most: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MOST_PREPARED_BYTES", most)
    contract = replace(CONTRACT, pipeline=(step,) if step else ())
    match = match_source(contract, [make("humidity", -1.0)])
    assert bool(match) == (step is None)
    assert step is None or "log1p has no value at or below -1" in str(match)


@pytest.mark.parametrize("most", [0, 2**40])
@pytest.mark.parametrize("are_named", [True, False])
@pytest.mark.parametrize(
    ("value", "step", "told"),
    [
        (-1.5, PipelineStep(name="log1p", arguments={}), "log1p has no value at or below -1, and there is -1.5"),
        (-1.5, PipelineStep(name="log1p", arguments={"columns": (1.0,)}), "log1p has no value at or below -1"),
        (7, PipelineStep(name="one-hot", arguments={"classes": (3.0,), "columns": (1.0,)}), "and there is 7"),
    ],
)
def test_what_a_step_refuses_is_told_by_row_and_column(
    value: float,
    step: PipelineStep,
    told: str,
    are_named: bool,
    most: int,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "MOST_PREPARED_BYTES", most)
    features = CONTRACT.features if are_named else replace(CONTRACT.features, columns=())
    source = make("humidity", value, humidity=[float(k % 3) for k in range(NUM)])
    match = str(match_source(replace(CONTRACT, features=features, pipeline=(step,)), [source]))
    assert match.startswith("home: row 17, column 'humidity': the step ")
    assert told in match


def test_what_a_step_refuses_of_arrays_is_told_by_index(tmp_path: Path) -> None:
    x = np.zeros((NUM, 2))
    x[ROW, 1] = -3
    np.savez(tmp_path / "s.npz", x=x, y=np.zeros(NUM, int))
    source = DataSource(name="home", kind="climate", path=tmp_path / "s.npz")
    contract = replace(CONTRACT, pipeline=(PipelineStep(name="log1p", arguments={}),))
    assert "home: x[16], column 'humidity': the step log1p" in str(match_source(contract, [source]))


def test_recorded_labels_that_are_no_classes_are_told(tmp_path: Path) -> None:
    plan = RecordingPlan(topic="t/+")
    source = DataSource(
        name="home",
        kind="climate",
        path=tmp_path / "recordings.db",
        format="mqtt",
        columns=(("temperature", "$.t"), ("humidity", "$.h")),
        target=("$.room",),
        recording=plan,
    )
    for label, told in (("1", ""), ("3", "'$.room': 3 is no class"), ("0.5", "'$.room': 0.5 is no class")):
        file = Recordings(source.path)
        labels = ["0"] * ROW + [label]
        rows = [
            Row(source="home", topic="t/1", slot=60 * k, run=0, numbers=(1.0, 2.0), label=each)
            for k, each in enumerate(labels)
        ]
        file.add(rows, [], 0.0)
        file.close()
        recordings._describe.cache_clear()
        match = match_source(CONTRACT, [source])
        assert told in str(match)
        assert bool(match) == (not told)
        source.path.unlink()


def test_an_inspection_survives_being_told_as_text(make: Make) -> None:
    for looked in (inspect(make("humidity", 1.0), CONTRACT), Inspection(trouble="home: no")):
        assert Inspection.from_json(looked.to_json()) == looked
    for text in ("", "{}", "[]", '{"description": {}, "trouble": ""}', '{"description": 1, "trouble": ""}'):
        with pytest.raises(TaskError, match="answered with"):
            Inspection.from_json(text)
