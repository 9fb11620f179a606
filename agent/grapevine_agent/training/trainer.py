"""The service's side of a trainer process: starts it, asks it, ends it, and survives it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from dataclasses import dataclass

from grapevine_agent.data import DataSource
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
    from_line,
    to_line,
)
from grapevine_agent.training.results import Evaluation, TrainingResult
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.messages import Vector
from grapevine_tasks.layout import ModelLayout

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0  # PyTorch is read from an SD card
_WORKER = "grapevine_agent.training.worker"


@dataclass(frozen=True, kw_only=True)
class TrainerLimits:
    """What a trainer process may take, from the firmware profile."""

    memory_mb: int = 0  # resident, PyTorch included; 0: no limit
    num_threads: int = 1
    nice: int = 10


@dataclass
class _Running:
    """A process that is there, and how to talk to it."""

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    log: asyncio.Task[None]


class Trainer:
    """Supervises one trainer process for one task.

    Requests are answered one at a time, in order. A process that overruns its time, dies or is
    abandoned by a cancelled caller is killed and costs that request; `start` may be called again.

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
        self._running: _Running | None = None
        self._memory: SharedVectors | None = None
        self._number = 0
        self.num_samples = 0  # to train on; known once started
        self.num_test = 0

    @property
    def is_running(self) -> bool:
        """Whether there is a process that can be asked."""
        return self._running is not None and self._running.process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return self._running.process.pid if self._running is not None and self.is_running else None

    async def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the process and wait until its samples are loaded; nothing to do if it runs.

        Raises TaskError when it cannot train this task on this source within these limits.
        """
        async with self._lock:
            if self.is_running:
                return
            await self._end()
            self._memory = SharedVectors.create(self._layout.num_parameters, self._layout.num_buffers)
            self._running = await self._spawn(self._memory)
            setup = Setup(
                manifest=base64.b64encode(encode_manifest(self._manifest)).decode(),
                source=self._source.to_json(),
                seed=self._seed,
                num_threads=self._limits.num_threads,
                memory_mb=self._limits.memory_mb,
            )
            ready = await self._ask(setup, timeout_s)
            assert isinstance(ready, Ready)
            self.num_samples, self.num_test = ready.num_samples, ready.num_test
            logger.info("trainer of %s started: %d samples", self._manifest.name, self.num_samples)

    async def train(
        self, parameters: Vector, buffers: Vector, num_steps: int, timeout_s: float, *, age: int = 0
    ) -> TrainingResult:
        """Take local steps from a model (float32 [p] and [b], not modified) that has `age` optimiser steps in it.

        Raises TaskError when training diverged, took too long, or the process died; see `is_running`.
        """
        async with self._lock:
            number, memory = self._place(parameters, buffers)
            answer = await self._ask(TrainRequest(number=number, num_steps=num_steps, age=age), timeout_s)
            assert isinstance(answer, Trained)
            trained, trained_buffers = memory.read(number)
        return TrainingResult(
            parameters=trained, buffers=trained_buffers, loss=answer.loss, num_samples=answer.num_samples
        )

    async def evaluate(self, parameters: Vector, buffers: Vector, timeout_s: float = 60.0) -> Evaluation:
        """Evaluate a model (float32 [p] and [b]) on the test samples. Raises TaskError like `train`."""
        async with self._lock:
            number, _ = self._place(parameters, buffers)
            answer = await self._ask(EvaluateRequest(number=number), timeout_s)
            assert isinstance(answer, Evaluated)
        return Evaluation(loss=answer.loss, metric=answer.metric, num_samples=answer.num_samples)

    async def stop(self) -> None:
        """End the process, if it runs, and free what it used. A request in progress fails."""
        if self._running is not None and self._running.process.returncode is None:
            self._running.process.kill()  # it has nothing to save, and the lock may be held until it is gone
        async with self._lock:
            await self._end()

    # --- one process --------------------------------------------------------------------------------

    async def _spawn(self, memory: SharedVectors) -> _Running:
        ours, theirs = socket.socketpair()
        threads = str(self._limits.num_threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        fds = (theirs.fileno(), memory.fd)
        arguments = map(str, (*fds, os.getpid(), self._limits.nice))
        try:
            # -P: nothing that lies in the working directory is imported.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _WORKER, *arguments),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                pass_fds=fds,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the service, which then ends the trainer
            )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except OSError as error:
            ours.close()
            raise TaskError(f"cannot start a trainer process: {error}") from error
        except asyncio.CancelledError:
            ours.close()  # which ends the process, if there is one
            raise
        finally:
            theirs.close()
        log = asyncio.create_task(_log(process), name=f"log of trainer {process.pid}")
        return _Running(process, reader, writer, log)

    def _place(self, parameters: Vector, buffers: Vector) -> tuple[int, SharedVectors]:
        """Put a model where the next request finds it."""
        if self._memory is None or not self.is_running:
            raise TaskError("the trainer does not run: start it")
        self._layout.split(parameters, buffers)  # raises for wrong lengths
        self._number += 1
        self._memory.write(self._number, parameters, buffers)
        return self._number, self._memory

    async def _ask(self, request: Request, timeout_s: float) -> Answer:
        """Send a request and wait for its answer. Only after a refusal does the process live on."""
        assert self._running is not None
        running = self._running
        line = b""
        try:
            async with asyncio.timeout(timeout_s):
                with contextlib.suppress(ConnectionError):  # it died: its exit status says more
                    running.writer.write(to_line(request))
                    await running.writer.drain()
                    line = await running.reader.readline()
                if not line:
                    raise TaskError(f"the trainer died: {_cause(await running.process.wait())}")
            answer = from_line(line)
        except TimeoutError as error:
            await self._end()
            raise TaskError(f"the trainer took longer than {timeout_s:g} s and was ended") from error
        except (TaskError, asyncio.CancelledError):
            await self._end()
            raise
        if isinstance(answer, Failed):
            if answer.fatal:
                await self._end()
            raise TaskError(answer.reason)
        assert not isinstance(answer, Request)
        return answer

    async def _end(self) -> None:
        """Kill the process if it lives, and free everything that belonged to it."""
        running, self._running = self._running, None
        memory, self._memory = self._memory, None
        if running is not None:
            running.writer.close()
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()
            await running.process.wait()
            await running.log
            with contextlib.suppress(OSError):
                await running.writer.wait_closed()
        if memory is not None:
            memory.close()


async def _log(process: Process) -> None:
    """What the process prints goes to our log."""
    assert process.stdout is not None
    while chunk := await process.stdout.read(8192):
        for line in chunk.decode(errors="replace").splitlines():
            logger.info("trainer %d: %s", process.pid, line)


def _cause(returncode: int) -> str:
    """Why a process ended, for people."""
    if returncode == -signal.SIGKILL:
        return "killed, perhaps by the kernel for lack of memory"
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"exit status {returncode}; see the log"
