"""A trainer of the owner's own: what it says is understood, and whatever else it does is a TaskError."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grapevine_agent.config.trainers import TrainerConfig
from grapevine_agent.core import effects as fx
from grapevine_agent.service.trainers import Trainers
from grapevine_agent.training.attached import MOST_WORDS, AttachedTrainer
from grapevine_agent.training.trainer import NoFiguresError, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, Optimiser, TaskManifest, TrainingPlan
from grapevine_proto.messages import Vector
from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.layout import ModelLayout

Model = tuple[Vector, Vector]
Reply = Callable[[str, bytes], bytes]
TIMEOUT_S = 10.0
KINDS = {"points": {"num_samples": 100, "num_test": 20}}


def _http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _described(**changes: Any) -> bytes:
    return _http(json.dumps({"protocol": 1, "kinds": KINDS, **changes}).encode())


def _trained(body: bytes, *, shift: float = 1.0, said: dict[str, str] | None = None) -> bytes:
    named = {name: tensor + np.float32(shift) for name, tensor in safetensors.numpy.load(body).items()}
    return _http(safetensors.numpy.save(named, said or {"loss": "0.5", "num_samples": "32"}))


def _well(path: str, body: bytes) -> bytes:
    if path == "/v1/describe":
        return _described()
    if path == "/v1/train":
        return _trained(body)
    return _http(b'{"loss": 0.5, "metric": 0.75, "num_samples": 20}')


@asynccontextmanager
async def _server(path: Path, reply: Reply, *, drip_s: float = 0.0) -> AsyncIterator[str]:
    """An HTTP server on a Unix socket that sends exactly the bytes of `reply`, one by one if it drips."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-len")), 0)
            content = reply(head.split()[1], await reader.readexactly(length))
            for start in range(0, len(content), 1 if drip_s else len(content)):
                writer.write(content[start : start + (1 if drip_s else len(content))])
                await writer.drain()
                await asyncio.sleep(drip_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the agent has given up
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield f"unix://{path}"
    finally:
        server.close()


async def test_a_trainer_on_a_unix_socket_trains_and_evaluates(
    manifest: TaskManifest, model: Model, tmp_path: Path
) -> None:
    async with _server(tmp_path / "s", _well) as url:
        trainer = AttachedTrainer(manifest, url)
        await trainer.start()
        assert (trainer.is_running, trainer.num_samples) == (True, 100)
        result = await trainer.train(*model, 2, TIMEOUT_S)
        np.testing.assert_array_equal(result.parameters, model[0] + 1)
        np.testing.assert_array_equal(result.buffers, model[1] + 1)
        assert (result.loss, result.num_samples) == (0.5, 32)
        found = await trainer.evaluate(*model, TIMEOUT_S)
        assert (found.loss, found.metric, found.num_samples) == (0.5, 0.75, 20)


@pytest.mark.parametrize("loss", ["null", "NaN", "Infinity"])
async def test_a_model_without_figures_is_no_fault_of_the_trainers(
    manifest: TaskManifest, model: Model, tmp_path: Path, loss: str
) -> None:
    def none(path: str, body: bytes) -> bytes:
        if path != "/v1/evaluate":
            return _well(path, body)
        return _http(b'{"loss": %s, "metric": 0.75, "num_samples": 20}' % loss.encode())

    async with _server(tmp_path / "s", none) as url:
        trainer = AttachedTrainer(manifest, url)
        await trainer.start()
        with pytest.raises(NoFiguresError, match="the model's loss is") as caught:
            await trainer.evaluate(*model, TIMEOUT_S)
        assert caught.value.num_samples == 20
        assert trainer.is_running


async def test_the_facts_of_a_step_stand_in_the_header(manifest: TaskManifest, model: Model, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def remember(path: str, body: bytes) -> bytes:
        seen.append(body)
        return _well(path, body)

    async with _server(tmp_path / "s", remember) as url:
        trainer = AttachedTrainer(manifest, url)
        await trainer.start()
        await trainer.train(*model, 7, TIMEOUT_S)
    facts = json.loads(seen[1][8 : 8 + int.from_bytes(seen[1][:8], "little")])["__metadata__"]
    assert facts["num_steps"] == "7"
    assert (facts["batch_size"], facts["learning_rate"], facts["kind"]) == ("16", "0.1", "points")


_WRONG_TRAINING: dict[str, tuple[Reply, str]] = {
    "a refusal": (
        lambda _p, _b: _http(b"the farm is asleep", "503 Busy"),
        "status 503: 'the farm|status 503: the farm",
    ),
    "not finite": (lambda _p, b: _trained(b, shift=float("nan")), "not finite"),
    "a loss that is not finite": (lambda _p, b: _trained(b, said={"loss": "inf", "num_samples": "1"}), "not finite"),
    "no word on samples": (lambda _p, b: _trained(b, said={"loss": "1"}), "must say loss and num_samples"),
    "no samples": (lambda _p, b: _trained(b, said={"loss": "1", "num_samples": "0"}), "took 0 samples"),
    "another model": (lambda _p, _b: _http(safetensors.numpy.save({"w": np.zeros(3, np.float32)})), "do not match"),
    "other numbers": (
        lambda _p, b: _http(safetensors.numpy.save({n: t.astype("f8") for n, t in safetensors.numpy.load(b).items()})),
        "is float64, not float32",
    ),
    "no safetensors": (lambda _p, _b: _http(b"\x80\x04pickle"), "no safetensors"),
    "too much": (lambda _p, _b: _http(bytes(MOST_WORDS * 2)), "larger than"),
    "too much, undeclared": (lambda _p, _b: b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MOST_WORDS * 2), "larger than"),
    "an early end": (lambda _p, _b: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc", "IncompleteRead|ends"),
    "no HTTP": (lambda _p, _b: b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0|BadStatusLine"),
    "nothing": (lambda _p, _b: b" ", "."),
}


@pytest.mark.parametrize("case", _WRONG_TRAINING)
async def test_what_a_trainer_does_wrong_is_told_and_changes_nothing(
    case: str, manifest: TaskManifest, model: Model, tmp_path: Path
) -> None:
    reply, told = _WRONG_TRAINING[case]
    async with _server(tmp_path / "s", lambda p, b: _described() if p == "/v1/describe" else reply(p, b)) as url:
        trainer = AttachedTrainer(manifest, url)
        await trainer.start()
        with pytest.raises(TaskError, match=told):
            await trainer.train(*model, 2, TIMEOUT_S)
        assert not trainer.is_running  # it has to describe itself again
        await trainer.start()
        assert trainer.is_running


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (_described(protocol=2), "speaks protocol 2"),
        (_described(kinds={"weather": {}}), "has no data of the kind 'points'"),
        (_described(kinds=["points"]), "has no data of the kind 'points'"),
        (_described(kinds={"points": {"num_samples": -1}}), "num_samples must be a whole number"),
        (_described(kinds={"points": {"num_samples": True}}), "num_samples must be a whole number"),
        (_http(b"[]"), "no JSON object"),
        (_http(b"[" * 50_000), "no JSON object"),
    ],
)
async def test_a_trainer_that_describes_itself_badly_is_not_used(
    reply: bytes, told: str, manifest: TaskManifest, tmp_path: Path
) -> None:
    async with _server(tmp_path / "s", lambda _p, _b: reply) as url:
        trainer = AttachedTrainer(manifest, url)
        with pytest.raises(TaskError, match=told):
            await trainer.start()
        assert not trainer.is_running


@pytest.mark.parametrize("url", ["unix:///nowhere/at/all.sock", "http://127.0.0.1:9"])
async def test_a_trainer_that_is_not_there_is_told(url: str, manifest: TaskManifest) -> None:
    with pytest.raises(TaskError, match="is the trainer running"):
        await AttachedTrainer(manifest, url).start()


async def test_a_trainer_that_drips_is_given_up_in_time(manifest: TaskManifest, model: Model, tmp_path: Path) -> None:
    async with _server(tmp_path / "s", _well) as url:
        trainer = AttachedTrainer(manifest, url)
        await trainer.start()
    (tmp_path / "s").unlink(missing_ok=True)
    async with _server(tmp_path / "s", _well, drip_s=0.02):
        started_s = time.monotonic()
        with pytest.raises(TaskError, match=r"took longer than 0\.3 s"):
            await trainer.train(*model, 2, 0.3)
        assert time.monotonic() - started_s < 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=st.binary(max_size=300))
def test_no_bytes_of_a_trainer_are_more_than_a_task_error(reply: bytes, manifest: TaskManifest, tmp_path: Path) -> None:
    async def ask() -> None:
        async with _server(tmp_path / "s", lambda p, _b: _described() if p == "/v1/describe" else _http(reply)) as url:
            trainer = AttachedTrainer(manifest, url)
            await trainer.start()
            zeros = np.zeros(15, np.float32), np.zeros(8, np.float32)
            for asked in (trainer.train(*zeros, 1, TIMEOUT_S), trainer.evaluate(*zeros, TIMEOUT_S)):
                with pytest.raises(TaskError):
                    await asked

    asyncio.run(ask())


# --- the example of the documentation, behind what the service asks --------------------------------------


@pytest.fixture
def linear() -> TaskManifest:
    """64 pixels, 10 classes, one linear layer."""
    graph = Graph(nodes=(Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(1), Ref(2))),), output=3)
    program = Program(
        inputs=(InputSpec(name="input", shape=(64,)),),
        parameters=(TensorSpec(name="layer.weight", shape=(10, 64)), TensorSpec(name="layer.bias", shape=(10,))),
        buffers=(),
        train=graph,
        eval=graph,
    )
    return TaskManifest(
        name="Digits",
        publisher="abc",
        program=program,
        initial_weights=_any_weights(),
        data=DataContract(
            kind="digits-8x8",
            features=FeatureSpec(name="x", dtype="float32", shape=(64,)),
            target=FeatureSpec(name="y", dtype="int64", shape=()),
            num_classes=10,
        ),
        training=TrainingPlan(batch_size=32, optimiser=Optimiser(learning_rate=0.5)),
    )


def _any_weights() -> Any:
    from grapevine_proto.manifest import WeightsRef

    return WeightsRef(digest="0" * 64, num_bytes=1)


@pytest.fixture
def example(tmp_path: Path) -> Iterator[str]:
    """docs/examples/own_trainer.py as its reader would start it."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(tmp_path / "digits.npz", x=digits.images, y=digits.target)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).parents[4] / "docs" / "examples" / "own_trainer.py"
    arguments = [sys.executable, str(script), str(tmp_path / "digits.npz"), str(port)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{port}"
        process.kill()


async def _ask(trainers: Trainers, effect: fx.Train | fx.Evaluate) -> Any:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    trainers.take(effect, answered.set_result)
    return await asyncio.wait_for(answered, 30)


async def test_the_documented_example_learns_digits_for_the_service(linear: TaskManifest, example: str) -> None:
    trainers = Trainers((), TrainerLimits(), (TrainerConfig(url=example, kind="digits-8x8"),))
    layout = ModelLayout.of(linear.program)
    parameters, buffers = np.zeros(layout.num_parameters, np.float32), np.empty(0, np.float32)
    trainers.take(fx.StartTrainer(task="t", manifest=replace(linear)), lambda _done: None)
    train = fx.Train(task="t", parameters=parameters, buffers=buffers, num_steps=400)
    trained = await _ask(trainers, train)
    for _ in range(100):
        if "is the trainer running" not in trained.error:
            break
        await asyncio.sleep(0.1)  # it is still importing numpy: the core would try again, too
        trained = await _ask(trainers, train)
    assert trained.error == ""
    assert (trained.num_samples, trained.dataset_size) == (400 * 32, 1438)
    found = await _ask(trainers, fx.Evaluate(task="t", round=1, parameters=trained.parameters, buffers=buffers))
    assert found.error == ""
    assert found.metric > 0.9
    (status,) = trainers.status()
    assert status["protection"] == f"the owner's own trainer at {example}"
    await trainers.stop_all()
