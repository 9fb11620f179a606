"""The hour and the weekday are columns of every source that has a time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.data.source import DataSource, RecordingPlan
from grapevine_agent.data.survey import survey
from grapevine_agent.data.times import shown_time
from grapevine_proto.manifest import DataContract, FeatureSpec

MONDAY_S = 1_800_230_400  # 2027-01-18, 00:00 UTC


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/New_York"])
def zone_s(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Seconds that this device's clock on the wall is ahead of UTC."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield {"UTC": 0, "Asia/Kolkata": 19_800, "America/New_York": -18_000}[request.param]
    monkeypatch.undo()
    time.tzset()


def _contract(*columns: str) -> DataContract:
    return DataContract(
        kind="k",
        features=FeatureSpec(name="x", dtype="float32", shape=(len(columns),), columns=columns),
        target=FeatureSpec(name="y", dtype="float32", shape=(), columns=("value",)),
    )


CONTRACT = _contract("time.weekday", "value", "time.hour")


def _hours(samples: Any) -> list[list[float]]:
    return sorted(np.concatenate([samples.x, samples.x_test]).round(4).tolist())


def _expected(shift_s: int, num: int = 10) -> list[list[float]]:
    at_s = [5_400 * k + shift_s for k in range(num)]
    return sorted([[each // 86_400 % 7, float(k), round(each % 86_400 / 3600, 4)] for k, each in enumerate(at_s)])


@pytest.mark.parametrize("unit", [1, 1000])
def test_of_a_table_with_numbers_for_times(tmp_path: Path, zone_s: int, unit: int) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (at, value)")
        rows = [((MONDAY_S + 5_400 * k) * unit, float(k)) for k in range(10)]
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    source = DataSource(
        name="a", kind="k", path=tmp_path / "a.db", format="sqlite", query="SELECT at, value FROM t", time="at"
    )
    assert match_source(CONTRACT, [source]), str(match_source(CONTRACT, [source]))
    assert _hours(load_samples(CONTRACT, source)) == _expected(zone_s)


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_dates_count_as_they_are_written(tmp_path: Path, zone_s: int, format_: str) -> None:
    table = pytest.importorskip("pyarrow")
    dates = np.datetime64("2027-01-18T00:00") + 5_400 * np.arange(10).astype("timedelta64[s]")
    path = tmp_path / f"a.{format_}"
    if format_ == "csv":
        path.write_text("when,value\n" + "".join(f"{date},{k}\n" for k, date in enumerate(dates)))
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(table.table({"when": dates, "value": np.arange(10.0)}), path)
    source = DataSource(name="a", kind="k", path=path, format=format_, time="when")
    assert match_source(CONTRACT, [source]), str(match_source(CONTRACT, [source]))
    assert _hours(load_samples(CONTRACT, source)) == _expected(0)


def test_of_recordings(tmp_path: Path, zone_s: int) -> None:
    source = DataSource(
        name="a",
        kind="k",
        path=tmp_path / "recordings.db",
        format="mqtt",
        columns=(("value", "$.v"),),
        target=("$.v",),
        recording=RecordingPlan(topic="a", every_s=5_400),
    )
    recordings = Recordings(source.path)
    rows = [Row(source="a", topic="a", slot=MONDAY_S + 5_400 * k, run=0, numbers=(float(k),)) for k in range(10)]
    recordings.add(rows, [source], MONDAY_S)
    assert match_source(CONTRACT, [source]), str(match_source(CONTRACT, [source]))
    assert _hours(load_samples(CONTRACT, source)) == _expected(zone_s)
    recordings.close()


def test_a_source_without_a_time_says_what_to_write_and_a_column_of_that_name_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("value,when,time.hour\n" + "".join(f"{k},{k},99\n" for k in range(10)))
    bare = DataSource(name="a", kind="k", path=tmp_path / "a.csv", format="csv")
    assert 'has no time, and the task needs time.weekday: say which column it is, time = "…"' in str(
        match_source(CONTRACT, [bare])
    )
    own = load_samples(_contract("value", "time.hour"), bare)
    assert (own.x[:, 1] == 99).all()


def test_a_survey_does_not_mind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("value,when\n" + "".join(f"{k},{MONDAY_S + k}\n" for k in range(10)))
    source = DataSource(name="a", kind="k", path=tmp_path / "a.csv", format="csv", time="when")
    told = survey(source, CONTRACT)
    assert {each["name"] for each in told["columns"]} >= {"time.hour", "time.weekday"}


@pytest.mark.parametrize(("unit", "name"), [(1, "seconds"), (10**3, "milli"), (10**6, "micro"), (10**9, "nano")])
def test_numbers_are_taken_in_the_unit_that_they_are_in(tmp_path: Path, unit: int, name: str) -> None:
    source = _numbered(tmp_path, [(MONDAY_S + k) * unit for k in range(10)])
    assert survey(source)["newest_s"] == pytest.approx(MONDAY_S + 9)
    assert match_source(_contract("value"), [source], now_s=MONDAY_S)
    at = [(MONDAY_S + k) * unit for k in range(9)]
    for wrong in (-1 * unit, 8_000_000_000 * unit, MONDAY_S * unit * 1000):
        match = match_source(_contract("value"), [_numbered(tmp_path, [*at, wrong])])
        assert f"row 10, column 'at': '{wrong}' is no time from 1970 to 2200, taken as {name}" in str(match)


@pytest.mark.parametrize("date", ["1969-12-31T23:00:00", "2201-01-01T00:00:00"])
def test_a_date_of_another_age_is_told_by_row(tmp_path: Path, date: str) -> None:
    source = _numbered(tmp_path, ["2026-03-01T12:00:00", date, "2026-03-01T12:00:01"])
    assert f"row 2, column 'at': '{date}' is no time from 1970 to 2200" in str(
        match_source(_contract("value"), [source])
    )


def test_a_newest_sample_of_tomorrow_is_not_fresh(tmp_path: Path) -> None:
    contract = replace(_contract("value"), max_age_s=3600)
    source = _numbered(tmp_path, [MONDAY_S + k for k in range(10)])
    assert match_source(contract, [source], now_s=MONDAY_S - 80_000)
    told = str(match_source(contract, [source], now_s=MONDAY_S - 3 * 86_400))
    assert "dated 3 days ahead of this device's clock" in told


@pytest.mark.parametrize("time_s", [-1e12, 0.0, 55_840e9, 1e300, float("nan"), float("inf")])
def test_any_time_can_be_shown(time_s: float) -> None:
    assert shown_time(time_s, MONDAY_S)


def test_a_time_ahead_of_the_clock_is_shown_as_such() -> None:
    assert shown_time(MONDAY_S, MONDAY_S) == "2027-01-18 00:00:00 UTC"
    assert shown_time(MONDAY_S + 3 * 86_400, MONDAY_S) == "2027-01-21 00:00:00 UTC, 3 days ahead of this device's clock"


def _numbered(tmp_path: Path, times: list[Any]) -> DataSource:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
    path.write_text("at,value\n" + "".join(f"{at},{k}\n" for k, at in enumerate(times)))
    return DataSource(name="a", kind="k", path=path, format="csv", time="at")
