"""Sensors as they are: one topic per quantity, bare words and numbers, words for having no reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.data.json_paths import number
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.readings import Gone, Reader, Reading, Useless, parse
from grapevine_agent.data.recorder import Recorder
from grapevine_agent.data.recordings import Recordings, Row
from grapevine_agent.data.silence import why_silent
from grapevine_agent.data.source import ColumnPlan, DataSource, RecordingPlan
from grapevine_agent.data.survey import survey
from grapevine_proto.manifest import DataContract, FeatureSpec

T0 = 1_800_000_000.0


def _source(*columns: ColumnPlan, target: ColumnPlan | None = None, path: Path = Path("none")) -> DataSource:
    names = ("temperature", "humidity", "third")[: len(columns)]
    return DataSource(
        name="rooms",
        kind="climate",
        path=path,
        format="mqtt",
        columns=tuple((name, name) for name in names),
        target=() if target is None else (f"{target.topic} {target.path}",),
        recording=RecordingPlan(topic="", columns=columns, target=target, every_s=10, hold_s=60),
    )


def _plan(source: DataSource) -> RecordingPlan:
    assert source.recording is not None
    return source.recording


ATTIC = _source(ColumnPlan(topic="attic/temperature/state"), ColumnPlan(topic="attic/humidity/state"))
ROOMS = _source(ColumnPlan(topic="home/+/temperature"), ColumnPlan(topic="home/+/humidity"))


def _hear(recorder: Recorder, at_s: float, topic: str, payload: str) -> list[Row]:
    return recorder.hear(topic, payload.encode(), T0 + at_s, retained=False)


def test_topics_of_the_columns_own_make_one_row() -> None:
    recorder = Recorder([ATTIC])
    assert recorder.filters == ["attic/temperature/state", "attic/humidity/state"]
    _hear(recorder, 1, "attic/temperature/state", "21.5")
    assert recorder.tick(T0 + 10) == []
    _hear(recorder, 12, "attic/humidity/state", "40")
    (row,) = recorder.tick(T0 + 20)
    assert (row.topic, row.numbers) == ("", (21.5, 40.0))


def test_what_stands_for_the_plus_is_the_device() -> None:
    recorder = Recorder([ROOMS])
    for room, number_ in (("attic", 1), ("kitchen", 2)):
        _hear(recorder, 1, f"home/{room}/temperature", f"{number_}")
        _hear(recorder, 2, f"home/{room}/humidity", f"{10 * number_}")
    _hear(recorder, 2, "home/cellar/humidity", "70")
    assert [(row.topic, row.numbers) for row in recorder.tick(T0 + 10)] == [
        ("attic", (1.0, 10.0)),
        ("kitchen", (2.0, 20.0)),
    ]


def test_devices_of_several_levels_and_merged_ones() -> None:
    source = _source(ColumnPlan(topic="+/home/+/t"))
    recorder = Recorder([source, replace(source, recording=replace(_plan(source), devices="merged"))])
    _hear(recorder, 1, "a/home/b/t", "1")
    assert [row.topic for row in recorder.tick(T0 + 10)] == ["a/b", ""]


def test_one_message_can_hold_several_columns_and_the_label_comes_from_elsewhere() -> None:
    source = _source(
        ColumnPlan(topic="z/room", path="$.t"),
        ColumnPlan(topic="z/room", path="$.h"),
        target=ColumnPlan(topic="z/door", map=(("open", "somebody"), ("closed", 0.0))),
    )
    recorder = Recorder([source])
    _hear(recorder, 1, "z/room", '{"t": 1, "h": 2}')
    assert recorder.tick(T0 + 10) == []
    _hear(recorder, 11, "z/door", "OPEN")
    (row,) = recorder.tick(T0 + 20)
    assert (row.numbers, row.label) == ((1.0, 2.0), "somebody")
    _hear(recorder, 21, "z/door", "closed")
    assert recorder.tick(T0 + 30)[0].label == "0"


@pytest.mark.parametrize("word", ["unavailable", "unknown", "", "null", "nan", "None", '{"t": null}'])
def test_a_sensor_that_is_gone_is_held_no_longer_and_comes_back(word: str) -> None:
    path = "$.t" if word.startswith("{") else "$"
    recorder = Recorder([_source(ColumnPlan(topic="a", path=path), ColumnPlan(topic="b"))])
    good = '{"t": 1}' if path == "$.t" else "1"
    _hear(recorder, 1, "a", good)
    _hear(recorder, 1, "b", "2")
    assert len(recorder.tick(T0 + 10)) == 1
    _hear(recorder, 11, "a", word)
    assert recorder.tick(T0 + 40) == []
    _hear(recorder, 41, "a", good)
    (row,) = recorder.tick(T0 + 50)
    assert row.numbers == (1.0, 2.0)
    assert row.run == int(T0) + 40


def test_a_broken_message_is_no_reason_to_forget() -> None:
    recorder = Recorder([ATTIC])
    _hear(recorder, 1, "attic/temperature/state", "21")
    _hear(recorder, 1, "attic/humidity/state", "40")
    assert len(_hear(recorder, 11, "attic/temperature/state", "21,5")) == 1
    assert recorder.tick(T0 + 20)[0].numbers == (21.0, 40.0)


def test_a_label_is_held_as_long_as_a_column_and_ends_as_one() -> None:
    recorder = Recorder([_source(ColumnPlan(topic="t"), target=ColumnPlan(topic="door"))])
    _hear(recorder, 1, "t", "1")
    _hear(recorder, 1, "door", "open")
    assert [row.label for row in recorder.tick(T0 + 10)] == ["open"]
    _hear(recorder, 11, "door", "unavailable")
    _hear(recorder, 11, "t", "1")
    assert recorder.tick(T0 + 20) == []
    _hear(recorder, 21, "door", "closed")
    rows: list[Row] = []
    for at_s in range(21, 121, 10):
        rows += _hear(recorder, at_s, "t", "1")
    assert [row.slot - int(T0) for row in rows] == [20, 30, 40, 50, 60, 70]  # 80 ends 69 s after the door spoke


def test_the_mean_leaves_out_what_came_before_a_sensor_was_gone() -> None:
    source = _source(ColumnPlan(topic="t"))
    recorder = Recorder([replace(source, recording=replace(_plan(source), resample="mean"))])
    for payload in ("1", "unavailable", "3", "5"):
        _hear(recorder, 1, "t", payload)
    assert recorder.tick(T0 + 10)[0].numbers == (4.0,)


@pytest.mark.parametrize(
    ("plan", "payload", "value"),
    [
        (ColumnPlan(), b"21.5", 21.5),
        (ColumnPlan(), b" 21.50\r\n", 21.5),
        (ColumnPlan(), b"+.5e1", 5.0),
        (ColumnPlan(), b"007", 7.0),
        (ColumnPlan(), b"ON", 1.0),
        (ColumnPlan(), b"off", 0.0),
        (ColumnPlan(), b'"21.5"', 21.5),
        (ColumnPlan(), b"true", 1.0),
        (ColumnPlan(map=(("open", 1.0), ("closed", 0.0))), b"open", 1.0),
        (ColumnPlan(map=(("open", 1.0), ("closed", 0.0))), b'"Closed"', 0.0),
        (ColumnPlan(map=(("not_home", 0.0),)), b"not_home", 0.0),
        (ColumnPlan(map=(("unknown", 7.0),)), b"unknown", 7.0),
        (ColumnPlan(map=(("1", 7.0), ("true", 8.0))), b"1", 7.0),
        (ColumnPlan(map=(("1", 7.0), ("true", 8.0))), b"true", 8.0),
        (ColumnPlan(path="$.t", scale=0.1, offset=-4.0), b'{"t": 215}', 17.5),
        (ColumnPlan(scale=2.0, offset=1.0, map=(("a", 3.0),)), b"a", 7.0),
    ],
)
def test_readings(plan: ColumnPlan, payload: bytes, value: float) -> None:
    assert Reader("t", plan).read(parse(payload)[0]) == Reading(value)


@pytest.mark.parametrize(("word", "label"), [("ajar", ""), ("ON", ""), ("true", ""), ("Open", "1"), ("2", "2")])
def test_a_word_that_is_not_in_the_map_is_no_class(word: str, label: str) -> None:
    door = ColumnPlan(topic="z/door", map=(("open", 1.0), ("closed", 0.0)))
    recorder = Recorder([_source(ColumnPlan(topic="z/room"), target=door)])
    _hear(recorder, 1, "z/room", "20")
    _hear(recorder, 1, "z/door", word)
    assert [row.label for row in recorder.tick(T0 + 10)] == ([label] if label else [])
    (why,) = why_silent(recorder.recordings[0], T0 + 10, up_s=10) or [""]
    assert ("is not in `map`" in why) == (not label)


@pytest.mark.parametrize(
    "payload",
    [b"1_0", b'"1_0"', b"inf", b"-Infinity", b"1e999", b'"\xd9\xa3"', "٣".encode(), b"0x10", b"21,5", b"21 C"],
)
def test_what_only_python_takes_for_a_number_is_none(payload: bytes) -> None:
    try:
        message = parse(payload)[0]
    except ValueError:
        return
    assert isinstance(Reader("t", ColumnPlan()).read(message), Useless)


@pytest.mark.parametrize("payload", [b"nan", b"NaN", b'"NaN"', b"N/A", b"  ", b'""'])
def test_words_for_no_reading(payload: bytes) -> None:
    assert isinstance(Reader("t", ColumnPlan()).read(parse(payload)[0]), Gone)


@given(text=st.text(st.sampled_from("0123456789_.+-eE \u0663\uff11\u00a0naif"), max_size=12))
def test_a_text_that_is_a_number_is_one_in_c_too(text: str) -> None:
    if number(text) is not None:
        assert text.isascii()
        assert "_" not in text
        assert any(each.isdigit() for each in text)


@given(payload=st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_no_bytes_raise(payload: bytes) -> None:
    source = _source(ColumnPlan(topic="a", map=(("x", 1.0),)), ColumnPlan(topic="a", path="$.a[0]"))
    Recorder([source]).hear("a", payload, T0, retained=False)


def test_nesting_and_endless_numbers_do_not_raise_either() -> None:
    recorder = Recorder([ATTIC])
    for payload in (b"[" * 900 + b"]" * 900, b"9" * 5000, b"-" + b"9" * 400, b'{"a":' * 800 + b"1" + b"}" * 800):
        recorder.hear("attic/temperature/state", payload, T0, retained=False)
    assert recorder.tick(T0 + 10) == []


def test_two_topics_with_one_path_are_two_columns_on_disk(tmp_path: Path) -> None:
    source = _source(ColumnPlan(topic="a"), ColumnPlan(topic="b"), path=tmp_path / "recordings.db")
    recorder = Recorder([source])
    rows: list[Row] = []
    for k in range(20):
        _hear(recorder, 10 * k + 1, "a", str(k))
        _hear(recorder, 10 * k + 1, "b", str(100 + k))
        rows += recorder.tick(T0 + 10 * k + 10)
    recordings = Recordings(source.path)
    recordings.add(rows, [source], T0)
    contract = DataContract(
        kind="climate",
        features=FeatureSpec(name="x", dtype="float32", shape=(2,), columns=("humidity", "temperature")),
        target=FeatureSpec(name="temperature", dtype="float32", shape=()),
    )
    assert DataSource.from_json(source.to_json()) == source
    assert match_source(contract, [source]), str(match_source(contract, [source]))
    samples = load_samples(contract, source)
    assert (np.diff(samples.x, axis=1) == -100).all()
    recordings.close()


@pytest.mark.parametrize(("labels", "classes"), [(("0", "1"), {"0": 5, "1": 5}), (("0.5", "1"), {})])
def test_labels_that_are_whole_numbers_are_counted_as_classes(
    tmp_path: Path, labels: tuple[str, str], classes: dict[str, int]
) -> None:
    source = _source(ColumnPlan(topic="a"), target=ColumnPlan(topic="b"), path=tmp_path / "recordings.db")
    recordings = Recordings(source.path)
    rows = [
        Row(source="rooms", topic="", slot=int(T0) + 10 * k, run=int(T0), numbers=(1.0,), label=labels[k % 2])
        for k in range(10)
    ]
    recordings.add(rows, [source], T0)
    assert survey(source)["classes"] == classes
    recordings.close()


@pytest.mark.parametrize("label", ["1_0", "nan", "٣"])
def test_a_label_that_only_python_takes_for_a_number_is_a_name(tmp_path: Path, label: str) -> None:
    source = _source(ColumnPlan(topic="a"), target=ColumnPlan(topic="b"), path=tmp_path / "recordings.db")
    recordings = Recordings(source.path)
    rows = [
        Row(source="rooms", topic="", slot=int(T0) + 10 * k, run=int(T0), numbers=(1.0,), label=label)
        for k in range(10)
    ]
    recordings.add(rows, [source], T0)
    contract = DataContract(
        kind="climate",
        features=FeatureSpec(name="x", dtype="float32", shape=(1,), columns=("temperature",)),
        target=FeatureSpec(name="y", dtype="int64", shape=()),
        num_classes=11,
    )
    assert "classes with names" in str(match_source(contract, [source]))
    recordings.close()
