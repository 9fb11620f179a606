"""A trainer process may be killed, overrun or starved: the service is told why and starts another."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.figures import metric_of

from grapevine_agent.data.source import DataSource
from grapevine_agent.training.requests import TrainRequest, from_line, to_line
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_agent.training.trainer import Trainer, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.messages import Vector

Model = tuple[Vector, Vector]
TIMEOUT_S = 60.0


@pytest.fixture
async def trainer(manifest: TaskManifest, source: DataSource) -> AsyncIterator[Trainer]:
    made = Trainer(manifest, source, TrainerLimits(memory_mb=600), seed=1)
    yield made
    await made.stop()


def _num_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_trainer_trains_evaluates_and_stops_without_leaving_anything(trainer: Trainer, model: Model) -> None:
    await asyncio.sleep(0)
    before = _num_fds()
    await trainer.start()
    assert trainer.is_running
    assert (trainer.num_samples, trainer.num_test) == (160, 40)
    copies = [vector.copy() for vector in model]
    parameters, buffers = model
    for _ in range(4):  # both slots, twice
        result = await trainer.train(parameters, buffers, 20, TIMEOUT_S)
        parameters, buffers = result.parameters, result.buffers
    assert result.num_samples == 20 * 16
    found = await trainer.evaluate(parameters, buffers)
    assert found.num_samples == 40
    assert metric_of(found) > 0.9
    for vector, copy in zip(model, copies, strict=True):
        np.testing.assert_array_equal(vector, copy)
    pid = trainer.pid
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    await trainer.stop()
    assert not trainer.is_running
    assert not _is_alive(pid)
    assert _num_fds() <= before + 1  # the event loop may keep one to watch children with


async def test_a_killed_trainer_is_told_and_can_be_started_again(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    training = asyncio.create_task(trainer.train(*model, 10_000_000, TIMEOUT_S))
    await asyncio.sleep(0.2)
    assert trainer.pid is not None
    os.kill(trainer.pid, signal.SIGKILL)
    with pytest.raises(TaskError, match="the trainer died: killed"):
        await training
    assert not trainer.is_running
    with pytest.raises(TaskError, match="start it"):
        await trainer.train(*model, 1, TIMEOUT_S)
    await trainer.start()
    assert (await trainer.train(*model, 1, TIMEOUT_S)).num_samples == 16


async def test_a_trainer_that_crashes_is_told_by_its_signal(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    assert trainer.pid is not None
    os.kill(trainer.pid, signal.SIGSEGV)
    with pytest.raises(TaskError, match="SIGSEGV"):
        await trainer.train(*model, 10, TIMEOUT_S)


async def test_a_trainer_that_ends_by_itself_is_told_with_what_it_said_last(
    manifest: TaskManifest, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_agent.training.process._WORKER", "grapevine_agent.no_such_module")
    with pytest.raises(TaskError, match=r"exit status 1: .*No module named"):
        await Trainer(manifest, source, TrainerLimits()).start()


async def test_an_overrunning_trainer_is_ended(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    pid = trainer.pid
    assert pid is not None
    with pytest.raises(TaskError, match=r"longer than 0\.3 s"):
        await trainer.train(*model, 10_000_000, 0.3)
    assert not _is_alive(pid)


async def test_a_cancelled_request_takes_its_process_along(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    pid = trainer.pid
    assert pid is not None
    training = asyncio.create_task(trainer.train(*model, 10_000_000, TIMEOUT_S))
    await asyncio.sleep(0.1)
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await training
    assert not _is_alive(pid)


async def test_stopping_ends_a_request_in_progress(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    training = asyncio.create_task(trainer.train(*model, 10_000_000, TIMEOUT_S))
    await asyncio.sleep(0.1)
    started_s = time.monotonic()
    await trainer.stop()
    assert time.monotonic() - started_s < 5
    with pytest.raises(TaskError):
        await training


async def test_a_refused_request_leaves_the_trainer_running(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    pid = trainer.pid
    poisoned = model[0].copy()
    poisoned[0] = np.nan
    with pytest.raises(TaskError, match="diverged"):
        await trainer.train(poisoned, model[1], 1, TIMEOUT_S)
    with pytest.raises(TaskError, match="expected"):
        await trainer.train(model[0][:-1], model[1], 1, TIMEOUT_S)
    assert trainer.pid == pid
    assert (await trainer.train(*model, 1, TIMEOUT_S)).num_samples == 16


async def test_requests_at_the_same_time_are_answered_one_by_one(trainer: Trainer, model: Model) -> None:
    await trainer.start()
    zeros = (np.zeros_like(model[0]), model[1])
    trained, found, *_ = await asyncio.gather(
        trainer.train(*model, 5, TIMEOUT_S), trainer.evaluate(*zeros), trainer.train(*model, 5, TIMEOUT_S)
    )
    assert trained.num_samples == 80
    assert found.loss == pytest.approx(np.log(3))


async def test_a_profile_with_too_little_memory_says_so(
    manifest: TaskManifest, source: DataSource, model: Model
) -> None:
    trainer = Trainer(manifest, source, TrainerLimits(memory_mb=50))
    with pytest.raises(TaskError, match="memory_mb = 50 is too little"):
        await trainer.start()
    assert not trainer.is_running


async def test_a_task_that_needs_more_memory_than_allowed_is_told_and_costs_only_the_trainer(
    manifest: TaskManifest, tmp_path: Path, model: Model
) -> None:
    """All 4,000,000 samples in one batch, with a few hundred MB of intermediates."""
    rng = np.random.default_rng(0)
    path = tmp_path / "points.npz"
    n = 4_000_000
    np.savez(path, x=rng.normal(size=(n, 4)).astype(np.float32), y=rng.integers(0, 3, n).astype(np.uint8))
    hungry = replace(manifest, training=replace(manifest.training, batch_size=n))
    trainer = Trainer(hungry, DataSource(name="big", kind="points", path=path), TrainerLimits(memory_mb=500))
    with pytest.raises(TaskError, match=r"out of memory: the task needs more than limits\.memory_mb = 500"):  # noqa: PT012
        await trainer.start()
        await trainer.train(*model, 2, TIMEOUT_S)
    assert not trainer.is_running
    await trainer.stop()


async def test_data_that_does_not_fit_is_told_at_the_start(manifest: TaskManifest, source: DataSource) -> None:
    np.savez(source.path, x=np.zeros((20, 4)), y=np.full(20, 7))
    trainer = Trainer(manifest, source, TrainerLimits())
    with pytest.raises(TaskError, match="7 is no class of the task"):
        await trainer.start()
    assert not trainer.is_running


def test_a_trainer_does_not_outlive_a_killed_service(
    manifest: TaskManifest, source: DataSource, model: Model, tmp_path: Path
) -> None:
    """The worker is in the middle of a long training step when its parent gets SIGKILL."""
    (tmp_path / "manifest").write_bytes(encode_manifest(manifest))
    script = f"""
        import asyncio
        from pathlib import Path
        import numpy as np
        from grapevine_agent.data.source import DataSource
        from grapevine_agent.training.trainer import Trainer, TrainerLimits
        from grapevine_proto.manifest_codec import decode_manifest

        async def main():
            manifest = decode_manifest(Path({str(tmp_path / "manifest")!r}).read_bytes())
            source = DataSource(name="garden", kind="points", path=Path({str(source.path)!r}))
            trainer = Trainer(manifest, source, TrainerLimits())
            await trainer.start()
            print(trainer.pid, flush=True)
            await trainer.train(np.zeros(15, np.float32), np.ones(8, np.float32), 10_000_000, 1000)

        asyncio.run(main())
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        worker = int(service.stdout.readline())
        assert _is_alive(worker)
        service.kill()
    deadline = time.monotonic() + 10
    while _is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(worker)


def test_shared_vectors_keep_two_requests_apart() -> None:
    vectors = SharedVectors.create(3, 2)
    other = SharedVectors(os.dup(vectors.fd), 3, 2)
    first = (np.arange(3, dtype=np.float32), np.arange(2, dtype=np.float32))
    vectors.write(1, *first)
    vectors.write(2, first[0] + 10, first[1] + 10)
    for number, shift in ((1, 0), (2, 10)):
        parameters, buffers = other.read(number)
        np.testing.assert_array_equal(parameters, first[0] + shift)
        np.testing.assert_array_equal(buffers, first[1] + shift)
    with pytest.raises(PermissionError):
        os.ftruncate(other.fd, 0)  # a faulty trainer cannot pull the memory from under the service
    vectors.close()
    other.close()


def test_a_line_that_is_no_message_is_a_task_error() -> None:
    request = TrainRequest(number=3, num_steps=4)
    assert from_line(to_line(request)) == request
    for line in (b"", b"{}", b"[]", b'{"kind": "rain"}', b'{"kind": "train"}', b"\xff"):
        with pytest.raises(TaskError):
            from_line(line)


async def test_a_trainer_that_ends_with_an_error_is_told_with_the_last_that_it_printed(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2\necho 'ValueError: not allowed' >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(TaskError, match="the trainer died: exit status 3: ValueError: not allowed"):
        await trainer.start()


async def test_a_trainer_that_uses_more_cpu_than_allowed_is_killed_and_says_so(
    manifest: TaskManifest, source: DataSource, model: Model
) -> None:
    trainer = Trainer(manifest, source, TrainerLimits(cpu_s=0.5), seed=1)
    await trainer.start()
    assert trainer.protection.startswith("seccomp")
    assert (await trainer.train(*model, 1, TIMEOUT_S)).num_samples == 16
    with pytest.raises(TaskError, match=r"the trainer died: killed: used more than 0\.5 s of CPU"):
        await trainer.train(*model, 10_000_000, TIMEOUT_S)
    assert not trainer.is_running


async def test_a_source_with_test_samples_of_its_own_trains_in_the_sandbox(
    manifest: TaskManifest, source: DataSource, model: Model
) -> None:
    """Nothing random is drawn before the sandbox is closed: what that needs must be there already."""
    samples = dict(np.load(source.path))
    np.savez(source.path, **samples, x_test=samples["x"][:10], y_test=samples["y"][:10])
    trainer = Trainer(manifest, source, TrainerLimits(memory_mb=600))
    await trainer.start()
    assert (await trainer.train(*model, 3, TIMEOUT_S)).num_samples == 48
    assert (await trainer.evaluate(*model)).num_samples == 10
    await trainer.stop()


def test_a_trainer_works_in_a_hardened_unit(manifest: TaskManifest, source: DataSource, tmp_path: Path) -> None:
    """No executable memory, no namespaces: oneDNN is switched off, and training goes on."""
    (tmp_path / "manifest").write_bytes(encode_manifest(manifest))
    script = f"""
        import asyncio, logging, sys
        from pathlib import Path
        import numpy as np
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from escapes import outer_filter
        from grapevine_agent.data.source import DataSource
        from grapevine_agent.training.trainer import Trainer, TrainerLimits
        from grapevine_proto.manifest_codec import decode_manifest

        async def main():
            manifest = decode_manifest(Path({str(tmp_path / "manifest")!r}).read_bytes())
            source = DataSource(name="garden", kind="points", path=Path({str(source.path)!r}))
            trainer = Trainer(manifest, source, TrainerLimits(num_threads=2))
            await trainer.start()
            result = await trainer.train(np.zeros(15, np.float32), np.ones(8, np.float32), 5, 60)
            print(trainer.protection, result.num_samples)
            await trainer.stop()

        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        outer_filter("filter")
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, capture_output=True, text=True, timeout=90
    )
    assert "oneDNN is off" in done.stdout, done.stderr
    assert "seccomp" in done.stdout.splitlines()[-1]
    assert done.stdout.endswith(" 80\n")
