"""One trainer for each task that is being learned, and the order in which it is asked.

It is a process of ours, or one of the owner's where `[[trainer]]` names the task or its kind of data. It is made when
it is first asked, and made anew after it has ended: a source that has gone meanwhile is the answer to that request, and
one that has come back is found. Whatever happens, who asked is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from grapevine_agent.config.trainers import TrainerConfig, choose_trainer
from grapevine_agent.core import effects as fx
from grapevine_agent.core.tasks.deadlines import deadline_s, evaluation_s, loading_s, training_s
from grapevine_agent.core.tasks.fitting import samples_reason
from grapevine_agent.data.formats import describe
from grapevine_agent.data.inspection import inspect
from grapevine_agent.data.matching import Look, WhyNoRoom, check_fit, has_room, match_source
from grapevine_agent.data.source import DataSource, Description
from grapevine_agent.service.fitting import BareTrainer
from grapevine_agent.service.meter import Meter
from grapevine_agent.training.trainer import START_TIMEOUT_S, AnyTrainer, NoFiguresError, Trainer, TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_tasks.checks import TO_LOOK_AT, CheckReport, check_program, estimate_memory
from grapevine_tasks.pipelines import SampleMemory, in_units

logger = logging.getLogger(__name__)

Done: TypeAlias = Callable[[fx.Trained | fx.Evaluated], None]
Asked: TypeAlias = fx.Train | fx.Evaluate


@dataclass
class _Made:
    """A trainer, and what it was made of."""

    trainer: AnyTrainer
    source: DataSource | None = None  # none: a trainer of the owner's
    report: CheckReport | None = None  # what the task computes; none: not known, as for a trainer of the owner's
    why_no_room: WhyNoRoom = has_room
    start_timeout_s: float = START_TIMEOUT_S


@dataclass
class _Running:
    made: _Made | None = None  # none: nobody has asked, or the last one has ended
    num_samples: int = 0  # in the source when the trainer process loaded it
    newest_s: float | None = None
    loaded_s: float = 0.0  # on the monotonic clock
    asked: deque[tuple[Asked, Done]] = field(default_factory=deque)
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[None] | None = None
    num_failures: int = 0
    trouble: str = ""  # the last failure
    is_outdated: bool = False  # it was made with limits or sources that do not hold any more

    @property
    def is_running(self) -> bool:
        return self.made is not None and self.made.trainer.is_running

    def ask(self, asked: Asked, done: Done) -> None:
        """Put a request at the end.

        An evaluation that nobody has begun is not worth its time beside a newer one of its kind.
        """
        if isinstance(asked, fx.Evaluate):
            kind = asked.which, asked.sender
            self.asked = deque(
                each
                for each in self.asked
                if not (isinstance(each[0], fx.Evaluate) and (each[0].which, each[0].sender) == kind)
            )
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
        look: Has a source looked at, and waits for the answer; called in a thread.
        meter: Measures what each step draws; None: nothing here measures it.

    `room_mb` says what memory a task's process may take beside the other tasks'; `look` asks it at a time when that
    can be told (see `turns`), once for each request.
    """

    def __init__(
        self,
        sources: tuple[DataSource, ...],
        limits: TrainerLimits,
        attached: tuple[TrainerConfig, ...] = (),
        bare: BareTrainer | None = None,
        *,
        look: Look = inspect,
        meter: Meter | None = None,
    ) -> None:
        self._sources = sources
        self._meter = meter
        self._attached = attached
        self._limits = limits
        self._bare = bare or BareTrainer()
        self._look = look
        self.room_mb: Callable[[str], int] = lambda _task: self._limits.memory_mb
        self.look: Callable[[Callable[[], int]], Awaitable[int]] = _at_once
        self._rooms_mb: dict[str, int] = {}  # as it was when the last request began
        self._running: dict[str, _Running] = {}
        self._manifests: dict[str, TaskManifest] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def change(self, sources: tuple[DataSource, ...], limits: TrainerLimits) -> None:
        """The owner gives other sources or limits: what runs begins anew with them, before its next request."""
        if (sources, limits) == (self._sources, self._limits):
            return
        self._sources, self._limits = sources, limits
        for running in self._running.values():
            running.is_outdated = True

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
            case fx.Train() | fx.Evaluate():
                answer = _failed(effect, "no trainer was started for this task")
                asyncio.get_running_loop().call_soon(done, answer)

    def _start(self, task: str) -> None:
        manifest = self._manifests[task]
        running = self._running[task] = _Running()
        running.work = asyncio.create_task(self._work(running, task, manifest), name=f"trainer of {manifest.label}")

    def _make(self, task: str, manifest: TaskManifest) -> _Made:
        """Raises TaskError where the owner's sources have nothing for the task, or not any more."""
        attached = choose_trainer(self._attached, task=task, name=manifest.name, kind=manifest.data.kind)
        if attached is not None:
            from grapevine_agent.training.attached import AttachedTrainer  # noqa: PLC0415 — few have one

            return _Made(AttachedTrainer(manifest, attached.url))
        report = _checked(manifest)
        why_no_room = self._room(task, manifest, report)
        match = match_source(manifest.data, self._sources, why_no_room=why_no_room, look=self._look)
        if match.source is None:  # it has gone, or grown, since the task was joined
            raise TaskError(str(match))
        start_timeout_s = START_TIMEOUT_S
        if match.memory is not None:
            loading = loading_s(match.memory, match.num_samples + match.num_test)
            start_timeout_s = max(START_TIMEOUT_S, min(loading, self._limits.step_timeout_s))
        limits = self._limits
        if limits.memory_mb:
            limits = replace(
                limits, memory_mb=max(1, min(limits.memory_mb, self._rooms_mb[task]))
            )  # 0 would be no limit
        return _Made(
            Trainer(manifest, match.source, limits),
            match.source,
            report=report,
            why_no_room=why_no_room,
            start_timeout_s=start_timeout_s,
        )

    def _room(self, task: str, manifest: TaskManifest, report: CheckReport | None) -> WhyNoRoom:
        """Why samples do not fit beside a task's program, and beside the other tasks; a limit of 0 MB is none."""
        limit_mb = self._limits.memory_mb
        if report is None or not limit_mb:
            return has_room
        estimate = estimate_memory(manifest.program, report, manifest.training)

        def why_no_room(samples: SampleMemory) -> str:
            room_mb = max(1, min(limit_mb, self._rooms_mb[task]))
            whose = "profile allows" if room_mb == limit_mb else "the other tasks leave"
            return samples_reason(estimate, samples, room_mb, bare_mb=self._bare.mb, whose=whose)

        return why_no_room

    def status(self) -> list[dict[str, Any]]:
        """Of each trainer what protects it (empty until it has started), and what went wrong with it."""
        return [
            {
                "task": task,
                "name": self._manifests[task].label,
                "running": running.is_running,
                "protection": running.made.trainer.protection if running.made is not None else "",
                "failures": running.num_failures,
                "trouble": running.trouble,
            }
            for task, running in self._running.items()
            if task in self._manifests
        ]

    async def _work(self, running: _Running, task: str, manifest: TaskManifest) -> None:
        while True:
            asked, done = await running.next()
            try:
                self._rooms_mb[task] = await self.look(partial(self.room_mb, task))
                if running.is_outdated and running.made is not None:
                    await running.made.trainer.stop()
                if not running.is_running:
                    running.made, running.is_outdated = None, False
                    running.made = await asyncio.to_thread(self._make, task, manifest)
                assert running.made is not None
                if isinstance(asked, fx.Train):
                    await self._refresh(running, running.made, manifest)
                answer = await self._answer(running.made, manifest, asked)
            except TaskError as error:
                answer = _failed(asked, str(error))
            except Exception as error:  # a library's fault; who asked waits for an answer
                logger.exception("%s: %s failed", manifest.name, type(asked).__name__)
                if running.made is not None:
                    await running.made.trainer.stop()
                answer = _failed(asked, f"{type(error).__name__}: {error}")
            if answer.error:
                running.num_failures += 1
                running.trouble = answer.error
            try:
                done(answer)
            except Exception:  # of who asked; the next request is to be answered all the same
                logger.exception("%s: an answer was not taken", manifest.name)

    async def _refresh(self, running: _Running, made: _Made, manifest: TaskManifest) -> None:
        """End a trainer whose source has changed since it was loaded: the next request starts one with what is new.

        Raises TaskError when no trainer runs and the source does not fit the task, or the device.
        """
        now_s, source = time.monotonic(), made.source
        if source is None or (running.is_running and now_s - running.loaded_s < source.reload_s):
            return
        try:
            description = await asyncio.to_thread(self._described, source, manifest)
            num_samples, _ = check_fit(manifest.data, source, description, why_no_room=made.why_no_room)
        except TaskError as error:
            if not running.is_running:
                raise
            running.loaded_s = now_s
            logger.info("%s goes on with the samples that it has: %s", manifest.name, error)
            return
        now = (num_samples, description.newest_s)
        if running.is_running and now != (running.num_samples, running.newest_s):
            logger.info("%s: %s now has %d samples; the trainer starts anew", manifest.name, source.name, num_samples)
            await made.trainer.stop()
        running.num_samples, running.newest_s = now
        running.loaded_s = now_s

    def _described(self, source: DataSource, manifest: TaskManifest) -> Description:
        """What is in a source now. Recordings are our own and quickly counted; the trainer judges what it loads."""
        if source.recording is not None:
            return describe(source, manifest.data)
        return self._look(source, manifest.data).found()

    async def _answer(self, made: _Made, manifest: TaskManifest, asked: Asked) -> fx.Trained | fx.Evaluated:
        """Raises TaskError when there is none."""
        trainer = made.trainer
        started_s = time.monotonic()
        if not trainer.is_running:
            try:
                await trainer.start(made.start_timeout_s)
            finally:
                self._bare.mb = trainer.bare_mb or self._bare.mb
        timeout_s = self._deadline_s(made, manifest, asked)
        if isinstance(asked, fx.Evaluate):
            try:
                found = await trainer.evaluate(asked.parameters, asked.buffers, timeout_s)
            except NoFiguresError as error:
                if asked.which != "shadow":
                    raise
                return _without_figures(asked, error.num_samples)
            yardstick = trainer.yardstick
            return fx.Evaluated(
                task=asked.task,
                round=asked.round,
                loss=found.loss,
                metric=found.metric,
                num_evaluated=found.num_samples,
                of=asked,
                baseline=yardstick.baseline,
                baseline_name=yardstick.baseline_name,
                metric_in_units=in_units(manifest.training.metric, found.metric, yardstick.unit),
            )
        failed = ""
        with self._metered() as drawn:
            try:
                result = await trainer.train(asked.parameters, asked.buffers, asked.num_steps, timeout_s, age=asked.age)
            except TaskError as error:
                failed = str(error)
        if failed:
            seconds = time.monotonic() - started_s
            return fx.Trained(task=asked.task, error=failed, seconds=seconds, joules=drawn())
        return fx.Trained(
            task=asked.task,
            parameters=result.parameters,
            buffers=result.buffers,
            num_steps=asked.num_steps,
            num_samples=result.num_samples,
            dataset_size=trainer.num_samples,
            loss=result.loss,
            seconds=time.monotonic() - started_s,
            joules=drawn(),
        )

    @contextlib.contextmanager
    def _metered(self) -> Iterator[Callable[[], float | None]]:
        """Measures what is drawn within; what is given says it afterwards, None where nobody knows."""
        if self._meter is None:
            yield lambda: None
            return
        joules: float | None = None
        began = self._meter.begin()
        try:
            yield lambda: joules
        finally:
            joules = self._meter.end(began)

    def _deadline_s(self, made: _Made, manifest: TaskManifest, asked: Asked) -> float:
        """How long a request may take. How fast a trainer of the owner's is, nobody has told us."""
        limits, report = self._limits, made.report
        if report is None:
            return limits.step_timeout_s
        if isinstance(asked, fx.Train):
            expected_s = training_s(report, manifest.training, limits.pace)
        else:
            expected_s = evaluation_s(report, made.trainer.num_test, limits.pace)
        return deadline_s(expected_s, limits.step_timeout_s)

    async def stop_all(self) -> None:
        """End all trainer processes."""
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(_end(each) for each in running), *self._stopping)


async def _at_once(read: Callable[[], int]) -> int:
    return read()


def _checked(manifest: TaskManifest) -> CheckReport | None:
    """What the task computes. It was checked before it was joined: None can only mean that it was not."""
    try:
        limits = replace(TO_LOOK_AT, largest_batch=manifest.training.batch_size)
        return check_program(manifest.program, limits)
    except TaskError as error:
        logger.warning("%s: %s", manifest.name, error)
        return None


def _failed(asked: Asked, error: str) -> fx.Trained | fx.Evaluated:
    if isinstance(asked, fx.Train):
        return fx.Trained(task=asked.task, error=error)
    return fx.Evaluated(task=asked.task, round=asked.round, error=error, of=asked)


def _without_figures(asked: fx.Evaluate, num_samples: int) -> fx.Evaluated:
    """A sender's model gives numbers that are none: as bad as can be, and no failure of ours."""
    return fx.Evaluated(
        task=asked.task, round=asked.round, loss=math.inf, metric=math.nan, num_evaluated=num_samples, of=asked
    )


async def _end(running: _Running) -> None:
    if running.work is not None:
        running.work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.work
    if running.made is not None:
        await running.made.trainer.stop()
