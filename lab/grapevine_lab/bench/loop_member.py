"""A member that learns a task of any size, for measuring its event loop: `python -m grapevine_lab.bench.loop_member`.

It is the service itself, with its own transport, store and core, but for one thing: its trainer moves the model a
little at random instead of training it. The model goes through shared memory and the checks all the same, as to a
trainer process and back. Two of them on one broker send each other their models.

The arguments are the member's number, a folder, the broker's URL, the number of parameters and the strategy. It runs
until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy
from grapevine_agent.identity import Identity
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.outlasting import in_a_thread
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.store import Store
from grapevine_agent.training.results import TrainingResult
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_agent.training.trainer import check_result
from grapevine_lab.bench import floods
from grapevine_lab.bench.trainers_here import Done, TrainersHere
from grapevine_proto.codec import open_envelope
from grapevine_proto.manifest import MergePlan, TaskManifest
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import Review, TaskPublication, Vector
from grapevine_proto.program import TensorSpec
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import encode_weights, reference_to

ROOT = "grapevine-bench/loop"
NUM_MEMBERS = 2
LARGEST_PACKET = 268_435_455
HEARTBEAT_S = 0.5
ROUND_S = 1.0
SAVE_EVERY_S = 10.0
LEARNED = 0.01  # how far the model is moved in a round
TRAINING_S = 0.2
SAMPLES = 600
BLOCK = 1 << 16
KEYS = [SigningKey(hashlib.sha256(f"member {number}".encode()).digest()) for number in range(NUM_MEMBERS)]
PUBLISHER, REVIEWER = floods.key(1), floods.key(2)


class RandomSteps(TrainersHere):
    """Trainers that move the model a little, at random."""

    def __init__(self, layout: ModelLayout) -> None:
        super().__init__()
        self._memory = SharedVectors.create(layout.num_parameters, layout.num_buffers)
        self._rng = np.random.default_rng()
        self._number = 0
        self._is_over = False

    def take(self, effect: fx.Effect, done: Done) -> None:
        """As `Trainers.take`."""
        match effect:
            case fx.Train() if not self._is_over:
                self.begin(self._train(effect, done))
            case fx.Evaluate(task=task, round=number):
                evaluated = fx.Evaluated(task=task, round=number, loss=1.0, metric=0.5, num_evaluated=SAMPLES)
                asyncio.get_running_loop().call_soon(done, evaluated)

    async def _train(self, asked: fx.Train, done: Done) -> None:
        memory, size = self._memory, asked.parameters.nbytes
        self._number += 1
        number = self._number
        await in_a_thread(lambda: memory.write(number, asked.parameters, asked.buffers), size)
        await asyncio.sleep(TRAINING_S)
        # What a process would do in its own memory.
        await in_a_thread(lambda: memory.write(number, self._moved(asked.parameters), asked.buffers), size)
        parameters, buffers = await in_a_thread(lambda: memory.read(number), size)
        result = TrainingResult(parameters=parameters, buffers=buffers, loss=1.0, num_samples=SAMPLES)
        await in_a_thread(lambda: check_result(result, most_samples=SAMPLES), size)
        done(
            fx.Trained(
                task=asked.task,
                parameters=parameters,
                buffers=buffers,
                num_steps=asked.num_steps,
                num_samples=SAMPLES,
                dataset_size=SAMPLES,
                loss=1.0,
                seconds=TRAINING_S,
            )
        )

    def _moved(self, parameters: Vector) -> Vector:
        moved = parameters.copy()
        noise = self._rng.standard_normal(BLOCK, dtype=np.float32) * np.float32(LEARNED)
        for start in range(0, moved.size, BLOCK):
            moved[start : start + BLOCK] += noise[: moved.size - start]
        return moved

    async def stop_all(self) -> None:
        """As `Trainers.stop_all`."""
        await super().stop_all()
        if not self._is_over:
            self._is_over = True
            self._memory.close()


def task_of(num_parameters: int, strategy: str) -> tuple[TaskManifest, bytes]:
    """A linear classifier with about so many parameters, and its initial weights."""
    program = floods.program()
    pixels = num_parameters // floods.CLASSES - 1
    parameters = (TensorSpec(name="weight", shape=(floods.CLASSES, pixels)), program.parameters[1])
    program = replace(program, inputs=(replace(program.inputs[0], shape=(pixels,)),), parameters=parameters)
    layout = ModelLayout.of(program)
    initial = np.random.default_rng(0).standard_normal(layout.num_parameters, dtype=np.float32)
    weights = encode_weights(layout, initial, np.empty(0, np.float32))
    manifest = floods.manifest(
        PUBLISHER.peer_id,
        name=f"{strategy}, {num_parameters:,}",
        program=program,
        initial_weights=reference_to(weights),
        merging=MergePlan(strategy=strategy),
    )
    return replace(manifest, training=replace(manifest.training, round_interval_s=ROUND_S)), weights


@asynccontextmanager
async def member(
    number: int, folder: Path, url: str, num_parameters: int, strategy: str
) -> AsyncIterator[AgentService]:
    """A running service that has joined the task; its id is that of the only task that it knows."""
    key = KEYS[number]
    manifest, weights = task_of(num_parameters, strategy)
    settings = CoreSettings(
        peer=key.peer_id,
        review=ReviewPolicy(approvals=1, trusted=frozenset((REVIEWER.peer_id,)), max_valid_days=36_500.0),
        limits=DeviceLimits(cores=4, memory_mb=8_000, disk_mb=8_000, max_parameters=2 * num_parameters),
        match_data=lambda _task, _head: "",
        heartbeat_s=HEARTBEAT_S,
        save_every_s=SAVE_EVERY_S,
    )
    with Store.open(folder) as store:
        store.put_blob(weights)
        del weights
        service = AgentService(
            settings=settings,
            identity=Identity(key, folder / "identity.pem"),
            store=store,
            transports=[
                lambda will: Transport(
                    [BrokerUrl.parse(url)], client_id=key.peer_id, will=will, max_packet_bytes=LARGEST_PACKET
                )
            ],
            root=ROOT,
            trainers=RandomSteps(ModelLayout.of(manifest.program)),  # type: ignore[arg-type]
            max_bytes=LARGEST_PACKET,
            config=load_config(None, {}),
        )
        gc.collect()
        gc.freeze()  # as in `serve`
        running = asyncio.create_task(service.run())
        try:
            await service.ready.wait()
            await tell(service, manifest)
            yield service
        finally:
            service.stop()
            await running


async def tell(service: AgentService, manifest: TaskManifest) -> None:
    """Have a service hear what the publisher and a reviewer say of the task."""
    encoded = encode_manifest(manifest)
    task = task_id(encoded)
    review = Review(task=task, approved=True, reason="", valid_until_ms=clock.now().wall_ms + 3_600_000)
    for key, topic, body in (
        (PUBLISHER, TaskTopic(PUBLISHER.peer_id, task, "manifest"), TaskPublication(manifest=encoded)),
        (REVIEWER, TaskTopic(REVIEWER.peer_id, task, "review"), review),
    ):
        received = open_envelope(floods.sealed(key, topic, body), topic)
        await service.turns.take(lambda received=received: service.core.receive(received, clock.now()))  # type: ignore[misc]


async def _main(number: int, folder: Path, url: str, num_parameters: int, strategy: str) -> None:
    async with member(number, folder, url, num_parameters, strategy):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]))
