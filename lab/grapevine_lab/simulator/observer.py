"""What is noted of a run: models worth evaluating, and how each node stands.

The core says when a round begins (its `Evaluate` effect). At that moment its working model has just
been merged and not yet been trained, so it is the *merged* model; the *working* one is noted when the
training that starts now is over, and the *released* one is what the core asks to have evaluated. All
three are noted under the number of rounds that the node has behind it. Staleness is counted here from
the nodes' own versions, not from what they have heard of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.moment import Moment
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.measurements import Measurements, Sample
from grapevine_lab.simulator.population import Population
from grapevine_lab.simulator.work import Look, ModelKind, Work
from grapevine_proto.messages import Vector


@dataclass(frozen=True, kw_only=True)
class MeasurePlan:
    """What is measured: every so many rounds, which models, of the first so many nodes (0: of all).

    `rounds`, where there are any, are the only ones, whatever `every_rounds` says.
    """

    every_rounds: int = 1
    models: tuple[ModelKind, ...] = ("working", "merged", "released")
    num_nodes: int = 0
    test_samples: int = 0  # of the common test set, drawn once and the same for everybody; 0: all
    rounds: tuple[int, ...] = ()

    def wants(self, round_: int) -> bool:
        """Whether this round is measured."""
        return round_ in self.rounds if self.rounds else round_ % self.every_rounds == 0


@dataclass(kw_only=True)
class Observer:
    """See the module's docstring."""

    seed: int
    plan: MeasurePlan
    measurements: Measurements
    work: Work
    population: Population

    def round_began(self, device: Device, asked: fx.Evaluate, now: Moment) -> int:
        """A round began that is to be evaluated. The ticket of the released model's evaluation, 0 for none."""
        learner = device.learner(asked.task)
        assert learner is not None
        done = asked.round - 1  # rounds that are behind it
        if not self.plan.wants(done):
            return 0
        self._sample(device, learner, now)
        if self.work.trainer is None or not self._is_measured(device):
            return 0
        if "merged" in self.plan.models:
            self._look(device, "merged", done, learner.model.parameters, learner.model.buffers, now)
        if "released" not in self.plan.models:
            return 0
        ticket = self.work.ticket()
        self._look(device, "released", done, asked.parameters, asked.buffers, now, ticket)
        return ticket

    def shadowed(self, device: Device, asked: fx.Evaluate, now: Moment) -> int:
        """Another's model is to be measured on a node's own samples. The ticket of that, 0 for none."""
        if self.work.trainer is None or device.seat < 0:
            return 0
        ticket = self.work.ticket()
        self._look(device, "shadow", asked.round, asked.parameters, asked.buffers, now, ticket)
        return ticket

    def round_ended(self, device: Device, task: str, now: Moment) -> None:
        """A training step has been added to a node's model."""
        learner = device.learner(task)
        if learner is None or not self.plan.wants(learner.model.round) or not self._is_measured(device):
            return
        if "working" in self.plan.models:
            self._look(device, "working", learner.model.round, learner.model.parameters, learner.model.buffers, now)

    def _is_measured(self, device: Device) -> bool:
        return (
            device.seat >= 0
            and device.hostile is None
            and (not self.plan.num_nodes or device.index < self.plan.num_nodes)
        )

    def _look(
        self,
        device: Device,
        kind: ModelKind,
        round_: int,
        parameters: Vector,
        buffers: Vector,
        now: Moment,
        ticket: int = 0,
    ) -> None:
        self.work.look(
            Look(
                seat=device.seat,
                node=device.index,
                kind=kind,
                round=round_,
                time_s=now.monotonic_s,
                parameters=parameters,
                buffers=buffers,
                ticket=ticket,
            )
        )

    def _sample(self, device: Device, learner: Learning, now: Moment) -> None:
        neighbours = learner.targets(now)
        versions = {peer: self.population.version_of(peer, learner.task) for peer in neighbours}
        link = device.link
        self.measurements.add(
            Sample(
                seed=self.seed,
                time_s=now.monotonic_s,
                round=learner.model.round - 1,
                node=device.index,
                online=device.online,
                version=learner.model.version,
                age=learner.model.age,
                staleness=_number(learner.merging.sources.mean_staleness(versions)),
                staleness_bound=learner.staleness_bound(now),
                num_neighbours=len(neighbours),
                server=learner.server_state(),
                messages_sent=link.messages_sent,
                bytes_sent=link.bytes_sent,
                messages_received=link.messages_received,
                bytes_received=link.bytes_received,
                joules=device.joules(now.monotonic_s),
                training_s=device.training_s,
            )
        )


def _number(measured: float | None) -> float:
    """A cell of a table: what was not measured is not a number."""
    return math.nan if measured is None else measured
