"""What trains many nodes, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grapevine_agent.training.results import Evaluation, TrainingResult
from grapevine_proto.errors import TaskError
from grapevine_proto.messages import Vector


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Take `num_steps` local steps of node `node` from this model: float32 [p] and [b], not modified."""

    node: int
    parameters: Vector
    buffers: Vector
    num_steps: int
    age: int = 0  # optimiser steps in the model


@dataclass
class Coming:
    """A request that has begun, and its result once there is one."""

    request: TrainingRequest
    result: TrainingResult | TaskError | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Evaluate a model (float32 [p] and [b]) on the test samples of node `node`, or on those that it trains on."""

    node: int
    parameters: Vector
    buffers: Vector
    own: bool = False


class CrowdTrainer(Protocol):
    """Trains and evaluates the models of many nodes.

    A node's results depend on its samples, the trainer's seed and what the node was asked so far, not on
    what others are asked. It must be closed.
    """

    @property
    def enough(self) -> int:
        """So many requests for as many steps are worth beginning: more together go no faster."""
        ...

    def begin(self, requests: Sequence[TrainingRequest]) -> list[Coming]:
        """Have these trained beside whatever the caller does; in the order of the requests, a node at most once.

        What becomes of one that nobody asks the `result` of changes what its node remembers all the same. Raises
        GrapevineError when the trainer itself fails; then it can only be closed.
        """
        ...

    def result(self, coming: Coming) -> TrainingResult | TaskError:
        """Wait for one. Errors as with `train`."""
        ...

    def settle(self) -> None:
        """Wait for all that has begun."""
        ...

    def train(self, requests: Sequence[TrainingRequest]) -> list[TrainingResult | TaskError]:
        """Results in the order of the requests; a node at most once.

        A TaskError in place of a result is that node's alone: its training diverged, and its optimiser
        starts afresh. Raises GrapevineError when the trainer itself fails; then it can only be closed.
        """
        ...

    def evaluate(self, requests: Sequence[EvaluationRequest]) -> list[Evaluation]:
        """Results in the order of the requests; a node any number of times.

        Raises TaskError when a model has the wrong size, and GrapevineError as `train` does.
        """
        ...

    def num_samples(self, node: int) -> int:
        """|D| of a node."""
        ...

    def state(self) -> Mapping[str, Any]:
        """All that training to come depends on beside the samples, as plain numbers, bytes and arrays.

        Waits for what has begun.
        """
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, for the same program, plan, samples and kind of trainer: bit for bit."""
        ...

    def close(self) -> None:
        """End whatever runs. May be called again."""
        ...
