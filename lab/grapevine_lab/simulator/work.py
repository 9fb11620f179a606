"""What nodes want trained and evaluated, put off so that many are done at once.

A training request is a snapshot: nothing that happens while it is under way changes its result. So
it need not be computed when it is asked for. It is begun when enough others wait that want as many steps, and
workers train them while the world goes on; or, with all that wait, when the first of them has to be answered: in a
round-based run of a few that is everybody, in a free-running one all whose training overlaps.
Which are begun together depends on the world alone, not on how fast the workers are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.training.results import Evaluation, TrainingResult
from grapevine_lab.simulator.measurements import Measurements, Reading
from grapevine_lab.simulator.training.interface import Coming, CrowdTrainer, EvaluationRequest, TrainingRequest
from grapevine_proto.errors import TaskError
from grapevine_proto.messages import Vector

MAX_EVALUATIONS = 512  # that may wait: each holds a model

ModelKind: TypeAlias = Literal["working", "merged", "released", "shadow"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A model to evaluate, and as what to note the result. `ticket` is not 0 if the node waits for it.

    A "shadow" is another's model, which the node measures on the samples that it trains on: nothing is noted.
    """

    seat: int
    node: int
    kind: ModelKind
    round: int
    time_s: float
    parameters: Vector
    buffers: Vector
    ticket: int = 0


@dataclass(kw_only=True)
class Work:
    """See the module's docstring. Without a trainer, training leaves the model as it is: protocol only."""

    seed: int
    trainer: CrowdTrainer | None
    measurements: Measurements
    num_samples: int = 32  # |D| of everybody, without a trainer
    wall_s: float = 0.0  # that the world stood still for the trainer
    _tickets: int = 0
    _steps: dict[int, int] = field(default_factory=dict)  # of each ticket that waits to begin
    _training: dict[int, dict[int, TrainingRequest]] = field(default_factory=dict)  # these by steps, and ticket
    _coming: dict[int, Coming] = field(default_factory=dict)  # those that have begun
    _trained: dict[int, TrainingResult | TaskError] = field(default_factory=dict)
    _looks: list[Look] = field(default_factory=list)
    _evaluated: dict[int, Evaluation] = field(default_factory=dict)

    def ticket(self) -> int:
        """A number to ask for an answer with."""
        self._tickets += 1
        return self._tickets

    def train(self, seat: int, asked: fx.Train) -> int:
        """Note a request; the ticket of its answer."""
        ticket = self.ticket()
        self._steps[ticket] = asked.num_steps
        alike = self._training.setdefault(asked.num_steps, {})
        alike[ticket] = TrainingRequest(
            node=seat,
            parameters=asked.parameters,
            buffers=asked.buffers,
            num_steps=asked.num_steps,
            age=asked.age,
        )
        if self.trainer is not None and len(alike) >= self.trainer.enough:
            self._begin([asked.num_steps])
        return ticket

    def forget(self, ticket: int) -> None:
        """Nobody waits for this answer any more."""
        if (num_steps := self._steps.pop(ticket, None)) is not None:
            del self._training[num_steps][ticket]
        self._coming.pop(ticket, None)
        self._trained.pop(ticket, None)
        self._evaluated.pop(ticket, None)

    def trained(self, ticket: int) -> TrainingResult | TaskError | None:
        """The answer, once; None if it was forgotten."""
        if ticket in self._steps:
            self._begin(list(self._training))
        if ticket in self._coming:
            assert self.trainer is not None
            began_s = time.perf_counter()
            result = self.trainer.result(self._coming.pop(ticket))
            self.wall_s += time.perf_counter() - began_s
            return result
        return self._trained.pop(ticket, None)

    def settle(self) -> None:
        """Wait for all that has begun; afterwards nothing but numbers is kept of it."""
        if self.trainer is not None:
            self._trained.update((ticket, self.trainer.result(coming)) for ticket, coming in self._coming.items())
            self._coming.clear()

    def dataset_size(self, seat: int) -> int:
        """|D| of a node, in samples."""
        return self.trainer.num_samples(seat) if self.trainer is not None else self.num_samples

    def look(self, look: Look) -> None:
        """Evaluate a model, sooner or later."""
        self._looks.append(look)
        if len(self._looks) >= MAX_EVALUATIONS:
            self.evaluate_all()

    def evaluated(self, ticket: int) -> Evaluation | None:
        """The answer, once; None if it was forgotten."""
        if ticket not in self._evaluated:
            self.evaluate_all()
        return self._evaluated.pop(ticket, None)

    def _begin(self, steps: list[int]) -> None:
        """Begin all that wait and want so many steps."""
        asked = {ticket: each for number in steps for ticket, each in self._training.pop(number).items()}
        for ticket in asked:
            del self._steps[ticket]
        if self.trainer is None:
            for ticket, request in asked.items():
                self._trained[ticket] = TrainingResult(
                    parameters=request.parameters, buffers=request.buffers, loss=0.0, num_samples=self.num_samples
                )
        else:
            began_s = time.perf_counter()
            self._coming.update(zip(asked, self.trainer.begin(list(asked.values())), strict=True))
            self.wall_s += time.perf_counter() - began_s

    def evaluate_all(self) -> None:
        """Evaluate whatever waits, and note the readings."""
        looks, self._looks = self._looks, []
        if not looks:
            return
        if self.trainer is None:
            found = [Evaluation(loss=None, metric=None, num_samples=0)] * len(looks)
        else:
            began_s = time.perf_counter()
            distinct, places = _distinct(looks)
            scores = self.trainer.evaluate([_asked_of(x) for x in distinct])
            found = [scores[place] for place in places]
            self.wall_s += time.perf_counter() - began_s
        for look, evaluation in zip(looks, found, strict=True):
            if look.ticket:
                self._evaluated[look.ticket] = evaluation
            if look.kind != "shadow" and evaluation.loss is not None and evaluation.metric is not None:
                self.measurements.add(
                    Reading(
                        seed=self.seed,
                        time_s=look.time_s,
                        round=look.round,
                        node=look.node,
                        model=look.kind,
                        loss=evaluation.loss,
                        metric=evaluation.metric,
                        num_evaluated=evaluation.num_samples,
                    )
                )


def _asked_of(look: Look) -> EvaluationRequest:
    return EvaluationRequest(
        node=look.seat, parameters=look.parameters, buffers=look.buffers, own=look.kind == "shadow"
    )


def _distinct(looks: list[Look]) -> tuple[list[Look], list[int]]:
    """The looks whose models differ, and for each look the place of its model among those.

    A round that merged nothing begins with the very model that the last one ended with.
    """
    distinct: list[Look] = []
    places: list[int] = []
    by_seat: dict[tuple[int, bool], list[int]] = {}
    for look in looks:
        same = by_seat.setdefault((look.seat, look.kind == "shadow"), [])
        for place in same:
            other = distinct[place]
            if np.array_equal(other.parameters, look.parameters) and np.array_equal(other.buffers, look.buffers):
                break
        else:
            place = len(distinct)
            distinct.append(look)
            same.append(place)
        places.append(place)
    return distinct, places
