"""Twenty members and what they send to a server, for `server_folding`: to a strategy alone, or to the aggregator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.merge.server import SERVER_STRATEGIES, ServerContext, ServerStart, ServerStrategy, ServerUpdate
from grapevine_lab.bench import floods
from grapevine_lab.bench.receiver import layout_of
from grapevine_proto.errors import GrapevineError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import ModelUpdate, Vector

NUM_MEMBERS: Final = 20
STEP: Final = np.float32(0.01)  # how far a member trains, and how far members are from each other
BETWEEN_S: Final = 10.0  # from one round to the next, on the aggregator's clock
NO_BUFFERS: Final = np.empty(0, np.float32)


class NotTakenError(GrapevineError):
    """The server made no model of what it was given: it did not do the work that is measured."""


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What the members have: float32 [p] all. They started at `start`, and went much the same way from there."""

    start: Vector
    way: Vector
    vectors: Sequence[Vector]

    @property
    def samples(self) -> range:
        """Of each member: 1, 2, 3 and so on."""
        return range(1, len(self.vectors) + 1)

    def after(self, num_rounds: int) -> list[Vector]:
        """New vectors, of members that have gone on for so many rounds."""
        gone = np.float32(num_rounds) * STEP * self.way
        return [vector + gone for vector in self.vectors]


def updates_of(num_parameters: int, num_members: int = NUM_MEMBERS) -> Updates:
    """The same ones every time."""
    rng = np.random.default_rng(0)
    start, way = (rng.standard_normal(num_parameters, dtype=np.float32) for _ in range(2))
    noise = (rng.standard_normal(num_parameters, dtype=np.float32) for _ in range(num_members))
    return Updates(start=start, way=way, vectors=[start + STEP * (way + each) for each in noise])


@dataclass(kw_only=True)
class Folding:
    """A strategy alone."""

    strategy: ServerStrategy
    context: ServerContext
    updates: Sequence[ServerUpdate]

    @classmethod
    def of(cls, name: str, updates: Updates) -> Folding:
        """A strategy that has heard nobody yet. Where it takes changes, each update brings a base of its own."""
        entry = SERVER_STRATEGIES[name]
        return cls(
            strategy=entry.make(ServerStart(parameters=updates.start, buffers=NO_BUFFERS)),
            context=ServerContext(constants=entry.with_defaults({}), max_share=CoreSettings.max_share),
            updates=[
                ServerUpdate(
                    peer=f"member-{weight:02}",
                    parameters=vector,
                    buffers=NO_BUFFERS,
                    base=updates.start.copy() if entry.needs_base else None,
                    age=100 * weight,
                    experience=3_200 * weight,
                    samples=weight,
                )
                for weight, vector in zip(updates.samples, updates.vectors, strict=True)
            ],
        )

    def seconds(self, times: int) -> float:
        """CPU time of one round, of so many: all updates given to it, one model made."""
        return sum(self.fold()[1] for _ in range(times)) / times

    def fold(self) -> tuple[Vector, float]:
        """One more round, in which each member speaks again. Returns the model that is made, and the CPU time, in s."""
        version = self.context.version + 1
        now_s = version * BETWEEN_S
        updates = [replace(update, heard_s=now_s, every_s=BETWEEN_S) for update in self.updates]
        context = replace(self.context, now_s=now_s, round_s=BETWEEN_S)
        started_s = time.thread_time()
        for update in updates:
            self.strategy.accept(update, context)
        models = self.strategy.aggregate(context)
        taken_s = time.thread_time() - started_s
        if not models:
            raise NotTakenError(f"{type(self.strategy).__name__} made no model of {len(updates)} updates")
        self.context = replace(context, version=version, round=version)
        return models[0].parameters, taken_s


@dataclass(kw_only=True)
class Accepting:
    """The aggregator of one task, and the members that go on training."""

    aggregator: Aggregator
    updates: Updates
    num_rounds: int = 0

    @classmethod
    def of(cls, name: str, updates: Updates) -> Accepting:
        """One that has heard nobody yet."""
        manifest = floods.manifest("publisher", merging=MergePlan(server_strategy=name))
        aggregator = Aggregator(
            task="bench",
            manifest=manifest,
            settings=CoreSettings(peer="server", role="server"),
            layout=layout_of(updates.start.size),
            model=ModelState.initial(updates.start, NO_BUFFERS),
            started=moment_of(0, manifest.created_at_ms),
            rng=np.random.default_rng(0),
        )
        return cls(aggregator=aggregator, updates=updates)

    def seconds(self, times: int) -> float:
        """CPU time of one round, of so many: all members' updates accepted, one model published."""
        return sum(self._round_s() for _ in range(times)) / times

    def _round_s(self) -> float:
        self.num_rounds += 1
        manifest, number = self.aggregator.manifest, self.num_rounds
        needs_base = SERVER_STRATEGIES[manifest.merging.server_strategy].needs_base
        steps = number * manifest.training.steps_per_round
        messages = []
        for weight, vector in zip(self.updates.samples, self.updates.after(number), strict=True):
            start = vector - STEP * self.updates.way if needs_base else None
            messages.append(
                ModelUpdate(
                    task="bench",
                    window=number,
                    version=number,
                    age=steps,
                    experience=steps * manifest.training.batch_size,
                    samples=weight,
                    full=None if needs_base else vector,
                    base=start,
                    delta=None if start is None else vector - start,
                )
            )
        now = moment_of(number, manifest.created_at_ms)
        before, started_s = self.aggregator.model_version, time.thread_time()
        for weight, message in zip(self.updates.samples, messages, strict=True):
            self.aggregator.accept(f"member-{weight:02}", message, now)
        self.aggregator.tick(now)
        taken_s = time.thread_time() - started_s
        if self.aggregator.model_version != before + 1:
            raise NotTakenError(
                f"the server published no model in round {number} of {manifest.merging.server_strategy}"
            )
        return taken_s


def moment_of(number: int, created_at_ms: int) -> Moment:
    """When a round begins, of a task that was made then."""
    seconds = number * BETWEEN_S
    return Moment(monotonic_s=seconds, wall_ms=created_at_ms + round(1e3 * seconds))
