"""A source that records nothing says why, column by column."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.data.recorder import Recorder
from grapevine_agent.data.silence import why_silent
from grapevine_agent.data.source import DataSource, RecordingPlan

T0 = 1_800_000_000.0
SOURCE = DataSource(
    name="rooms",
    kind="climate",
    path=Path("none"),
    format="mqtt",
    columns=(("temperature", "$.t"), ("battery", "$.b")),
    recording=RecordingPlan(topic="z/+", every_s=10, hold_s=60),
)


def _why(recorder: Recorder, at_s: float = 5) -> list[str]:
    return why_silent(recorder.recordings[0], T0 + at_s, up_s=at_s)


def _hear(
    recorder: Recorder, at_s: float = 1, topic: str = "z/kitchen", retained: bool = False, **message: Any
) -> None:
    recorder.hear(topic, json.dumps(message).encode(), T0 + at_s, retained=retained)


def test_nothing_was_heard() -> None:
    assert _why(Recorder([SOURCE]), 240) == [
        "temperature: no message on z/+ since the agent started, 4 minutes ago",
        "battery: no message on z/+ since the agent started, 4 minutes ago",
    ]


def test_retained_messages_only() -> None:
    recorder = Recorder([SOURCE])
    _hear(recorder, retained=True, t=1, b=2)
    assert all("only retained messages on z/+" in why for why in _why(recorder))
    _hear(recorder, t=1, b=2)
    assert _why(recorder) == []


def test_a_column_that_no_message_has_is_named_and_what_records_is_not() -> None:
    recorder = Recorder([SOURCE])
    for _ in range(5):
        _hear(recorder, t=1)
    assert _why(recorder) == ["battery: no reading in 5 messages on z/kitchen ($.b is not in it)"]


def test_the_value_that_is_no_number_is_shown() -> None:
    recorder = Recorder([SOURCE])
    _hear(recorder, t=1, b="12,5")
    assert _why(recorder) == ["battery: no reading in 1 message on z/kitchen ('12,5' is no number)"]


def test_a_sensor_that_is_gone_or_silent_for_too_long() -> None:
    recorder = Recorder([SOURCE])
    _hear(recorder, t=1, b=1)
    assert _why(recorder, 30) == []
    _hear(recorder, 31, b=None)
    assert _why(recorder, 32) == ["battery: the sensor says null on z/kitchen"]
    _hear(recorder, 33, b=3)
    assert _why(recorder, 381) == [
        "temperature: the last reading is 6 minutes old, and hold_s is 60",
        "battery: the last reading is 6 minutes old, and hold_s is 60",
    ]


def test_of_what_a_sensor_said_the_newest_is_told() -> None:
    recorder = Recorder([SOURCE])
    _hear(recorder, t=1, b="unavailable")
    _hear(recorder, t=1, b=[1])
    assert _why(recorder) == ["battery: no reading in 2 messages on z/kitchen (a list is no number)"]
    _hear(recorder, t=1, b=3)
    _hear(recorder, t=1, b="unavailable")
    _hear(recorder, t=1, b=[1])
    assert _why(recorder) == ["battery: the newest message on z/kitchen holds no reading (a list is no number)"]
    _hear(recorder, t=1, b="unavailable")
    assert _why(recorder) == ["battery: the sensor says 'unavailable' on z/kitchen"]


def test_of_several_devices_the_one_that_lacks_least_is_told_of() -> None:
    recorder = Recorder([replace(SOURCE, columns=(*SOURCE.columns, ("signal", "$.s")))])
    _hear(recorder, topic="z/other")
    _hear(recorder, topic="z/attic", b=1)
    _hear(recorder, topic="z/kitchen", t=1, s=1)
    assert _why(recorder) == ["battery: no reading in 1 message on z/kitchen ($.b is not in it)"]
    _hear(recorder, topic="z/attic", t=1, s=1)
    assert _why(recorder) == []


def test_messages_before_the_clock_was_set() -> None:
    recorder = Recorder([SOURCE])
    recorder.hear("z/a", b"{}", 1000.0, retained=False)
    assert "before this device's clock was set" in _why(recorder)[0]


def test_what_is_too_large_or_no_json_is_said() -> None:
    recorder = Recorder([replace(SOURCE, columns=(("temperature", "$.t"),))])
    recorder.hear("z/a", b"\xff", T0, retained=False)
    assert _why(recorder) == ["temperature: no reading in 1 message on z/a (no JSON)"]
    recorder.hear("z/a", b"x" * 70_000, T0, retained=False)
    assert _why(recorder) == ["temperature: no reading in 2 messages on z/a (longer than 65,536 bytes)"]


@pytest.mark.parametrize("retained", [True, False])
def test_topics_of_another_source_count_for_nothing(retained: bool) -> None:
    recorder = Recorder([SOURCE])
    _hear(recorder, topic="elsewhere", retained=retained, t=1, b=1)
    assert "no message" in _why(recorder)[0]
