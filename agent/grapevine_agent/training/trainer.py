"""The service's side of a trainer process: starts it, asks it, ends it, and survives it."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import secrets
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from grapevine_agent.config.agent_toml import Sandbox
from grapevine_agent.core.tasks.deadlines import UNKNOWN_PACE, Pace
from grapevine_agent.data.source import DataSource
from grapevine_agent.outlasting import in_a_thread
from grapevine_agent.training.process import IDLE_CPU_S, TrainerProcess, plain
from grapevine_agent.training.requests import (
    Answer,
    Evaluated,
    EvaluateRequest,
    Failed,
    Ready,
    Request,
    Setup,
    Trained,
    TrainRequest,
)
from grapevine_agent.training.results import Evaluation, TrainingResult, Yardstick
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.messages import Vector
from grapevine_tasks.layout import ModelLayout

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0  # of a trainer that nobody told how many samples it has to load
_MOST_SAMPLES = 2**53
_Expected = TypeVar("_Expected", Ready, Trained, Evaluated)


@dataclass(frozen=True, kw_only=True)
class TrainerLimits:
    """What a trainer process may take, from the firmware profile and the owner."""

    memory_mb: int = 0  # resident, PyTorch included; 0: no limit
    num_threads: int = 1
    nice: int = 10
    cpu_s: float = 0.0  # of a request, in all threads together; 0: `num_threads` for as long as it may take
    sandbox: Sandbox = "strict"
    pace: Pace = UNKNOWN_PACE
    step_timeout_s: float = 3600.0  # no request takes longer, an owner's trainer's neither


class AnyTrainer(Protocol):
    """Trains and evaluates models of one task on this device's samples, wherever that happens.

    All methods raise TaskError for what went wrong; then the model is as it was, and the next request
    may do better.
    """

    num_samples: int  # to train on; known once started
    num_test: int  # to evaluate on; known once started, 0 if it is not
    protection: str  # what holds it, for people; known once started
    bare_mb: int  # what it takes with PyTorch and without samples; known once started, 0 if it does not tell
    yardstick: Yardstick  # known once started

    @property
    def is_running(self) -> bool:
        """Whether it can be asked; else `start` it."""

    async def start(self, timeout_s: float) -> None:
        """Get ready; nothing to do if it runs."""

    async def train(
        self, parameters: Vector, buffers: Vector, num_steps: int, timeout_s: float, *, age: int = 0
    ) -> TrainingResult:
        """Take local steps from a model (float32 [p] and [b], not modified) that has `age` optimiser steps in it."""

    async def evaluate(self, parameters: Vector, buffers: Vector, timeout_s: float) -> Evaluation:
        """Evaluate a model (float32 [p] and [b]) on the test samples."""

    async def stop(self) -> None:
        """End it; a request in progress fails."""


class Trainer:
    """Supervises one trainer process for one task.

    Requests are answered one at a time, in order. A process that overruns its time, dies or is
    abandoned by a cancelled caller is killed and costs that request; `start` may be called again.
    What it answers is checked, as it may not be itself any more.

    Args:
        manifest: Checked; its data contract matches `source`.
        source: What to train on.
        limits: Of memory, threads and priority.
        seed: Of the order of samples and of dropout; None draws one.
    """

    def __init__(
        self, manifest: TaskManifest, source: DataSource, limits: TrainerLimits, *, seed: int | None = None
    ) -> None:
        self._manifest = manifest
        self._source = source
        self._limits = limits
        self._seed = secrets.randbits(31) if seed is None else seed
        self._layout = ModelLayout.of(manifest.program)
        self._lock = asyncio.Lock()
        self._running: TrainerProcess | None = None
        self._memory: SharedVectors | None = None
        self._number = 0
        self.num_samples = 0  # to train on; known once started
        self.num_test = 0
        self.protection = ""
        self.bare_mb = 0
        self.yardstick = Yardstick()

    @property
    def is_running(self) -> bool:
        """Whether there is a process that can be asked."""
        return self._running is not None and self._running.is_alive

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return self._running.pid if self._running is not None and self.is_running else None

    async def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the process and wait until its samples are loaded; nothing to do if it runs.

        Raises TaskError when it cannot train this task on this source within these limits.
        """
        async with self._lock:
            if self.is_running:
                return
            await self._end()
            self._memory = SharedVectors.create(self._layout.num_parameters, self._layout.num_buffers)
            self._running = await TrainerProcess.start(
                self._memory.fd, num_threads=self._limits.num_threads, nice=self._limits.nice
            )
            setup = Setup(
                manifest=base64.b64encode(encode_manifest(self._manifest)).decode(),
                source=self._source.to_json(),
                seed=self._seed,
                num_threads=self._limits.num_threads,
                memory_mb=self._limits.memory_mb,
                sandbox=self._limits.sandbox,
            )
            ready = await self._ask(setup, Ready, timeout_s)
            self.num_samples, self.num_test = ready.num_samples, ready.num_test
            self.protection, self.bare_mb = plain(ready.protection), ready.bare_mb
            self.yardstick = _yardstick(ready)
            logger.info("trainer of %s started: %d samples; %s", self._manifest.name, self.num_samples, self.protection)

    async def train(
        self, parameters: Vector, buffers: Vector, num_steps: int, timeout_s: float, *, age: int = 0
    ) -> TrainingResult:
        """Take local steps from a model (float32 [p] and [b], not modified) that has `age` optimiser steps in it.

        Raises TaskError when training diverged, took too long, or the process died; see `is_running`.
        """
        async with self._lock:
            number, memory = await self._place(parameters, buffers)
            request = TrainRequest(number=number, num_steps=num_steps, age=age)
            answer = await self._ask(request, Trained, timeout_s)
            trained, trained_buffers = await in_a_thread(lambda: memory.read(number), parameters.nbytes)
        result = TrainingResult(
            parameters=trained, buffers=trained_buffers, loss=answer.loss, num_samples=answer.num_samples
        )
        most_samples = num_steps * self._manifest.training.batch_size
        await in_a_thread(lambda: check_result(result, most_samples=most_samples), trained.nbytes)
        return result

    async def evaluate(self, parameters: Vector, buffers: Vector, timeout_s: float = 60.0) -> Evaluation:
        """Evaluate a model (float32 [p] and [b]) on the test samples. Raises TaskError like `train`."""
        async with self._lock:
            number, _ = await self._place(parameters, buffers)
            answer = await self._ask(EvaluateRequest(number=number), Evaluated, timeout_s)
        if not 0 <= answer.num_samples <= self.num_test:
            raise TaskError(f"the trainer evaluated {answer.num_samples} of {self.num_test} test samples")
        return checked_evaluation(answer.loss, answer.metric, answer.num_samples)

    async def stop(self) -> None:
        """End the process, if it runs, and free what it used. A request in progress fails."""
        if self._running is not None:
            self._running.kill()  # the lock may be held until it is gone
        async with self._lock:
            await self._end()

    # --- one process --------------------------------------------------------------------------------

    async def _place(self, parameters: Vector, buffers: Vector) -> tuple[int, SharedVectors]:
        """Put a model where the next request finds it."""
        if self._memory is None or not self.is_running:
            raise TaskError("the trainer does not run: start it")
        self._layout.split(parameters, buffers)  # raises for wrong lengths
        self._number += 1
        number, memory = self._number, self._memory
        await in_a_thread(lambda: memory.write(number, parameters, buffers), parameters.nbytes)
        return number, memory

    async def _ask(self, request: Request, expected: type[_Expected], timeout_s: float) -> _Expected:
        """Send a request and wait for its answer. Only after a refusal does the process live on."""
        running = self._running
        assert running is not None
        try:
            async with asyncio.timeout(timeout_s):
                running.allow_cpu(self._cpu_limit_s(request, timeout_s))
                answer = await running.ask(request)
                running.allow_cpu(IDLE_CPU_S)
            if not isinstance(answer, Failed | expected) or not _belongs(answer, request):
                raise TaskError(f"the trainer answered {type(request).__name__} with {type(answer).__name__}")
        except TimeoutError as error:
            await self._end()
            raise TaskError(f"the trainer took longer than {timeout_s:g} s and was ended") from error
        except (TaskError, asyncio.CancelledError):
            await self._end()
            raise
        if isinstance(answer, Failed):
            self.bare_mb = answer.bare_mb or self.bare_mb
            if answer.fatal:
                await self._end()
            raise TaskError(plain(answer.reason))
        return answer

    def _cpu_limit_s(self, request: Request, timeout_s: float) -> float:
        """The owner's limit is on what a task asks for; that libraries are loaded slowly is not its doing."""
        whole = timeout_s * self._limits.num_threads
        return whole if isinstance(request, Setup) else self._limits.cpu_s or whole

    async def _end(self) -> None:
        """Kill the process if it lives, and free everything that belonged to it."""
        running, self._running = self._running, None
        memory, self._memory = self._memory, None
        if running is not None:
            await running.end()
        if memory is not None:
            memory.close()


class NoFiguresError(TaskError):
    """A model was evaluated, and has no finite figures: that is the model's fault, and not the trainer's."""

    def __init__(self, text: str, num_samples: int) -> None:
        super().__init__(text)
        self.num_samples = num_samples


def checked_evaluation(loss: float | None, metric: float | None, num_samples: int) -> Evaluation:
    """What an evaluation came to. Raises NoFiguresError when a model that was evaluated has no finite ones."""
    if not num_samples:
        return Evaluation(loss=None, metric=None, num_samples=0)
    if loss is None or metric is None or not (math.isfinite(loss) and math.isfinite(metric)):
        told = ", ".join(f"{name} {value}" for name, value in (("loss", loss), ("metric", metric)))
        raise NoFiguresError(f"the model gives numbers that are not finite on the test samples ({told})", num_samples)
    return Evaluation(loss=loss, metric=metric, num_samples=num_samples)


def _yardstick(ready: Ready) -> Yardstick:
    """As far as it can be: the process may not be itself any more."""
    unit = ready.unit if ready.unit is not None and math.isfinite(ready.unit) and ready.unit > 0 else None
    if ready.baseline is None or not math.isfinite(ready.baseline):
        return Yardstick(unit=unit)
    return Yardstick(baseline=ready.baseline, baseline_name=plain(ready.baseline_name)[:80], unit=unit)


def check_result(result: TrainingResult, *, most_samples: int) -> None:
    """Raise TaskError unless a trained model has finite numbers only, and says how many samples it took."""
    finite = math.isfinite(result.loss) and np.isfinite(result.parameters).all() and np.isfinite(result.buffers).all()
    if not finite:
        raise TaskError(f"the trainer gave back numbers that are not finite (loss {result.loss:g})")
    if not 0 < result.num_samples <= most_samples:
        raise TaskError(f"the trainer says that it took {result.num_samples} samples; 1 to {most_samples} can be")


def _belongs(answer: Answer, request: Request) -> bool:
    """Whether an answer is to this request, and its numbers can be."""
    match answer:
        case Ready(num_samples=num_samples, num_test=num_test):
            return 0 < num_samples < _MOST_SAMPLES and 0 <= num_test < _MOST_SAMPLES
        case Trained(number=number) | Evaluated(number=number) | Failed(number=number):
            return _number_of(request) == number


def _number_of(request: Request) -> int:
    return 0 if isinstance(request, Setup) else request.number
