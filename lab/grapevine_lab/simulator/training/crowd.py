"""The crowd: what each node remembers between its rounds, and requests turned into jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from grapevine_agent.training.local_steps import dropout_state
from grapevine_agent.training.losses import finished
from grapevine_agent.training.results import Evaluation, TrainingResult
from grapevine_agent.training.sample_order import SampleOrder
from grapevine_agent.training.scores import Score, mean_score
from grapevine_lab.simulator.training.crews import Crew
from grapevine_lab.simulator.training.interface import Coming, EvaluationRequest, TrainingRequest
from grapevine_lab.simulator.training.jobs import (
    Answer,
    Commons,
    Evaluated,
    EvaluateJob,
    How,
    Models,
    Outcome,
    Trained,
    TrainJob,
)
from grapevine_lab.simulator.training.sharing import identity
from grapevine_proto.errors import GrapevineError, TaskError
from grapevine_proto.messages import Vector
from grapevine_tasks.checks import EVALUATION_BATCH
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.randomness import random_operators

_T = TypeVar("_T")

_PIECE = 8 * EVALUATION_BATCH  # samples of an evaluation's job: workers share even one model's evaluation
_SHARED = 4  # jobs, or a multiple of that, when there are models enough: 1, 2 or 4 workers get as many each
_A_FEW = 8  # models, for which a job of their own is worth its while


@dataclass
class _Node:
    """What a node remembers, but for its optimiser's moments."""

    seed: int
    order: SampleOrder
    num_steps: int = 0  # of its optimiser
    dropout: bytes = b""


class Crowd:
    """Implements `CrowdTrainer`.

    Args:
        commons: What all jobs refer to.
        test_sets: Of each node, the number of its test set in `commons`.
        crew: Does the jobs; closed with the crowd.
        how: What kind of engine the crew has.
        at_once: How many models a job has at most.
        seed: Of all nodes' orders of samples and dropout.
    """

    def __init__(
        self, commons: Commons, test_sets: Sequence[int], crew: Crew, *, how: How, at_once: int, seed: int
    ) -> None:
        self._commons = commons
        self._test_sets = test_sets
        self._crew = crew
        self.how = how
        self._at_once = at_once
        self._layout = ModelLayout.of(commons.program)
        seeds = [node_seed(seed, node) for node in range(len(commons.x))]
        batch_size = commons.plan.batch_size
        self._nodes = [
            _Node(own, SampleOrder(len(x), batch_size, seed=own)) for own, x in zip(seeds, commons.x, strict=True)
        ]
        self._drops_out = bool(random_operators(commons.program.train))
        self._under_way: dict[int, _Training] = {}  # by node

    @property
    def enough(self) -> int:
        """See `CrowdTrainer`."""
        return self._at_once

    def begin(self, requests: Sequence[TrainingRequest]) -> list[Coming]:
        """See `CrowdTrainer`. Raises ValueError when a node is asked twice, or for no steps."""
        if len({request.node for request in requests}) < len(requests):
            raise ValueError("a node is trained once at a time")
        if not all(request.num_steps >= 1 for request in requests):
            raise ValueError(f"{min(request.num_steps for request in requests)} steps are none")
        # Nobody waits for what a node still does, but what it remembers is not there before it is done.
        self._crew.finish([self._under_way[each.node] for each in requests if each.node in self._under_way])
        coming = [Coming(request, self._problem(request)) for request in requests]
        groups: dict[tuple[int, int], list[Coming]] = {}
        for each in coming:
            if each.result is None:
                asked = each.request
                groups.setdefault((asked.num_steps, self._nodes[asked.node].order.batch_size), []).append(each)
        errands: list[_Training] = []
        for (num_steps, batch_size), members in sorted(groups.items(), key=lambda group: -group[0][0] * group[0][1]):
            for part in _parts(members, self._at_once):
                errands.append(_Training(self, part, num_samples=num_steps * batch_size))
                self._under_way.update((each.request.node, errands[-1]) for each in part)
        self._crew.begin(errands)
        return coming

    def result(self, coming: Coming) -> TrainingResult | TaskError:
        """See `CrowdTrainer`."""
        if coming.result is None:
            self._crew.finish([self._under_way[coming.request.node]])
        assert coming.result is not None
        return coming.result

    def train(self, requests: Sequence[TrainingRequest]) -> list[TrainingResult | TaskError]:
        """See `CrowdTrainer`. Raises ValueError as `begin` does."""
        coming = self.begin(requests)
        self.settle()
        return [self.result(each) for each in coming]

    def settle(self) -> None:
        """See `CrowdTrainer`."""
        self._crew.finish(list(self._under_way.values()))

    def evaluate(self, requests: Sequence[EvaluationRequest]) -> list[Evaluation]:
        """See `CrowdTrainer`."""
        tests: dict[int, list[int]] = {}
        for k, request in enumerate(requests):
            if problem := self._problem(request):
                raise problem
            tests.setdefault(-1 - request.node if request.own else self._test_sets[request.node], []).append(k)
        errands: list[_Evaluation] = []
        for test, members in tests.items():
            num_samples = len(self._commons.tested_on(test)[0])
            for part in _parts(members, self._at_once):
                for start in range(0, num_samples, _PIECE):
                    job = EvaluateJob(
                        test=test, num_models=len(part), start=start, end=min(start + _PIECE, num_samples)
                    )
                    errands.append(_Evaluation(self, {k: requests[k] for k in part}, job))
        self._crew.begin(errands)
        self._crew.finish(errands)
        scores: list[list[Score]] = [[] for _ in requests]
        for errand in errands:  # in the order of the samples, so that sums are what they are in one piece
            for k, found in zip(errand.requests, errand.scores, strict=True):
                scores[k] += found
        return [finished(self._commons.plan, mean_score(own)) for own in scores]

    def num_samples(self, node: int) -> int:
        """|D| of a node."""
        return len(self._commons.x[node])

    def state(self) -> dict[str, Any]:
        """See `CrowdTrainer`."""
        self.settle()
        trained = [k for k, node in enumerate(self._nodes) if node.num_steps]
        return {
            "how": self.how,
            "orders": [node.order.state() for node in self._nodes],
            "num_steps": [node.num_steps for node in self._nodes],
            "dropout": [node.dropout for node in self._nodes],
            "moments": self._commons.moments[trained],  # of those that have taken steps
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `CrowdTrainer`. Raises GrapevineError when the state is of another crowd."""
        self.settle()
        if state["how"] != self.how or len(state["orders"]) != len(self._nodes):
            raise GrapevineError(
                f"the state is of {len(state['orders'])} nodes trained {state['how']}, "
                f"this run has {len(self._nodes)} trained {self.how}"
            )
        for node, order, num_steps, dropout in zip(
            self._nodes, state["orders"], state["num_steps"], state["dropout"], strict=True
        ):
            node.order.restore(order)
            node.num_steps, node.dropout = int(num_steps), bytes(dropout)
        self._commons.moments[[k for k, node in enumerate(self._nodes) if node.num_steps]] = state["moments"]

    def close(self) -> None:
        """End whatever runs."""
        self._crew.close()

    # --- what errands need ------------------------------------------------------------------------

    def job(self, requests: Sequence[TrainingRequest]) -> TrainJob:
        """These requests' job; the nodes' orders of samples move on."""
        nodes = [self._nodes[request.node] for request in requests]
        for node in nodes:
            if self._drops_out and not node.dropout:
                node.dropout = dropout_state(node.seed).numpy().tobytes()
        batches = [
            [node.order.next_batch() for _ in range(request.num_steps)]
            for node, request in zip(nodes, requests, strict=True)
        ]
        return TrainJob(
            nodes=tuple(request.node for request in requests),
            batches=np.array(batches, np.int32),
            num_steps=tuple(node.num_steps for node in nodes),
            ages=tuple(request.age for request in requests),
            dropout=tuple(node.dropout for node in nodes),
        )

    def note(self, node: int, outcome: Outcome) -> None:
        """Keep what a node's training left: it is done."""
        del self._under_way[node]
        self._nodes[node].num_steps, self._nodes[node].dropout = outcome.num_steps, outcome.dropout

    def put(self, requests: Iterable[TrainingRequest | EvaluationRequest], models: Models) -> None:
        """Write the requests' models into rows."""
        for row, request in zip(models, requests, strict=True):
            row[: self._layout.num_parameters] = request.parameters
            row[self._layout.num_parameters :] = request.buffers

    def halves(self, row: Vector) -> tuple[Vector, Vector]:
        """Copies of a row's parameters and buffers."""
        return row[: self._layout.num_parameters].copy(), row[self._layout.num_parameters :].copy()

    def _problem(self, request: TrainingRequest | EvaluationRequest) -> TaskError | None:
        wanted = (self._layout.num_parameters,), (self._layout.num_buffers,)
        if (request.parameters.shape, request.buffers.shape) == wanted:
            return None
        return TaskError(
            f"the model has {request.parameters.shape} parameters and {request.buffers.shape} buffers, "
            f"the task {self._layout.num_parameters} and {self._layout.num_buffers}"
        )


class _Training:
    """Some requests that are one job."""

    def __init__(self, crowd: Crowd, members: Sequence[Coming], *, num_samples: int) -> None:
        self.num_models = len(members)
        self.is_done = False
        self._crowd = crowd
        self._members = members
        self._num_samples = num_samples

    def begin(self, models: Models) -> TrainJob:
        requests = [each.request for each in self._members]
        self._crowd.put(requests, models)
        return self._crowd.job(requests)

    def finish(self, models: Models, answer: Answer) -> None:
        assert isinstance(answer, Trained)
        self.is_done = True
        for coming, row, outcome in zip(self._members, models, answer.outcomes, strict=True):
            self._crowd.note(coming.request.node, outcome)
            if outcome.problem:
                coming.result = TaskError(outcome.problem)
                continue
            parameters, buffers = self._crowd.halves(row)
            coming.result = TrainingResult(
                parameters=parameters, buffers=buffers, loss=outcome.loss, num_samples=self._num_samples
            )


class _Evaluation:
    """Some requests' models on one piece of their test set."""

    def __init__(self, crowd: Crowd, requests: dict[int, EvaluationRequest], job: EvaluateJob) -> None:
        self.num_models = len(requests)
        self.is_done = False
        self.requests = requests
        self.scores: tuple[tuple[Score, ...], ...] = ()
        self._crowd = crowd
        self._job = job

    def begin(self, models: Models) -> EvaluateJob:
        self._crowd.put(self.requests.values(), models)
        return self._job

    def finish(self, models: Models, answer: Answer) -> None:  # noqa: ARG002 — models are as they were
        assert isinstance(answer, Evaluated)
        self.is_done = True
        self.scores = answer.scores


def node_seed(seed: int, node: int) -> int:
    """The seed of a node's order of samples and dropout: what its `LocalTrainer` would be given. 63 bits."""
    return int(np.random.SeedSequence([seed, node]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def distinct_tests(x_test: Sequence[Any], y_test: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Of each node the number of its test set, and of each test set a node that has it: equal memory, one set."""
    numbers: dict[Any, int] = {}
    owners: list[int] = []
    of_nodes = []
    for node, (x, y) in enumerate(zip(x_test, y_test, strict=True)):
        number = numbers.setdefault((identity(x), identity(y)), len(owners))
        if number == len(owners):
            owners.append(node)
        of_nodes.append(number)
    return of_nodes, owners


def _parts(members: list[_T], at_most: int) -> list[list[_T]]:
    """Jobs of at most so many models, as equal as can be, and as many jobs as some workers can share evenly.

    How they are cut does not depend on how many workers there are.
    """
    num_parts = max(-(-len(members) // at_most), min(_SHARED, len(members) // _A_FEW))
    if num_parts > _SHARED:
        num_parts = min(-(-num_parts // _SHARED) * _SHARED, len(members))
    bounds = [len(members) * k // num_parts for k in range(num_parts + 1)]
    return [members[low:high] for low, high in pairwise(bounds)]
