"""One trainer for each task that is being learned, and the order in which it is asked.

It is a process of ours, or one of the owner's where `[[trainer]]` names the task or its kind of data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from grapevine_agent.config.trainers import TrainerConfig, choose_trainer
from grapevine_agent.core import effects as fx
from grapevine_agent.core.tasks.deadlines import deadline_s, evaluation_s, loading_s, training_s
from grapevine_agent.core.tasks.fitting import samples_reason
from grapevine_agent.data import DataSource, match_source
from grapevine_agent.data.formats import describe
from grapevine_agent.data.matching import WhyNoRoom, check_fit, has_room
from grapevine_agent.service.fitting import BareTrainer
from grapevine_agent.training.trainer import START_TIMEOUT_S, AnyTrainer, Trainer, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_tasks.checks import TO_LOOK_AT, CheckReport, check_program, estimate_memory

logger = logging.getLogger(__name__)

Done: TypeAlias = Callable[[fx.Trained | fx.Evaluated], None]
Asked: TypeAlias = fx.Train | fx.Evaluate


@dataclass
class _Running:
    trainer: AnyTrainer
    source: DataSource | None = None  # none: a trainer of the owner's
    report: CheckReport | None = None  # what the task computes; none: not known, as for a trainer of the owner's
    why_no_room: WhyNoRoom = has_room
    start_timeout_s: float = START_TIMEOUT_S
    num_samples: int = 0  # in the source when the trainer process loaded it
    newest_s: float | None = None
    loaded_s: float = 0.0  # on the monotonic clock
    asked: deque[tuple[Asked, Done]] = field(default_factory=deque)
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[None] | None = None
    num_failures: int = 0
    trouble: str = ""  # the last failure

    def ask(self, asked: Asked, done: Done) -> None:
        """Put a request at the end. An evaluation that nobody has begun is not worth its time beside a newer one."""
        if isinstance(asked, fx.Evaluate):
            self.asked = deque(each for each in self.asked if not isinstance(each[0], fx.Evaluate))
        self.asked.append((asked, done))
        self.is_asked.set()

    async def next(self) -> tuple[Asked, Done]:
        """The request that waits longest, when there is one."""
        while not self.asked:
            self.is_asked.clear()
            await self.is_asked.wait()
        return self.asked.popleft()


class Trainers:
    """Starts, asks and stops the trainers. A trainer that dies costs its step and is started again.

    Args:
        sources: What our own processes may train on.
        limits: Of our own processes.
        attached: The owner's trainers.
        bare: Where is kept what one of our processes takes before it has samples.
    """

    def __init__(
        self,
        sources: tuple[DataSource, ...],
        limits: TrainerLimits,
        attached: tuple[TrainerConfig, ...] = (),
        bare: BareTrainer | None = None,
    ) -> None:
        self._sources = sources
        self._attached = attached
        self._limits = limits
        self._bare = bare or BareTrainer()
        self._running: dict[str, _Running] = {}
        self._manifests: dict[str, TaskManifest] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def take(self, effect: fx.Effect, done: Done) -> None:
        """Do one training effect; the answer is given to `done` in this event loop."""
        match effect:
            case fx.StartTrainer(task=task, manifest=manifest):
                self._manifests[task] = manifest
                self._start(task)
            case fx.StopTrainer(task=task):
                self._manifests.pop(task, None)
                if (running := self._running.pop(task, None)) is not None:
                    stopping = asyncio.create_task(_end(running))
                    self._stopping.add(stopping)
                    stopping.add_done_callback(self._stopping.discard)
            case fx.Train(task=task) | fx.Evaluate(task=task) if task in self._running:
                self._running[task].ask(effect, done)

    def _start(self, task: str) -> None:
        manifest = self._manifests[task]
        running = self._make(task, manifest)
        self._running[task] = running
        running.work = asyncio.create_task(self._work(running, manifest), name=f"trainer of {manifest.name}")

    def _make(self, task: str, manifest: TaskManifest) -> _Running:
        attached = choose_trainer(self._attached, task=task, name=manifest.name, kind=manifest.data.kind)
        if attached is not None:
            from grapevine_agent.training.attached import AttachedTrainer  # noqa: PLC0415 — few have one

            return _Running(AttachedTrainer(manifest, attached.url))
        report = _checked(manifest)
        why_no_room = _room(manifest, report, self._limits.memory_mb, self._bare)
        match = match_source(manifest.data, self._sources, why_no_room=why_no_room)
        if match.source is None:  # it has gone, or grown, since the task was joined: the trainer will say so
            match = match_source(manifest.data, self._sources)
        source = match.source or next(each for each in self._sources if each.kind == manifest.data.kind)
        start_timeout_s = START_TIMEOUT_S
        if match.memory is not None:
            loading = loading_s(match.memory, match.num_samples + match.num_test)
            start_timeout_s = max(START_TIMEOUT_S, min(loading, self._limits.step_timeout_s))
        return _Running(
            Trainer(manifest, source, self._limits),
            source,
            report=report,
            why_no_room=why_no_room,
            start_timeout_s=start_timeout_s,
        )

    def status(self) -> list[dict[str, Any]]:
        """Of each trainer what protects it (empty until it has started), and what went wrong with it."""
        return [
            {
                "task": task,
                "name": self._manifests[task].name,
                "running": running.trainer.is_running,
                "protection": running.trainer.protection,
                "failures": running.num_failures,
                "trouble": running.trouble,
            }
            for task, running in self._running.items()
            if task in self._manifests
        ]

    async def _work(self, running: _Running, manifest: TaskManifest) -> None:
        while True:
            asked, done = await running.next()
            try:
                if isinstance(asked, fx.Train):
                    await self._refresh(running, manifest)
                answer = await self._answer(running, manifest, asked)
            except TaskError as error:
                answer = _failed(asked, str(error))
            except Exception as error:  # a library's fault; who asked waits for an answer
                logger.exception("%s: %s failed", manifest.name, type(asked).__name__)
                await running.trainer.stop()
                answer = _failed(asked, f"{type(error).__name__}: {error}")
            if answer.error:
                running.num_failures += 1
                running.trouble = answer.error
            done(answer)

    async def _refresh(self, running: _Running, manifest: TaskManifest) -> None:
        """End a trainer whose source has changed since it was loaded: the next request starts one with what is new.

        Raises TaskError when no trainer runs and the source does not fit the task, or the device.
        """
        now_s, source = time.monotonic(), running.source
        if source is None or (running.trainer.is_running and now_s - running.loaded_s < source.reload_s):
            return
        try:
            description = await asyncio.to_thread(describe, source, manifest.data)
            num_samples, _ = check_fit(manifest.data, source, description, why_no_room=running.why_no_room)
        except TaskError as error:
            if not running.trainer.is_running:
                raise
            running.loaded_s = now_s
            logger.info("%s goes on with the samples that it has: %s", manifest.name, error)
            return
        found = (num_samples, description.newest_s)
        if running.trainer.is_running and found != (running.num_samples, running.newest_s):
            logger.info("%s: %s now has %d samples; the trainer starts anew", manifest.name, source.name, found[0])
            await running.trainer.stop()
        running.num_samples, running.newest_s = found
        running.loaded_s = now_s

    async def _answer(self, running: _Running, manifest: TaskManifest, asked: Asked) -> fx.Trained | fx.Evaluated:
        """Raises TaskError when there is none."""
        trainer = running.trainer
        started_s = time.monotonic()
        if not trainer.is_running:
            await trainer.start(running.start_timeout_s)
            self._bare.mb = trainer.bare_mb or self._bare.mb
        timeout_s = self._deadline_s(running, manifest, asked)
        if isinstance(asked, fx.Evaluate):
            found = await trainer.evaluate(asked.parameters, asked.buffers, timeout_s)
            return fx.Evaluated(
                task=asked.task,
                round=asked.round,
                loss=found.loss,
                metric=found.metric,
                num_evaluated=found.num_samples,
            )
        result = await trainer.train(asked.parameters, asked.buffers, asked.num_steps, timeout_s, age=asked.age)
        return fx.Trained(
            task=asked.task,
            parameters=result.parameters,
            buffers=result.buffers,
            num_steps=asked.num_steps,
            num_samples=result.num_samples,
            dataset_size=trainer.num_samples,
            loss=result.loss,
            seconds=time.monotonic() - started_s,
        )

    def _deadline_s(self, running: _Running, manifest: TaskManifest, asked: Asked) -> float:
        """How long a request may take. How fast a trainer of the owner's is, nobody has told us."""
        limits, report = self._limits, running.report
        if report is None:
            return limits.step_timeout_s
        if isinstance(asked, fx.Train):
            expected_s = training_s(report, manifest.training, limits.pace)
        else:
            expected_s = evaluation_s(report, running.trainer.num_test, limits.pace)
        return deadline_s(expected_s, limits.step_timeout_s)

    async def stop_all(self) -> None:
        """End all trainer processes."""
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(_end(each) for each in running), *self._stopping)


def _checked(manifest: TaskManifest) -> CheckReport | None:
    """What the task computes. It was checked before it was joined: None can only mean that it was not."""
    try:
        limits = replace(TO_LOOK_AT, largest_batch=manifest.training.batch_size)
        return check_program(manifest.program, limits)
    except TaskError as error:
        logger.warning("%s: %s", manifest.name, error)
        return None


def _room(manifest: TaskManifest, report: CheckReport | None, memory_mb: int, bare: BareTrainer) -> WhyNoRoom:
    """Why samples do not fit beside a task's program; `memory_mb` of 0 is no limit."""
    if report is None or not memory_mb:
        return has_room
    estimate = estimate_memory(manifest.program, report, manifest.training)
    return lambda samples: samples_reason(estimate, samples, memory_mb, bare_mb=bare.mb)


def _failed(asked: Asked, error: str) -> fx.Trained | fx.Evaluated:
    if isinstance(asked, fx.Train):
        return fx.Trained(task=asked.task, error=error)
    return fx.Evaluated(task=asked.task, round=asked.round, error=error)


async def _end(running: _Running) -> None:
    if running.work is not None:
        running.work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.work
    await running.trainer.stop()
