"""What a service answers when its disk cannot say what is saved, and what it forgets when its owner says so."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.agent.core.tasks.device import WEIGHTS
from tests.unit.agent.service.test_restoring import OWN, REVIEWER, ROOT, STRANGERS, Quiet

from grapevine_agent.cli.holding import folder_line, held_lines
from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy
from grapevine_agent.identity import Identity
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service import clock
from grapevine_agent.service.saving import Saver
from grapevine_agent.service.shell import AgentService
from grapevine_agent.service.tidying import FIRST_LOOK_S
from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.store import Store
from grapevine_lab.bench import floods
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import RequestError, StoreError, TaskError
from grapevine_proto.manifest import Requirements
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import Metrics, Review, TaskPublication
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.weights import reference_to

MIB = 2**20
PUBLISHER = STRANGERS[0]


@contextmanager
def service(folder: Path, *, cap_bytes: int = 100 * MIB, **settings: Any) -> Iterator[AgentService]:
    policy = ReviewPolicy(approvals=1, trusted=frozenset((REVIEWER.peer_id,)), max_valid_days=36_500.0)
    told = CoreSettings(
        peer=OWN.peer_id,
        review=policy,
        limits=DeviceLimits(cores=4, memory_mb=1000, disk_mb=100),
        match_data=lambda _task, _head: "",
    )
    with Store.open(folder, cap_bytes=cap_bytes) as store:
        made = AgentService(
            settings=replace(told, **settings),
            identity=Identity(OWN, folder / "identity.pem"),
            store=store,
            transports=[lambda _will: Quiet([])],  # type: ignore[list-item, return-value]
            root=ROOT,
            trainers=None,
            max_bytes=1_000_000,
            config=load_config(None, {}),
        )
        made._restore()
        yield made


async def approved(on: AgentService, name: str = "digits", **fields: Any) -> str:
    """A task that was published, reviewed, and whose weights are on disk. Returns its id."""
    on.store.put_blob(WEIGHTS)
    manifest = floods.manifest(PUBLISHER.peer_id, name=name, initial_weights=reference_to(WEIGHTS), **fields)
    encoded = encode_manifest(manifest)
    task, until_ms = task_id(encoded), clock.now().wall_ms + 3_600_000
    for key, leaf, body in (
        (PUBLISHER, "manifest", TaskPublication(manifest=encoded)),
        (REVIEWER, "review", Review(task=task, approved=True, reason="", valid_until_ms=until_ms)),
    ):
        topic = TaskTopic(key.peer_id, task, leaf)  # type: ignore[arg-type]
        on.perform(on.core.receive(open_envelope(floods.sealed(key, topic, body), topic), clock.now()))
    await settled(on)
    return task


async def settled(on: AgentService) -> None:
    for _ in range(5):
        on.perform(on.core.tick(clock.now()))
        await asyncio.gather(*on._background)


async def ask(on: AgentService, method: str, **params: Any) -> Any:
    return await Requests(on).answer({"method": method, "params": params})


# --- loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [StoreError("x: cannot be read now (Too many open files)"), MemoryError("no room")])
async def test_a_load_that_fails_ends_the_joining_and_says_when_it_is_tried_again(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(_task: str) -> None:
        raise error

    with service(tmp_path) as started:
        monkeypatch.setattr(started.store, "load_model", stumble)
        task = await approved(started)
        (line,) = (await ask(started, "status"))["tasks"]
        assert not line["joined"]
        assert f"what is saved of it cannot be read: {error if isinstance(error, StoreError) else ''}" in line["why"]
        assert "the next try is in 2 minutes" in line["why"]
        assert 100_000 < line["retry_at_ms"] - clock.now().wall_ms <= 120_000
        monkeypatch.undo()
        answer = await ask(started, "consent", task=task, joined=True)
        assert answer["retry_at_ms"] == 0
        await settled(started)
        assert started.core.tasks.tasks() == (task,)
        await started._saver.finish()


# --- who holds what -------------------------------------------------------------------------------


async def test_status_says_who_holds_what_and_what_a_kill_costs(tmp_path: Path) -> None:
    with service(tmp_path, save_every_s=30.0) as started:
        task = await approved(started, requirements=Requirements(memory_mb=700, cores=2))
        other = await approved(started, "weather", requirements=Requirements(memory_mb=420, cores=1))
        status = await ask(started, "status")
        assert json.loads(json.dumps(status["held"])) == {
            "limits": {"memory_mb": 1000, "cores": 4, "disk_mb": 100},
            "free": {"memory_mb": 300, "cores": 2, "disk_mb": 100},
            "tasks": [{"task": task, "name": "digits", "memory_mb": 700, "cores": 2, "disk_mb": 0}],
            "saved_every_s": 30.0,
        }
        assert held_lines(status["held"]) == (
            "\nheld: digits 700 MB and 2 cores; free: 300 of 1,000 MB, 2 of 4 cores\n"
            "models that change are saved every 30 s: a kill costs so much training at most"
        )
        why = next(line["why"] for line in status["tasks"] if line["id"] == other)
        assert why.startswith("needs about 420 MB of memory, 300 of 1,000 are free: `digits` holds 700")
        assert status["state_folder"]["left"] == []
        assert 0 < status["state_folder"]["mb"] < status["state_folder"]["limit_mb"] == 100
        await started._saver.finish()


# --- forgetting -----------------------------------------------------------------------------------


async def test_forget_deletes_what_is_kept_of_a_task_that_was_left(tmp_path: Path) -> None:
    with service(tmp_path) as started:
        task = await approved(started)
        with pytest.raises(TaskError, match="digits is joined, and its model is in use; first: grapevine leave"):
            await ask(started, "forget", task=task)
        started._saver.save(
            fx.SaveMetrics(metrics=Metrics(task=task, round=1, age=1, loss=0, metric=0, num_evaluated=1))
        )
        await ask(started, "consent", task=task, joined=False)
        await started._saver.load_model(task)  # behind what is to be saved
        assert started.store.model_tasks() == [task]
        status = await ask(started, "status")
        assert [line["name"] for line in status["state_folder"]["left"]] == ["digits"]
        assert "of them models that are not in use (grapevine forget): digits" in folder_line(status["state_folder"])
        answer = await ask(started, "forget", task=task[:8])
        assert (answer["task"], answer["name"]) == (task, "digits")
        assert answer["freed_mb"] > 0
        assert started.store.model_tasks() == []
        assert started.store.metrics(task) == []
        assert started.store.memberships() == {task: "left"}
        assert list((tmp_path / "blobs").iterdir()) == []
        await settled(started)
        assert started.core.tasks.tasks() == ()  # a no stays a no
        await started._saver.finish()
        assert started.store.model_tasks() == []  # what waited to be written does not come after it


async def test_forget_keeps_initial_weights_that_another_task_uses_or_that_are_ones_own(tmp_path: Path) -> None:
    with service(tmp_path) as started:
        left, joined = await approved(started), await approved(started, "weather")
        await ask(started, "consent", task=left, joined=False)
        await ask(started, "forget", task=left)
        assert started.core.tasks.tasks() == (joined,)
        assert started.store.get_blob(reference_to(WEIGHTS).digest) == WEIGHTS
        await started._saver.finish()


async def test_forget_finds_what_is_kept_of_tasks_that_nobody_knows_any_more(tmp_path: Path) -> None:
    gone = "0123456789abcdef" * 4
    with service(tmp_path) as started:
        started.store.save_model(gone, StoredModel(vectors={"x": np.zeros(9, np.float32)}))
        with pytest.raises(RequestError, match="too short"):
            await ask(started, "forget", task=gone[:5])
        with pytest.raises(TaskError, match="nothing is known or kept of a task 'fedcba9876'"):
            await ask(started, "forget", task="fedcba9876")
        assert (await ask(started, "forget", task=gone[:8]))["task"] == gone
        assert started.store.kept_tasks() == []
        await started._saver.finish()


async def test_a_disk_that_deletes_nothing_makes_the_command_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "0123456789abcdef" * 4

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("models: cannot be deleted (Read-only file system)")

    with service(tmp_path) as started:
        started.store.save_model(gone, StoredModel(vectors={"x": np.zeros(9, np.float32)}))
        monkeypatch.setattr(started.store, "forget_task", refuse)
        with pytest.raises(StoreError, match="Read-only file system"):
            await ask(started, "forget", task=gone)
        await started._saver.finish()


async def test_the_service_looks_after_its_folder_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "0123456789abcdef" * 4
    with service(tmp_path, cap_bytes=2 * MIB) as started:
        task = await approved(started)
        started.store.save_model(gone, StoredModel(vectors={"x": np.zeros(MIB, np.float32)}))
        now = clock.now()
        assert not started.tidying.is_due(now)
        later = replace(now, monotonic_s=now.monotonic_s + FIRST_LOOK_S + 1)
        assert started.tidying.is_due(later)
        assert not started.tidying.is_due(later)
        await started.tidying.make_room(later)
        assert gone not in started.store.model_tasks()
        assert started.core.tasks.tasks() == (task,)
        await started._saver.finish()


# --- metrics --------------------------------------------------------------------------------------


async def test_lines_of_metrics_are_written_together(tmp_path: Path) -> None:
    def line(number: int) -> fx.SaveMetrics:
        return fx.SaveMetrics(metrics=Metrics(task="t", round=number, age=1, loss=0, metric=0, num_evaluated=1))

    with Store.open(tmp_path) as store:
        saver, log = Saver(store, metrics_every_s=3600.0), tmp_path / "grapevine.db-wal"
        saver.save(line(0))  # the first at once
        await saver.load_model("none")
        before = log.stat().st_size
        for number in range(1, 200):
            saver.save(line(number))
            saver.retry()
        await saver.load_model("none")
        assert log.stat().st_size == before
        assert len(store.metrics("t", 500)) == 1
        await saver.finish()
        assert [entry.metrics.round for entry in store.metrics("t", 500)] == list(range(200))
        assert log.stat().st_size - before < 40 * 4096  # a page or more for each line it would be
    assert sqlite3.connect(tmp_path / "grapevine.db").execute("SELECT min(at_ms) > 0 FROM metrics").fetchone() == (1,)
