"""A small crowd that learns digits, each member a real service in this process: its own connections, store and core.

Members train for real, in threads of this process: what processes and sandboxes do is tested elsewhere, and a crowd of
them takes a minute to start where a machine is busy.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.swarm.digits import samples_of

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import DeviceLimits, ReviewPolicy
from grapevine_agent.data.preparing import Samples
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_lab.bench.trainers_here import Done, TrainersHere
from grapevine_lab.overlay.here import agent_here, until
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.signing import SigningKey
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.built import BuiltTask
from grapevine_tasks.catalogue import catalogue_task

HEARTBEAT_S = 0.5
ROUND_S = 0.25


def wide_digits(folder: Path, *, hidden: int = 64, **merging: Any) -> BuiltTask:
    """The catalogue's digits with so many hidden units, 75 parameters for each and 10, and these words on merging."""
    shutil.copytree(catalogue_task("digits"), folder)
    model = folder / "model.py"
    text = model.read_text().replace("nn.Linear(64, 64)", f"nn.Linear(64, {hidden})")
    model.write_text(text.replace("nn.Linear(64, 10)", f"nn.Linear({hidden}, 10)"))
    changes = {"training": {"round_interval_s": ROUND_S}, "merging": merging}
    return build_task(folder, check_merging=check_merge_plan, changes=changes, compared=False)


class TrainingHere(TrainersHere):
    """Trains one task, as `Trainers` do it, in a thread."""

    def __init__(self, samples: Samples, seed: int) -> None:
        super().__init__()
        self._samples = samples
        self._seed = seed
        self._local: LocalTrainer | None = None
        self._one_at_a_time = asyncio.Lock()

    def take(self, effect: fx.Effect, done: Done) -> None:
        """As `Trainers.take`."""
        match effect:
            case fx.StartTrainer(manifest=manifest):
                plan = manifest.training
                self._local = LocalTrainer(manifest.program, plan, self._samples, seed=self._seed, num_threads=1)
            case fx.Train():
                self.begin(self._run(partial(self._train, effect), done))
            case fx.Evaluate():
                self.begin(self._run(partial(self._evaluate, effect), done))

    async def _run(self, work: Callable[[], fx.Trained | fx.Evaluated], done: Done) -> None:
        async with self._one_at_a_time:
            done(await asyncio.to_thread(work))

    def _train(self, asked: fx.Train) -> fx.Trained:
        assert self._local is not None
        made = self._local.train(asked.parameters, asked.buffers, asked.num_steps)
        return fx.Trained(
            task=asked.task,
            parameters=made.parameters,
            buffers=made.buffers,
            num_steps=asked.num_steps,
            num_samples=made.num_samples,
            dataset_size=self._local.num_samples,
            loss=made.loss,
            seconds=0.05,
        )

    def _evaluate(self, asked: fx.Evaluate) -> fx.Evaluated:
        assert self._local is not None
        found = self._local.evaluate(asked.parameters, asked.buffers)
        return fx.Evaluated(
            task=asked.task,
            round=asked.round,
            loss=found.loss,
            metric=found.metric,
            num_evaluated=found.num_samples,
            of=asked,
        )


@dataclass
class Crowd:
    """An engineer, a reviewer whose word is enough, and learners who have joined the task."""

    engineer: AgentService
    reviewer: AgentService
    learners: list[AgentService]
    task: str

    def learning(self) -> list[Learning]:
        return [each.core.tasks.learning[self.task] for each in self.learners]

    def metrics(self) -> list[float]:
        """How each one's newest released model did on samples of all ten classes."""
        evaluations = [each.evaluation for each in self.learning()]
        return [each.metric or 0.0 if each is not None else 0.0 for each in evaluations]

    def counted_on(self) -> list[int]:
        """How many members of the task each learner counts on."""
        now_s = clock.now().monotonic_s
        return [len(each.core.members.of_task(self.task, now_s)) for each in self.learners]

    def standings(self) -> list[str]:
        """What each learner makes of the task."""
        return [each.core.judgement(each.core.book.entries[self.task], clock.now()).standing for each in self.learners]

    def approve(self) -> None:
        until_ms = clock.now().wall_ms + 3_600_000
        core = self.reviewer.core
        self.reviewer.perform(core.review(self.task, approved=True, reason="", valid_until_ms=until_ms))

    def revoke(self) -> None:
        self.reviewer.perform(self.reviewer.core.revoke(self.task, reason="", now=clock.now()))


def rejected(service: AgentService) -> Counter[str]:
    return Counter(service.rejected)


@asynccontextmanager
async def crowd(
    folder: Path, url: str, root: str, built: BuiltTask, *, num_learners: int = 2, **settings: Any
) -> AsyncIterator[Crowd]:
    """One whose learners train, each with four of the ten classes. `settings` are the learners', of `CoreSettings`."""
    keys = [SigningKey.generate() for _ in range(2)]
    trusted = ReviewPolicy(approvals=1, trusted=frozenset((keys[1].peer_id,)))
    async with AsyncExitStack() as stack:

        async def add(name: str, **options: Any) -> AgentService:
            member = agent_here(folder / name, [url], root=root, heartbeat_s=HEARTBEAT_S, **options)
            return await stack.enter_async_context(member)

        engineer, reviewer = [await add(f"speaker-{k}", key=key, consent="never") for k, key in enumerate(keys)]
        learners = [
            await add(
                f"learner-{k}",
                trainers=TrainingHere(samples_of(k), k),
                review=trusted,
                limits=DeviceLimits(cores=32, memory_mb=4_000, disk_mb=4_000),
                match_data=lambda _task, _head: "",
                **settings,
            )
            for k in range(num_learners)
        ]
        made = Crowd(engineer, reviewer, learners, published(engineer, built))
        made.approve()
        await until(lambda: all(made.task in each.core.tasks.learning for each in learners))
        await until(lambda: all(each.model.age > 0 for each in made.learning()))
        await until(lambda: made.counted_on() == [num_learners - 1] * num_learners)
        yield made


def published(engineer: AgentService, built: BuiltTask) -> str:
    """The task, as its engineer publishes it."""
    manifest: TaskManifest = replace(
        built.draft, publisher=engineer.identity.peer_id, created_at_ms=clock.now().wall_ms, expires_at_ms=0
    )
    task, effects = engineer.core.publish_task(encode_manifest(manifest), built.weights, 0)
    engineer.perform(effects)
    return task
