"""Live topics become rows, whatever arrives on them, and never more of them than their owner allows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.data.json_paths import ABSENT, find, number, parse_path
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.recorder import MAX_PER_SLOT, MAX_TOPICS, Recorder
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.data.source import DataSource, RecordingPlan
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep

T0 = 1_800_000_000.0
PLAN = RecordingPlan(topic="home/+", every_s=10, hold_s=60)
CONTRACT = DataContract(
    kind="climate",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,), columns=("temperature", "humidity")),
    target=FeatureSpec(name="later", dtype="float32", shape=(1, 2)),
    pipeline=(PipelineStep(name="forecast", arguments={"length": (2.0,)}),),
)


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    return DataSource(
        name="rooms",
        kind="climate",
        path=tmp_path / "recordings.db",
        format="mqtt",
        columns=(("temperature", "$.temperature"), ("humidity", "$.air.humidity")),
        recording=PLAN,
    )


def _hear(recorder: Recorder, at_s: float, topic: str = "home/kitchen", **message: Any) -> list[Row]:
    return recorder.hear(topic, json.dumps(message).encode(), T0 + at_s, retained=False)


def test_a_row_holds_the_last_reading_of_each_column_in_its_slot(source: DataSource) -> None:
    recorder = Recorder([source])
    assert _hear(recorder, 1, temperature=20) == []
    assert _hear(recorder, 2, temperature=21, air={"humidity": "40"}) == []
    (row,) = recorder.tick(T0 + 10)
    assert (row.slot, row.run, row.numbers, row.topic) == (int(T0), int(T0), (21.0, 40.0), "home/kitchen")


def test_a_mean_can_be_taken_instead(source: DataSource) -> None:
    recorder = Recorder([replace(source, recording=replace(PLAN, resample="mean"))])
    for value in (20, 22, 27):
        _hear(recorder, 1, temperature=value, air={"humidity": 1})
    assert recorder.tick(T0 + 10)[0].numbers == (23.0, 1.0)


def test_a_sensor_that_speaks_only_of_changes_is_held_and_then_its_run_ends(source: DataSource) -> None:
    recorder = Recorder([source])
    _hear(recorder, 1, temperature=20, air={"humidity": 40})
    rows = recorder.tick(T0 + 300)
    assert [row.slot - int(T0) for row in rows] == [0, 10, 20, 30, 40, 50]
    assert {row.run for row in rows} == {int(T0)}
    _hear(recorder, 301, temperature=20, air={"humidity": 40})
    assert recorder.tick(T0 + 310)[0].run == int(T0) + 300


@pytest.mark.parametrize("resample", ["last", "mean"])
@pytest.mark.parametrize("said", ["unavailable", None, "unknown"])
def test_a_sensor_without_a_reading_ends_the_hold_at_once(source: DataSource, said: Any, resample: Any) -> None:
    recorder = Recorder([replace(source, recording=replace(PLAN, resample=resample))])
    _hear(recorder, 1, temperature=20, air={"humidity": 40})
    assert [row.slot - int(T0) for row in recorder.tick(T0 + 20)] == [0, 10]
    _hear(recorder, 21, temperature=30)
    _hear(recorder, 22, temperature=said)
    assert recorder.tick(T0 + 40) == []  # not even of the slot that had a reading
    _hear(recorder, 41, temperature=50)
    _hear(recorder, 42, temperature=said)
    _hear(recorder, 43, temperature=24)
    (row,) = recorder.tick(T0 + 50)
    assert (row.slot, row.run, row.numbers) == (int(T0) + 40, int(T0) + 40, (24.0, 40.0))


def test_no_row_is_made_before_every_column_has_been_heard(source: DataSource) -> None:
    recorder = Recorder([source])
    _hear(recorder, 1, temperature=20)
    assert recorder.tick(T0 + 30) == []
    _hear(recorder, 31, air={"humidity": 40})
    assert len(recorder.tick(T0 + 40)) == 1


def test_several_devices_are_series_of_their_own_or_merged(source: DataSource) -> None:
    merged = replace(source, recording=replace(PLAN, devices="merged"))
    for each, expected in ((source, {"home/a", "home/b"}), (merged, {""})):
        recorder = Recorder([each])
        for topic in ("home/a", "home/b"):
            _hear(recorder, 1, topic, temperature=20, air={"humidity": 40})
        assert {row.topic for row in recorder.tick(T0 + 10)} == expected


def test_retained_and_broken_messages_and_those_before_the_clock_is_set_are_counted(source: DataSource) -> None:
    recorder = Recorder([source])
    good = b'{"temperature": 1, "air": {"humidity": 2}}'
    recorder.hear("home/a", good, T0, retained=True)
    recorder.hear("home/a", good, 1000.0, retained=False)
    recorder.hear("home/a", b"x" * 100_000, T0, retained=False)
    for broken in (b"", b"\xff\xfe", b"{", b"[" * 50_000, b"1e999", b'{"temperature": {}}', b'{"temperature": 1e999}'):
        recorder.hear("home/a", broken, T0, retained=False)
    assert recorder.tick(T0 + 100) == []
    assert recorder.counts == {"retained": 1, "clock": 1, "large": 1, "gone": 1, "no JSON": 3, "no reading": 3}


def test_a_flood_and_a_crowd_of_topics_are_bounded(source: DataSource) -> None:
    recorder = Recorder([source])
    for k in range(MAX_TOPICS + 10):
        _hear(recorder, 1, f"home/{k}", temperature=1)
    assert recorder.counts["too many topics"] == 10
    for _ in range(MAX_PER_SLOT):
        recorder.hear("home/1", b"{}", T0 + 2, retained=False)
    assert recorder.counts["flood"] == MAX_TOPICS + 10


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (b"unavailable", "gone"),
        (b"None", "gone"),
        (b'{"a": null}', "gone"),
        (b"21.5", "no reading"),
        (b"ON", "no JSON"),
    ],
)
def test_a_message_without_a_reading_is_counted_as_what_it_is(source: DataSource, payload: bytes, outcome: str) -> None:
    recorder = Recorder([replace(source, columns=(("a", "$.a"),))])
    recorder.hear("home/a", payload, T0, retained=False)
    assert recorder.counts == {outcome: 1}


@given(
    payloads=st.lists(st.tuples(st.binary(max_size=40) | st.text().map(str.encode), st.floats(-1e6, 1e6)), max_size=8)
)
def test_no_bytes_at_no_time_raise(payloads: list[tuple[bytes, float]]) -> None:
    source = DataSource(
        name="s", kind="k", path=Path("none"), format="mqtt", columns=(("a", "$.a"), ("b", "$[0]")), recording=PLAN
    )
    recorder = Recorder([source])
    for payload, at_s in payloads:
        recorder.hear("home/a", payload, T0 + at_s, retained=False)
        for row in recorder.tick(T0 + at_s + 10):
            assert np.isfinite(row.numbers).all()


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_a_number_is_finite_or_none(value: Any) -> None:
    found = number(value)
    assert found is None or np.isfinite(found)


def test_paths_lead_through_objects_and_lists() -> None:
    message = {"a": [{"b c": 5}]}
    assert find(message, parse_path("$.a[0]['b c']")) == 5
    assert find(message, parse_path("$.a[7].x")) is ABSENT
    assert find({"a": None}, parse_path("$.a.b")) is None
    assert find(message, parse_path("$")) == message
    for wrong in ("a", "$a", "$.", "$[x]", "$..a"):
        with pytest.raises(ValueError, match="JSON path"):
            parse_path(wrong)


# --- on disk ------------------------------------------------------------------------------------


def _rows(num: int, *, topic: str = "home/a", first: int = 0, run: int | None = None) -> list[Row]:
    start = int(T0) + 10 * first
    return [
        Row(
            source="rooms",
            topic=topic,
            slot=start + 10 * k,
            run=start if run is None else run,
            numbers=(float(first + k), 1.0),
        )
        for k in range(num)
    ]


def test_recorded_rows_are_a_source_that_a_task_learns_from(source: DataSource) -> None:
    assert "0 samples" in str(match_source(CONTRACT, [source]))
    recordings = Recordings(source.path)
    recordings.add(_rows(30) + _rows(20, topic="home/b", first=100), [source], T0)
    match = match_source(CONTRACT, [source], now_s=T0)
    assert (match.num_samples, match.num_test) == (40, 10), str(match)
    samples = load_samples(CONTRACT, source)
    assert samples.x.shape == (24 - 2 + 16 - 2, 2, 2)
    steps = np.diff(samples.x[:, :, 0], axis=1)
    assert (steps == 1).all(), "a window reaches from one device to another"
    assert sorted(samples.x_test[:, 0, 0]) == [24, 25, 26, 27, 116, 117]  # the last fifth of each
    recordings.close()


def test_windows_do_not_reach_across_a_gap(source: DataSource) -> None:
    recordings = Recordings(source.path)
    recordings.add(_rows(20) + _rows(20, first=50), [source], T0)
    samples = load_samples(CONTRACT, source)
    assert (np.diff(samples.x[:, :, 0], axis=1) == 1).all()
    recordings.close()


def test_the_oldest_rows_go_first(source: DataSource) -> None:
    source = replace(source, recording=replace(PLAN, max_rows=15, keep_days=1.0))
    recordings = Recordings(source.path)
    recordings.add(_rows(30), [source], T0)
    assert load_samples(CONTRACT, source).x[0, 0, 0] == 15
    recordings.add(_rows(1, first=8_900), [source], T0 + 89_000)
    assert "1 rows of a series" in str(match_source(CONTRACT, [source]))
    recordings.close()


def test_a_run_goes_on_after_a_quick_restart(source: DataSource) -> None:
    recordings = Recordings(source.path)
    recordings.add(_rows(3), [source], T0)
    recorder = Recorder([source], {"rooms": recordings.latest("rooms")})
    _hear(recorder, 31, "home/a", temperature=1, air={"humidity": 1})
    assert recorder.tick(T0 + 40)[0].run == int(T0)
    recordings.close()


def test_a_damaged_file_is_moved_aside(source: DataSource) -> None:
    source.path.write_bytes(b"no database" * 100)
    recordings = Recordings(source.path)
    recordings.add(_rows(3), [source], T0)
    assert recordings.latest("rooms") == {"home/a": (int(T0) + 20, int(T0))}
    assert len(list(source.path.parent.glob("recordings.db*"))) > 1
    recordings.close()


def test_what_was_written_survives_being_killed(source: DataSource) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from grapevine_agent.data.recordings import Recordings, Row\n"
        "recordings = Recordings(Path(sys.argv[1]))\n"
        "recordings.add([Row(source='rooms', topic='t', slot=10 * k, run=0, numbers=(1.0, 2.0)) for k in range(9)], "
        "[], 0.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(source.path)], env=dict(os.environ), check=False)
    recordings = Recordings(source.path)
    assert recordings.latest("rooms") == {"t": (80, 0)}
    recordings.close()
