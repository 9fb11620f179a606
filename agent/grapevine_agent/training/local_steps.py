"""Training steps and evaluations of models of one program, on whatever samples they are given.

Nothing here belongs to a device: its samples, their order, its optimiser's memory and its randomness
come in as arguments. `LocalTrainer` keeps them for one device, the simulator for many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grapevine_agent.training.losses import mean_loss, mean_metric, shortened
from grapevine_agent.training.optimisers import Memory, new_optimiser
from grapevine_agent.training.results import TrainingResult
from grapevine_agent.training.schedules import learning_rate
from grapevine_agent.training.scores import Score
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.messages import Vector
from grapevine_proto.program import Program
from grapevine_tasks.checks import EVALUATION_BATCH
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import Entry, ModelLayout


class LocalSteps:
    """Trains and evaluates models of one program.

    Args:
        program: Checked.
        plan: The manifest's training plan.
        interpreter: Of this program, when there is one already.
    """

    def __init__(self, program: Program, plan: TrainingPlan, *, interpreter: Interpreter | None = None) -> None:
        self.plan = plan
        self.layout = ModelLayout.of(program)
        self._interpreter = interpreter or Interpreter(program)
        self._loss, self._metric = mean_loss(plan), mean_metric(plan)
        self._rate = learning_rate(plan)
        # One flat parameter for the optimiser; the tensors that the program reads are views of it.
        self._flat = torch.zeros(self.layout.num_parameters)
        self._leaves = [leaf.requires_grad_() for leaf in _views(self._flat, self.layout.parameters)]

    def train(
        self,
        parameters: Vector,
        buffers: Vector,
        x: Tensor,
        y: Tensor,
        batches: Iterable[Tensor],
        memory: Memory,
        *,
        age: int = 0,
    ) -> TrainingResult:
        """Take an optimiser step for each batch.

        Args:
            parameters: float32 [p], not modified.
            buffers: float32 [b], not modified.
            x: Samples [n, …].
            y: Their targets [n, …].
            batches: One or more; each int64 [batch], numbers of samples.
            memory: The optimiser's; changed.
            age: Optimiser steps that are in the model: the learning rate may depend on it.

        Raises:
            TaskError: When training diverges, and then the optimiser starts afresh; or when the model
                is not of this program's size.
        """
        self.check_sizes(parameters, buffers)
        self._flat.copy_(torch.from_numpy(parameters.astype(np.float32)))
        current = _views(torch.from_numpy(buffers.astype(np.float32)), self.layout.buffers)
        optimiser = new_optimiser(self.plan.optimiser, memory)
        total = torch.zeros(())
        num_steps = num_samples = 0
        for batch in batches:
            output, current = self._run("train", x[batch], self._leaves, current)
            loss = self._loss(output, y[batch])
            gradients = torch.autograd.grad(loss, self._leaves, allow_unused=True, materialize_grads=True)
            gradient = torch.cat([gradient.reshape(-1) for gradient in gradients])
            shortened(gradient, self.plan.max_gradient_norm)
            optimiser.step(self._flat, gradient, self._rate(age + num_steps))
            total += loss.detach()
            num_steps += 1
            num_samples += len(batch)
        trained = self._flat.numpy().copy()
        trained_buffers = _joined(current)
        loss_of_steps = float(total) / num_steps
        if not (math.isfinite(loss_of_steps) and np.isfinite(trained).all() and np.isfinite(trained_buffers).all()):
            memory.num_steps = 0
            raise diverged(loss_of_steps)
        return TrainingResult(parameters=trained, buffers=trained_buffers, loss=loss_of_steps, num_samples=num_samples)

    def scores(self, parameters: Vector, buffers: Vector, x: Tensor, y: Tensor) -> list[Score]:
        """How a model (float32 [p] and [b]) does on each batch of `EVALUATION_BATCH` samples.

        Raises TaskError when the model is not of this program's size.
        """
        self.check_sizes(parameters, buffers)
        leaves = _views(torch.from_numpy(parameters.astype(np.float32)), self.layout.parameters)
        current = _views(torch.from_numpy(buffers.astype(np.float32)), self.layout.buffers)
        found = []
        with torch.no_grad():
            for start in range(0, len(x), EVALUATION_BATCH):
                part, target = x[start : start + EVALUATION_BATCH], y[start : start + EVALUATION_BATCH]
                output = self._run("eval", part, leaves, current)[0]
                loss, metric = self._loss(output, target), self._metric(output, target)
                found.append(Score(loss=float(loss), metric=float(metric), num_samples=len(part)))
        return found

    def check_sizes(self, parameters: Vector, buffers: Vector) -> None:
        """Raise TaskError when a model is not of this program's size."""
        if parameters.shape != self._flat.shape or buffers.shape != (self.layout.num_buffers,):
            raise TaskError(
                f"the model has {parameters.shape} parameters and {buffers.shape} buffers, "
                f"the task {self.layout.num_parameters} and {self.layout.num_buffers}"
            )

    def _run(
        self, graph: Literal["train", "eval"], x: Tensor, parameters: list[Tensor], buffers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        return self._interpreter.run(graph, (x,), parameters, buffers)


def diverged(loss: float) -> TaskError:
    """The error of training that came to numbers that are not finite."""
    return TaskError(f"training diverged (loss {loss:g}): the task's learning rate is too high for these samples")


def dropout_state(seed: int) -> Tensor:
    """A state of PyTorch's generator, uint8: what `lent_randomness` takes."""
    return torch.Generator().manual_seed(seed).get_state()


@contextmanager
def lent_randomness(state: Tensor) -> Iterator[None]:
    """Dropout draws from PyTorch's global generator: lend it this state, keep what becomes of it in `state`.

    The generator has its own state back afterwards.
    """
    outer = torch.get_rng_state()
    torch.set_rng_state(state)
    try:
        yield
    finally:
        state.copy_(torch.get_rng_state())
        torch.set_rng_state(outer)


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """The same memory as a tensor; a copy when it is read-only."""
    return torch.from_numpy(np.require(array, requirements="W"))


def _views(vector: Tensor, entries: tuple[Entry, ...]) -> list[Tensor]:
    return [vector[entry.span].view(entry.shape).detach() for entry in entries]


def _joined(tensors: list[Tensor]) -> Vector:
    if not tensors:
        return np.empty(0, np.float32)
    joined: Vector = torch.cat([tensor.reshape(-1) for tensor in tensors]).numpy()
    return joined
