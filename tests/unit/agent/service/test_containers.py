"""Containers, by a command in Docker's place: what is created before it is started, and what an end may cost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.containers import IMAGE, FileEngine, file_engine

from grapevine_agent.config.engine import EngineConfig
from grapevine_agent.core import effects as fx
from grapevine_agent.service import containers
from grapevine_agent.service.containers import Engine, reason_of
from grapevine_lab.overlay.here import until
from grapevine_proto.application import Container

WANTED = fx.RunContainer(key="author/lakeside/viewer", application="ab" * 32, container=Container(image=IMAGE))


@pytest.fixture
def files(tmp_path: Path) -> FileEngine:
    return file_engine(tmp_path)


@pytest.fixture
def engine(files: FileEngine) -> Engine:
    return Engine(EngineConfig(command=str(files.command), allow_images=(IMAGE,)), "peer" * 5)


def called(files: FileEngine) -> list[str]:
    return [line.split()[0] for line in files.calls()]


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_a_container_is_created_then_started_and_removed_at_the_end(engine: Engine, files: FileEngine) -> None:
    told: list[bool] = []
    engine.tell = lambda _key, runs, _why: told.append(runs)
    task = asyncio.create_task(engine.run())
    engine.take(WANTED)
    await until(lambda: told == [True])
    assert called(files) == ["ps", "rm", "create", "start"]
    assert len(files.running()) == 1
    await ended(task)
    await engine.end()
    assert not files.running()
    assert not files.created()


async def test_one_that_cannot_be_started_is_not_left(engine: Engine, files: FileEngine) -> None:
    told: list[str] = []
    engine.tell = lambda _key, _runs, why: told.append(why)
    files.does("refuses")
    task = asyncio.create_task(engine.run())
    engine.take(WANTED)
    await until(lambda: bool(told))
    assert told == ["port is already allocated"]
    assert not files.created()
    await ended(task)


async def test_what_the_engine_goes_on_creating_after_the_end_does_not_run(engine: Engine, files: FileEngine) -> None:
    files.does("slow")
    task = asyncio.create_task(engine.run())
    engine.take(WANTED)
    await until(lambda: len(called(files)) == 3)
    await ended(task)
    await engine.end()
    await until(lambda: bool(files.created() or files.running()))  # and here it is
    assert not files.running()
    (files.folder / "slow").unlink()
    task = asyncio.create_task(engine.run())  # the next start removes it
    await until(lambda: not files.created())
    await ended(task)


async def test_an_engine_that_hangs_holds_up_the_end_for_a_moment_only(
    engine: Engine, files: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "END_S", 0.5)
    files.does("hangs")
    task = asyncio.create_task(engine.run())
    await until(lambda: called(files) == ["ps"])
    began_s = time.monotonic()
    await ended(task)
    await engine.end()
    assert time.monotonic() < began_s + 10.0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "docker: Cannot connect to the engine. Is it running?\n\nRun 'docker run --help' for more information",
            "docker: Cannot connect to the engine. Is it running?",
        ),
        (
            "Unable to find it locally\nError response: not found\nSee 'docker run --help'.\n",
            "Error response: not found",
        ),
        ("Run 'docker run --help' for more information", ""),
        ("", ""),
    ],
)
def test_of_what_an_engine_says_the_reason_is_told_and_not_its_hint(said: str, reason: str) -> None:
    assert reason_of(said) == reason
