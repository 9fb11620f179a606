"""Local steps and evaluations of one model on one device's samples: what the trainer process runs.

It is a function of its arguments and its seed alone: it neither reads nor disturbs PyTorch's global
generator. The simulator runs the same steps, for many devices at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.local_steps import LocalSteps, as_tensor, dropout_state, lent_randomness
from grapevine_agent.training.losses import finished
from grapevine_agent.training.optimisers import Memory
from grapevine_agent.training.results import Evaluation, TrainingResult
from grapevine_agent.training.sample_order import SampleOrder
from grapevine_agent.training.scores import mean_score
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.messages import Vector
from grapevine_proto.program import Program
from grapevine_tasks.checks import check_few_samples


class LocalTrainer:
    """Trains and evaluates models of one program on one device's samples.

    The optimiser's state (momentum, moments) and the place in the shuffled samples survive from one
    call of `train` to the next, whatever merges did to the model in between.

    Args:
        program: Checked.
        plan: The manifest's training plan.
        samples: As the data contract wants them.
        seed: Of the order of samples, and of dropout.
        num_threads: For PyTorch in this whole process; None leaves it as it is.
    """

    def __init__(
        self, program: Program, plan: TrainingPlan, samples: Samples, *, seed: int = 0, num_threads: int | None = None
    ) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        if len(samples.x) == 0:
            raise TaskError("there are no samples to train on")
        check_few_samples(program, batch_size=plan.batch_size, num_samples=len(samples.x))
        self._steps = LocalSteps(program, plan)
        self._x, self._y = as_tensor(samples.x), as_tensor(samples.y)
        self._x_test, self._y_test = as_tensor(samples.x_test), as_tensor(samples.y_test)
        self._order = SampleOrder(len(samples.x), plan.batch_size, seed=seed)
        self._memory = Memory.fresh(plan.optimiser, self._steps.layout.num_parameters)
        self._dropout_state = dropout_state(seed)

    @property
    def num_samples(self) -> int:
        """|D|: how many samples there are to train on."""
        return len(self._x)

    def train(self, parameters: Vector, buffers: Vector, num_steps: int, *, age: int = 0) -> TrainingResult:
        """Take `num_steps` optimiser steps from this model.

        Args:
            parameters: float32 [p], not modified.
            buffers: float32 [b], not modified.
            num_steps: 1 or more.
            age: Optimiser steps that are in the model: a schedule makes the learning rate of them.

        Raises:
            TaskError: When training diverges; the optimiser starts afresh then.
        """
        self._steps.check_sizes(parameters, buffers)
        batches = (torch.from_numpy(self._order.next_batch()) for _ in range(num_steps))
        with lent_randomness(self._dropout_state):
            return self._steps.train(parameters, buffers, self._x, self._y, batches, self._memory, age=age)

    def evaluate(self, parameters: Vector, buffers: Vector) -> Evaluation:
        """Loss and metric of a model (float32 [p] and [b]) on the test samples."""
        scores = self._steps.scores(parameters, buffers, self._x_test, self._y_test)
        return finished(self._steps.plan, mean_score(scores))

    def state(self) -> dict[str, Any]:
        """All that training to come depends on beside the samples, as plain numbers, bytes and arrays."""
        memory = self._memory
        return {
            "order": self._order.state(),
            "num_steps": memory.num_steps,
            "moments": memory.moments.numpy().copy() if memory.num_steps else None,
            "dropout": self._dropout_state.numpy().tobytes(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, for the same program, plan and samples: bit for bit."""
        self._order.restore(state["order"])
        self._memory.num_steps = int(state["num_steps"])
        if state["moments"] is not None:
            self._memory.moments.copy_(torch.from_numpy(np.array(state["moments"], np.float32)))
        self._dropout_state = torch.from_numpy(np.frombuffer(state["dropout"], np.uint8).copy())
