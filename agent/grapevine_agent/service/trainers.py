"""One trainer for each task that is being learned, and the order in which it is asked.

It is a process of ours, or one of the owner's where `[[trainer]]` names the task or its kind of data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from grapevine_agent.config.trainers import TrainerConfig, choose_trainer
from grapevine_agent.core import effects as fx
from grapevine_agent.core.tasks.fitting import patience_s
from grapevine_agent.data import DataSource, match_source
from grapevine_agent.data.formats import describe
from grapevine_agent.data.matching import check_fit
from grapevine_agent.training.trainer import AnyTrainer, Trainer, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest

logger = logging.getLogger(__name__)

Done: TypeAlias = Callable[[fx.Trained | fx.Evaluated], None]
Asked: TypeAlias = fx.Train | fx.Evaluate


@dataclass
class _Running:
    trainer: AnyTrainer
    source: DataSource | None = None  # none: a trainer of the owner's
    num_samples: int = 0  # in the source when the trainer process loaded it
    newest_s: float | None = None
    loaded_s: float = 0.0  # on the monotonic clock
    queue: asyncio.Queue[tuple[Asked, Done]] = field(default_factory=asyncio.Queue)
    work: asyncio.Task[None] | None = None
    num_failures: int = 0
    trouble: str = ""  # the last failure


class Trainers:
    """Starts, asks and stops the trainers. A trainer that dies costs its step and is started again.

    Args:
        sources: What our own processes may train on.
        limits: Of our own processes.
        attached: The owner's trainers.
    """

    def __init__(
        self, sources: tuple[DataSource, ...], limits: TrainerLimits, attached: tuple[TrainerConfig, ...] = ()
    ) -> None:
        self._sources = sources
        self._attached = attached
        self._limits = limits
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
                self._running[task].queue.put_nowait((effect, done))

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
        source = match_source(manifest.data, self._sources).source
        assert source is not None  # a task without data is not joined
        return _Running(Trainer(manifest, source, self._limits), source)

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
        timeout_s = patience_s(manifest.training)
        while True:
            asked, done = await running.queue.get()
            if isinstance(asked, fx.Train):
                await self._refresh(running, manifest)
            answer = await self._answer(running.trainer, asked, timeout_s)
            if answer.error:
                running.num_failures += 1
                running.trouble = answer.error
            done(answer)

    async def _refresh(self, running: _Running, manifest: TaskManifest) -> None:
        """End a trainer whose source has changed since it was loaded: the next request starts one with what is new."""
        now_s, source = time.monotonic(), running.source
        if source is None or (running.trainer.is_running and now_s - running.loaded_s < source.reload_s):
            return
        try:
            description = await asyncio.to_thread(describe, source, manifest.data)
            num_samples, _ = check_fit(manifest.data, source, description)
        except TaskError as error:
            if running.trainer.is_running:
                running.loaded_s = now_s
                logger.info("%s goes on with the samples that it has: %s", manifest.name, error)
            return
        found = (num_samples, description.newest_s)
        if running.trainer.is_running and found != (running.num_samples, running.newest_s):
            logger.info("%s: %s now has %d samples; the trainer starts anew", manifest.name, source.name, found[0])
            await running.trainer.stop()
        running.num_samples, running.newest_s = found
        running.loaded_s = now_s

    async def _answer(self, trainer: AnyTrainer, asked: Asked, timeout_s: float) -> fx.Trained | fx.Evaluated:
        started_s = time.monotonic()
        try:
            if not trainer.is_running:
                await trainer.start()
            if isinstance(asked, fx.Train):
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
            found = await trainer.evaluate(asked.parameters, asked.buffers, timeout_s)
            return fx.Evaluated(
                task=asked.task,
                round=asked.round,
                loss=found.loss,
                metric=found.metric,
                num_evaluated=found.num_samples,
            )
        except TaskError as error:
            if isinstance(asked, fx.Train):
                return fx.Trained(task=asked.task, error=str(error))
            return fx.Evaluated(task=asked.task, round=asked.round, error=str(error))

    async def stop_all(self) -> None:
        """End all trainer processes."""
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(_end(each) for each in running), *self._stopping)


async def _end(running: _Running) -> None:
    if running.work is not None:
        running.work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.work
    await running.trainer.stop()
