"""The service's trainers: which requests they are asked, how long they may take, and what they may hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.agent.training.conftest import three_classes

from grapevine_agent.config.trainers import TrainerConfig
from grapevine_agent.core import effects as fx
from grapevine_agent.core.tasks.fitting import READER_MB, TRAINER_MB
from grapevine_agent.data.source import DataSource
from grapevine_agent.service.trainers import Trainers
from grapevine_agent.training.trainer import TrainerLimits
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Vector

Model = tuple[Vector, Vector]
Start = Callable[..., Trainers]
WEEK_S = 7 * 86_400.0
ENDLESS = 10_000_000  # steps
LIMIT_MB = 420  # with PyTorch a trainer takes 250 to 330 of them, by its processor
TIGHT_MB = 200
MANY = 8_000_000  # samples, which do not fit into what is left


@pytest.fixture
async def start(manifest: TaskManifest, source: DataSource) -> AsyncIterator[Start]:
    made: list[Trainers] = []

    def started(limits: TrainerLimits, *attached: TrainerConfig, **plan: Any) -> Trainers:
        changed = replace(manifest, training=replace(manifest.training, **plan))
        trainers = Trainers(() if attached else (source,), limits, attached)
        made.append(trainers)
        trainers.take(fx.StartTrainer(task="t", manifest=changed), lambda _done: None)
        return trainers

    yield started
    for trainers in made:
        await trainers.stop_all()


def _ask(trainers: Trainers, model: Model, *, steps: int = 0, round_: int = 1) -> asyncio.Future[Any]:
    """An answer to come: to a training step, or to an evaluation where there are no steps."""
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    parameters, buffers = model
    if steps:
        effect: fx.Train | fx.Evaluate = fx.Train(task="t", parameters=parameters, buffers=buffers, num_steps=steps)
    else:
        effect = fx.Evaluate(task="t", round=round_, parameters=parameters, buffers=buffers)
    trainers.take(effect, answered.set_result)
    return answered


async def test_a_round_interval_of_a_week_gives_a_step_no_time_beyond_the_owners(start: Start, model: Model) -> None:
    trainers = start(TrainerLimits(step_timeout_s=3.0), round_interval_s=WEEK_S)
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""
    started_s = time.monotonic()
    answer = await asyncio.wait_for(_ask(trainers, model, steps=ENDLESS), 60)
    assert answer.error == "the trainer took longer than 3 s and was ended"
    assert answer.seconds >= 3.0, "what it took is to be counted"
    assert time.monotonic() - started_s < 30
    (status,) = trainers.status()
    assert (status["failures"], status["trouble"]) == (1, answer.error)


async def test_a_trainer_of_the_owners_has_the_owners_time_too(start: Start, model: Model, tmp_path: Path) -> None:
    """It describes itself and then says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"describe" in head:
            body = b'{"protocol": 1, "kinds": {"points": {"num_samples": 9}}}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            writer.close()
            return
        await reader.read()  # until it is given up
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    config = TrainerConfig(url=f"unix://{tmp_path / 's'}", kind="points")
    trainers = start(TrainerLimits(step_timeout_s=1.0), config, round_interval_s=WEEK_S)
    for steps in (5, 0):
        answer = await asyncio.wait_for(_ask(trainers, model, steps=steps), 30)
        assert "took longer than 1 s and was given up" in answer.error
    server.close()


async def test_evaluations_do_not_pile_up_while_the_trainer_is_busy(start: Start, model: Model) -> None:
    """Rounds of a hundredth of a second, each with an evaluation: the newest is the one that matters."""
    trainers = start(TrainerLimits())
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""
    training = _ask(trainers, model, steps=2000)
    await asyncio.sleep(0)  # the step has begun
    asked = [_ask(trainers, model, round_=k) for k in range(1000)]
    await asyncio.wait_for(training, 60)
    assert (await asyncio.wait_for(asked[-1], 60)).round == 999
    assert sum(each.done() for each in asked) == 1


async def test_what_a_library_lets_out_is_an_answer_and_no_silence(
    start: Start, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: Any) -> None:
        raise ZeroDivisionError("in some library")

    trainers = start(TrainerLimits())
    monkeypatch.setattr(trainers, "_look", stumble)
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert answer.error == "ZeroDivisionError: in some library"
    monkeypatch.undo()
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""


async def test_a_source_that_has_grown_too_large_is_not_loaded(start: Start, model: Model, source: DataSource) -> None:
    """It fitted when the task was joined."""
    trainers = start(TrainerLimits(memory_mb=LIMIT_MB))
    many = three_classes(MANY)
    np.savez(source.path, x=many["x"], y=many["y"])
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert answer.error.startswith(f"garden: {MANY:,} samples are too many: it needs about")
    assert not trainers.status()[0]["running"]


async def test_a_running_trainer_goes_on_with_what_it_has(start: Start, model: Model, source: DataSource) -> None:
    trainers = start(TrainerLimits(memory_mb=LIMIT_MB))
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""
    made = trainers._running["t"].made
    assert made is not None
    made.source = replace(source, reload_s=0.0)
    many = three_classes(MANY)
    np.savez(source.path, x=many["x"], y=many["y"])
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert (answer.error, answer.dataset_size) == ("", 160)


async def test_what_pytorch_takes_is_what_the_devices_own_trainers_told(start: Start, model: Model) -> None:
    trainers = start(TrainerLimits(memory_mb=LIMIT_MB))
    assert trainers._bare.mb == TRAINER_MB
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""
    told = trainers._bare.mb
    assert told != TRAINER_MB
    assert READER_MB < told < LIMIT_MB
    trainers._bare.mb = 2 * LIMIT_MB
    made = trainers._running["t"].made
    assert made is not None
    await made.trainer.stop()
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert f"({2 * LIMIT_MB} of them for PyTorch itself)" in answer.error


async def test_a_source_that_has_gone_is_an_answer_and_one_that_is_back_is_trained_on(
    start: Start, model: Model, source: DataSource
) -> None:
    """A disk that is not mounted: it was there when the task was judged."""
    away = source.path.with_suffix(".away")
    source.path.rename(away)
    trainers = start(TrainerLimits())
    for answer in (_ask(trainers, model, steps=1), _ask(trainers, model)):
        assert "garden" in (await asyncio.wait_for(answer, 60)).error
    assert trainers.status()[0]["failures"] == 2
    away.rename(source.path)
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""


async def test_a_task_for_which_no_source_is_configured_any_more_is_an_answer(
    manifest: TaskManifest, model: Model
) -> None:
    trainers = Trainers((), TrainerLimits())
    trainers.take(fx.StartTrainer(task="t", manifest=manifest), lambda _done: None)
    assert "no data source of the kind 'points'" in (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error
    await trainers.stop_all()


async def test_who_asks_for_a_task_that_was_not_started_is_answered_too(model: Model) -> None:
    trainers = Trainers((), TrainerLimits())
    for answer in (_ask(trainers, model, steps=1), _ask(trainers, model, round_=7)):
        assert "no trainer was started" in (await asyncio.wait_for(answer, 5)).error


async def test_an_answer_that_is_not_taken_ends_no_trainer(
    start: Start, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    trainers = start(TrainerLimits())

    def stumble(_done: object) -> None:
        raise KeyError("a fault of the core's")

    parameters, buffers = model
    trainers.take(fx.Evaluate(task="t", round=1, parameters=parameters, buffers=buffers), stumble)
    assert (await asyncio.wait_for(_ask(trainers, model, steps=1), 60)).error == ""
    assert "an answer was not taken" in caplog.text


async def test_samples_must_fit_beside_the_other_tasks_and_so_must_the_process(
    start: Start, model: Model, source: DataSource
) -> None:
    trainers = start(TrainerLimits(memory_mb=3 * LIMIT_MB))
    many = three_classes(MANY)
    np.savez(source.path, x=many["x"], y=many["y"])
    trainers.room_mb = lambda _task: LIMIT_MB  # the rest is another task's
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert answer.error.startswith(f"garden: {MANY:,} samples are too many: it needs about")
    assert f"the other tasks leave {LIMIT_MB}" in answer.error
    few = three_classes(200)
    np.savez(source.path, x=few["x"], y=few["y"])
    trainers.room_mb = lambda _task: 40  # less than a process takes before it trains
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert "the other tasks leave 40" in answer.error


async def test_a_trainer_that_is_too_large_before_it_trains_tells_how_large_and_the_next_refusal_knows(
    start: Start, model: Model
) -> None:
    trainers = start(TrainerLimits(memory_mb=TIGHT_MB))
    trainers._bare.mb = 1  # as if PyTorch were small: it is tried
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert answer.error.endswith(f"limits.memory_mb = {TIGHT_MB} is too little")
    assert TIGHT_MB < trainers._bare.mb < LIMIT_MB
    answer = await asyncio.wait_for(_ask(trainers, model, steps=1), 60)
    assert f"({trainers._bare.mb} of them for PyTorch itself), profile allows {TIGHT_MB}" in answer.error
