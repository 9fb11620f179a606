"""Files with columns: what a task asks for is found in them, or what is missing is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from grapevine_agent.data.formats import load
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep

NUM = 40
NOW_S = 1_800_000_000
ROOMS = ("attic", "kitchen")
CONTRACT = DataContract(
    kind="climate",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,), columns=("temperature", "humidity")),
    target=FeatureSpec(name="room", dtype="int64", shape=()),
    num_classes=3,
    classes=("cellar", *ROOMS),
)
SERIES = replace(
    CONTRACT,
    target=FeatureSpec(name="later", dtype="float32", shape=(1, 2)),
    num_classes=0,
    classes=(),
    pipeline=(PipelineStep(name="forecast", arguments={"length": (3.0,)}),),
)

Make = Callable[..., DataSource]


def _csv(folder: Path, *, humidity: Callable[[int], str] = str, room: Callable[[int], str] | None = None) -> Path:
    lines = ["at,temperature,humidity,room"]
    for k in range(NUM):
        name = room(k) if room else ROOMS[k % 2]
        lines.append(f"{NOW_S - 60 * k},{20 + k / 2},{humidity(k)},{name}")  # the newest comes first
    path = folder / "climate.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(params=["csv", "parquet", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """The same table in each of the formats."""

    def made(**changes: Any) -> DataSource:
        path = _csv(tmp_path)
        query = ""
        table = pyarrow.csv.read_csv(path)
        if request.param == "parquet":
            path = tmp_path / "climate.parquet"
            pyarrow.parquet.write_table(table, path)
        elif request.param == "sqlite":
            path, query = tmp_path / "climate.db", "SELECT at, temperature, humidity, room FROM readings"
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("DROP TABLE IF EXISTS readings")
                connection.execute("CREATE TABLE readings (at, temperature, humidity, room)")
                rows = [tuple(row.values()) for row in table.to_pylist()]
                connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
        source = DataSource(name="home", kind="climate", path=path, format=request.param, query=query)
        return replace(source, **changes)

    return made


def test_columns_and_class_names_become_what_the_task_takes(make: Make) -> None:
    source = make()
    match = match_source(CONTRACT, [source])
    assert (match.num_samples, match.num_test) == (32, 8), str(match)
    samples = load_samples(CONTRACT, source)
    rows = np.concatenate([samples.x, samples.x_test])
    labels = np.concatenate([samples.y, samples.y_test])
    np.testing.assert_array_equal((rows[:, 0] - 20) * 2, rows[:, 1])
    np.testing.assert_array_equal(labels, 1 + rows[:, 1].astype(int) % 2)  # the task's numbers, not the file's


def test_a_series_is_put_in_order_of_time_and_gives_up_its_last_fifth(make: Make) -> None:
    samples = load_samples(SERIES, make(time="at"))
    assert samples.x.shape == (32 - 3, 3, 2)
    assert samples.x_test.shape == (8 - 3, 3, 2)
    assert samples.x[0, 0, 1] == NUM - 1  # the oldest
    assert samples.y_test[-1, 0, 1] == 0  # the newest
    assert samples.x_test[:, :, 1].max() < samples.x[:, :, 1].min()


def test_a_column_that_is_not_there_is_told_with_the_nearest_name(make: Make) -> None:
    match = match_source(CONTRACT, [make(columns=(("temperature", "temperatur"), ("humidity", "humidity")))])
    assert not match
    assert "no column 'temperatur'; did you mean 'temperature'?" in str(match)


def test_a_class_that_the_task_does_not_have_is_a_reason(make: Make) -> None:
    match = match_source(replace(CONTRACT, classes=("attic", "bath", "cellar")), [make()])
    assert not match
    assert "'kitchen'" in str(match)


def test_old_samples_do_not_fit_a_task_that_wants_fresh_ones(make: Make) -> None:
    contract = replace(CONTRACT, max_age_s=3600.0)
    assert match_source(contract, [make(time="at")], now_s=NOW_S + 3000.0)
    match = match_source(contract, [make(time="at")], now_s=NOW_S + 7200.0)
    assert not match
    assert "2 hours old" in str(match)


def test_a_limit_of_memory_is_kept(make: Make) -> None:
    match = match_source(CONTRACT, [make(max_bytes=100)])
    assert not match
    assert "max_bytes" in str(match)


def test_a_file_of_another_format_is_told(make: Make) -> None:
    source = make()
    source.path.write_bytes(b"\x00\x01\x02" * 1000)
    match = match_source(CONTRACT, [source])
    assert not match
    assert str(match).startswith("home: ")


def test_an_empty_cell_is_missing_and_refused_where_no_series_is_learned(tmp_path: Path) -> None:
    path = _csv(tmp_path, humidity=lambda k: "" if k == 3 else str(k))
    source = DataSource(name="home", kind="climate", path=path, format="csv")
    raw = load(replace(source, columns=(("t", "temperature"), ("h", "humidity"))), None)
    assert np.isnan(raw.x[3, 1])
    with pytest.raises(TaskError, match="row 4, column 'humidity': an empty cell is no number"):
        load_samples(CONTRACT, source)
    windows = load_samples(SERIES, replace(source, time="at"))
    assert np.isfinite(windows.x).all()


def test_text_among_numbers_is_told(tmp_path: Path) -> None:
    path = _csv(tmp_path, humidity=lambda k: "wet" if k == 3 else str(k))
    match = match_source(CONTRACT, [DataSource(name="home", kind="climate", path=path, format="csv")])
    assert "row 4, column 'humidity': 'wet' is no number" in str(match)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM readings",
        "WITH old AS (SELECT 1) DELETE FROM readings",
        "ATTACH 'other.db' AS other",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM readings",
        "SELECT nothing FROM readings",
    ],
)
def test_a_query_reads_and_never_writes(tmp_path: Path, query: str) -> None:
    path = tmp_path / "climate.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE readings (temperature, humidity, room)")
        connection.execute("INSERT INTO readings VALUES (1, 2, 'attic')")
    before = path.read_bytes()
    source = DataSource(name="home", kind="climate", path=path, format="sqlite", query=query)
    match = match_source(CONTRACT, [source])
    assert not match
    assert "quer" in str(match)
    assert path.read_bytes() == before
    assert not (tmp_path / "other.db").exists()
