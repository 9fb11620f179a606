"""What is asked of whatever computes, in this process or in another one, and what it answers.

A job carries everything that the result depends on and that is small. Models (float32 [n, p + b], a
row is parameters and then buffers) and the optimisers' moments lie in memory that both sides see, so
it does not matter who does which job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.training.scores import Score
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.program import Program

Models: TypeAlias = NDArray[np.float32]  # [n, p + b]
How: TypeAlias = Literal["plain", "stacked"]


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Train model k, in place, as node `nodes[k]`."""

    nodes: tuple[int, ...]
    batches: NDArray[np.int32]  # [n, steps, batch]: numbers of the node's samples
    num_steps: tuple[int, ...]  # that each node's optimiser has taken before
    ages: tuple[int, ...]  # optimiser steps in each model
    dropout: tuple[bytes, ...]  # each node's state of PyTorch's generator; empty where nothing is dropped out


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Evaluate so many models on samples `start` to `end` of a test set."""

    test: int  # below 0: what node −1 − `test` trains on
    num_models: int
    start: int  # a multiple of the batch in which models are evaluated
    end: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a node's training went."""

    loss: float  # mean over the steps
    num_steps: int  # that the optimiser remembers; 0 after divergence
    dropout: bytes
    problem: str = ""  # why there is no model


@dataclass(frozen=True, kw_only=True)
class Trained:
    """To a TrainJob: an outcome for each of its nodes."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """To an EvaluateJob: for each of its models, a score for each batch."""

    scores: tuple[tuple[Score, ...], ...]


Job: TypeAlias = TrainJob | EvaluateJob
Answer: TypeAlias = Trained | Evaluated


@dataclass(frozen=True, kw_only=True)
class Commons:
    """What all jobs of a crowd refer to. Only `moments` is written to."""

    program: Program
    plan: TrainingPlan
    x: Sequence[NDArray[Any]]  # of each node [n, …]
    y: Sequence[NDArray[Any]]
    x_test: Sequence[NDArray[Any]]  # of each test set
    y_test: Sequence[NDArray[Any]]
    moments: NDArray[np.float32]  # [nodes, k, p]: what each node's optimiser remembers

    def tested_on(self, test: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Samples [n, …] and targets that an `EvaluateJob` names."""
        return (self.x_test[test], self.y_test[test]) if test >= 0 else (self.x[-1 - test], self.y[-1 - test])


class Engine(Protocol):
    """Does jobs."""

    def train(self, job: TrainJob, models: Models) -> Trained:
        """Train the models in place; where there is a problem, what is left there means nothing."""
        ...

    def evaluate(self, job: EvaluateJob, models: Models) -> Evaluated:
        """Evaluate the models."""
        ...


def do(engine: Engine, job: Job, models: Models) -> Answer:
    """Have a job done."""
    return engine.train(job, models) if isinstance(job, TrainJob) else engine.evaluate(job, models)
