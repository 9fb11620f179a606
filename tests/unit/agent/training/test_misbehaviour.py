"""Whatever a trainer process does, its service gets an answer or a TaskError, in time, and nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grapevine_agent.data.source import DataSource
from grapevine_agent.training import process
from grapevine_agent.training.trainer import Trainer, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Vector

Model = tuple[Vector, Vector]
Make = Callable[[str], Trainer]


@pytest.fixture
def make(manifest: TaskManifest, source: DataSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    def made(behaviour: str) -> Trainer:
        monkeypatch.setattr(process, "_WORKER", "misbehaving")
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
        monkeypatch.setenv("PYTHONMISBEHAVIOUR", behaviour)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        return Trainer(manifest, source, TrainerLimits())

    return made


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_one_that_behaves_is_taken_at_its_word(make: Make, model: Model) -> None:
    trainer = make("well")
    await trainer.start()
    assert (await trainer.evaluate(*model)).metric == 0.5
    assert (await trainer.train(*model, 1, 10.0)).num_samples == 1
    await trainer.stop()


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ("numbers that are none", r"not finite on the test samples \(loss nan, metric 0\.5\)"),
        ("a metric without end", r"not finite on the test samples \(loss 0\.5, metric inf\)"),
        ("more than there are", "evaluated 21 of 20 test samples"),
        ("another answer", "answered EvaluateRequest with Ready"),
        ("an answer to something else", "answered EvaluateRequest with Trained"),
        ("one line without end", "longer than an answer can be"),
        ("prints without end", "killed: printed more than 16,777,216 bytes"),
        ("works for ever", "took longer than 2 s and was ended"),
    ],
)
async def test_an_evaluation_that_is_none_is_an_error(behaviour: str, told: str, make: Make, model: Model) -> None:
    trainer = make(behaviour)
    await trainer.start()
    with pytest.raises(TaskError, match=told):
        await trainer.evaluate(*model, 2.0 if behaviour == "works for ever" else 20.0)
    await trainer.stop()


async def test_a_model_of_numbers_that_are_none_is_an_error(make: Make, model: Model) -> None:
    trainer = make("a poisoned model")
    await trainer.start()
    with pytest.raises(TaskError, match="not finite"):
        await trainer.train(*model, 1, 10.0)
    await trainer.stop()


async def test_the_shared_memory_cannot_be_cut_off(make: Make, model: Model) -> None:
    trainer = make("a model that is cut off")
    await trainer.start()
    assert (await trainer.train(*model, 1, 10.0)).parameters.shape == model[0].shape
    await trainer.stop()


async def test_one_that_never_gets_ready_is_given_up(make: Make) -> None:
    trainer = make("never ready")
    started_s = time.monotonic()
    with pytest.raises(TaskError, match=r"longer than 3 s"):
        await trainer.start(3.0)
    assert time.monotonic() - started_s < 20
    assert not trainer.is_running


async def test_one_that_ignores_signals_is_ended_all_the_same(make: Make) -> None:
    trainer = make("ignores SIGTERM")
    await trainer.start()
    pid = trainer.pid
    assert pid is not None
    await asyncio.wait_for(trainer.stop(), 10)
    assert not _is_alive(pid)


async def test_its_children_end_with_it_and_hold_nobody_up(make: Make, tmp_path: Path) -> None:
    await asyncio.sleep(0)
    before = _open_descriptors()
    trainer = make("has a child")
    await trainer.start()
    child = int((tmp_path / "child").read_text())
    assert _is_alive(child)
    await asyncio.wait_for(trainer.stop(), 10)  # the child has its output open
    deadline_s = time.monotonic() + 10
    while _is_alive(child) and time.monotonic() < deadline_s:
        await asyncio.sleep(0.05)
    assert not _is_alive(child)
    assert _open_descriptors() <= before + 1


async def test_children_of_one_that_dies_by_itself_end_too(make: Make, tmp_path: Path) -> None:
    trainer = make("has a child")
    await trainer.start()
    child = int((tmp_path / "child").read_text())
    assert trainer.pid is not None
    os.kill(trainer.pid, 9)
    deadline_s = time.monotonic() + 10
    while _is_alive(child) and time.monotonic() < deadline_s:
        await asyncio.sleep(0.05)
    assert not _is_alive(child)
    await asyncio.wait_for(trainer.stop(), 10)
