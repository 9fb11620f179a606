"""Containers, by a command in Docker's place: what is created before it is started, and what an end may cost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from grapevine_agent.config.engine import EngineConfig
from grapevine_agent.core import effects as fx
from grapevine_agent.service import containers
from grapevine_agent.service.containers import Engine, reason_of
from grapevine_lab.overlay.here import until
from grapevine_proto.application import Container

IMAGE = f"example.org/viewer@sha256:{'ab' * 32}"
WANTED = fx.RunContainer(key="author/lakeside/viewer", application="ab" * 32, container=Container(image=IMAGE))
# A container is a file: created.NAME, and running.NAME beside it. `slow`: an image has to come first, and does though
# the command is gone. `hangs`: no answer. `refuses`: a port is taken.
COMMAND = """\
#!/bin/sh
cd "{folder}"
echo "$1" >> calls
[ -e hangs ] && exec sleep 60
case $1 in
  create)
    while [ "$1" != --name ]; do shift; done
    if [ -e slow ]; then
      (sleep 0.5; touch "created.$2") > /dev/null 2>&1 &
      exec sleep 60
    fi
    touch "created.$2" ;;
  run) while [ "$1" != --name ]; do shift; done; (sleep 0.5; touch "running.$2") > /dev/null 2>&1 & exec sleep 60 ;;
  start) [ -e refuses ] && echo "port is already allocated" >&2 && exit 1; touch "running.$2" ;;
  ps) for f in created.*; do [ -e "$f" ] && echo "${{f#created.}}"; done; true ;;
  rm) shift; for n in "$@"; do rm -f "created.$n" "running.$n"; done ;;
esac
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    command = tmp_path / "docker"
    command.write_text(COMMAND.format(folder=tmp_path))
    command.chmod(0o755)
    return Engine(EngineConfig(command=str(command), allow_images=(IMAGE,)), "peer" * 5)


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().split() if path.exists() else []


def created(folder: Path) -> list[Path]:
    return list(folder.glob("created.*"))


def running(folder: Path) -> list[Path]:
    return list(folder.glob("running.*"))


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_a_container_is_created_then_started_and_removed_at_the_end(engine: Engine, tmp_path: Path) -> None:
    told: list[bool] = []
    engine.tell = lambda _key, runs, _why: told.append(runs)
    task = asyncio.create_task(engine.run())
    engine.take(WANTED)
    await until(lambda: told == [True])
    assert calls(tmp_path) == ["ps", "rm", "create", "start"]
    assert len(running(tmp_path)) == 1
    await ended(task)
    await engine.end()
    assert not running(tmp_path)
    assert not created(tmp_path)


async def test_one_that_cannot_be_started_is_not_left(engine: Engine, tmp_path: Path) -> None:
    told: list[str] = []
    engine.tell = lambda _key, _runs, why: told.append(why)
    (tmp_path / "refuses").touch()
    task = asyncio.create_task(engine.run())
    engine.take(WANTED)
    await until(lambda: bool(told))
    assert told == ["port is already allocated"]
    assert not created(tmp_path)
    await ended(task)


async def test_what_the_engine_goes_on_creating_after_the_end_does_not_run(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    task = asyncio.create_task(engine.run())
    engine.take(WANTED)
    await until(lambda: len(calls(tmp_path)) == 3)
    await ended(task)
    await engine.end()
    await until(lambda: bool(created(tmp_path) or running(tmp_path)))  # and here it is
    assert not running(tmp_path)
    (tmp_path / "slow").unlink()
    task = asyncio.create_task(engine.run())  # the next start removes it
    await until(lambda: not created(tmp_path))
    await ended(task)


async def test_an_engine_that_hangs_holds_up_the_end_for_a_moment_only(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "END_S", 0.5)
    (tmp_path / "hangs").touch()
    task = asyncio.create_task(engine.run())
    await until(lambda: calls(tmp_path) == ["ps"])
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
