"""What the service says of sources that record nothing: in status, beside tasks, and once in its log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.data.source import DataSource, RecordingPlan
from grapevine_agent.service import recording as recording_module
from grapevine_agent.service.recording import Recording
from grapevine_agent.service.unsaved import Unsaved
from grapevine_proto.errors import BrokerError


def _source(name: str, topic: str, kind: str = "climate") -> DataSource:
    return DataSource(
        name=name,
        kind=kind,
        path=Path("none"),
        format="mqtt",
        columns=(("temperature", "$.t"),),
        recording=RecordingPlan(topic=topic, every_s=1),
    )


class _Transport:
    async def subscribe(self, *filters: tuple[str, int]) -> None:
        self.filters = filters


def _recording(tmp_path: Path, *sources: DataSource) -> Recording:
    return Recording(tmp_path, sources or (_source("rooms", "a"), _source("cellar", "b", "damp")), Unsaved())


async def _run_until(recording: Recording, transport: Any, what: Callable[[], bool]) -> None:
    running = asyncio.create_task(recording.run(transport))
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await recording.finish()


def test_status_and_tasks_are_told_of_the_sources_that_record_nothing(tmp_path: Path) -> None:
    recording = _recording(tmp_path)
    recording.hear("b", b'{"t": 1}', retained=False)
    rooms, cellar = recording.status()
    assert (rooms["name"], rooms["rows"], cellar["why"]) == ("rooms", 0, [])
    assert rooms["why"][0].startswith("temperature: no message on a since the agent started")
    assert recording.why_silent("climate").startswith("rooms records nothing: temperature: no message on a")
    assert recording.why_silent("damp") == ""
    asyncio.run(recording.finish())


def test_a_filter_that_the_broker_refuses_is_the_reason(tmp_path: Path) -> None:
    recording = _recording(tmp_path)
    recording.subscribed(["a", "grapevine/other"])
    assert recording.status()[0]["why"] == [
        "the broker refuses a to this agent: check its access rules for our user name"
    ]
    recording.subscribed([])
    assert "no message" in recording.status()[0]["why"][0]
    asyncio.run(recording.finish())


async def test_a_silent_source_has_one_line_in_the_log_and_one_that_records_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording_module, "SAY_AFTER_S", 0.0)
    monkeypatch.setattr(recording_module, "_TICK_S", 0.01)
    recording = _recording(tmp_path, _source("rooms", "a"), _source("late", "c"))
    recording._began_s -= 10.0

    def is_over() -> bool:
        recording.hear("c", b'{"t": 1}', retained=False)
        return bool(recording.status()[1]["rows"] >= 2)

    with caplog.at_level(logging.WARNING):
        await _run_until(recording, _Transport(), is_over)
    told = [record.getMessage() for record in caplog.records]
    (line,) = [each for each in told if "records nothing" in each]
    assert line.startswith("rooms records nothing: temperature: no message on a since")


async def test_nothing_is_said_too_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording_module, "_TICK_S", 0.01)
    recording = _recording(tmp_path)
    ticks = []

    class Broken(_Transport):
        async def subscribe(self, *filters: tuple[str, int]) -> None:
            ticks.append(filters)
            raise BrokerError("the connection was lost")

    recording.recorder.tick = lambda _: ticks.append(()) or []  # type: ignore[method-assign,assignment,func-returns-value]
    await _run_until(recording, Broken(), lambda: len(ticks) > 5)
    assert [record.getMessage() for record in caplog.records if "records nothing" in record.getMessage()] == []
