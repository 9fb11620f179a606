"""The optimisers that a task may name, on one flat vector of parameters.

They compute what `torch.optim` computes. Using that would import PyTorch's compiler with it: 80 MB
and a second more in every trainer process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from grapevine_proto.manifest import Optimiser

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Adam's, as published and as PyTorch has them


def num_moments(plan: Optimiser) -> int:
    """k: how many vectors of the parameters' size the optimiser remembers."""
    if plan.name == "adam":
        return 2
    return 1 if plan.momentum else 0


@dataclass
class Memory:
    """What an optimiser remembers from one step to the next.

    `moments` is float32 [k, p], changed in place; at 0 steps it may hold anything. Who replaces it
    or sets `num_steps` between steps decides what the optimiser remembers.
    """

    moments: Tensor
    num_steps: int = 0  # since the optimiser started afresh

    @classmethod
    def fresh(cls, plan: Optimiser, num_parameters: int) -> Memory:
        """Of an optimiser that has done nothing yet."""
        return cls(moments=torch.empty(num_moments(plan), num_parameters))


class Steps(Protocol):
    """Changes a vector of parameters by its gradient, and keeps what it needs for the next time in a `Memory`."""

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """Change `parameters` (float32 [p]) in place; `gradient` (float32 [p]) may be overwritten."""


class Sgd:
    """Stochastic gradient descent with momentum (Polyak 1964, in PyTorch's form) and L2 decay."""

    def __init__(self, plan: Optimiser, memory: Memory) -> None:
        self._plan = plan
        self._memory = memory

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """θ ← θ − η·v,  v ← μ·v + (g + λ·θ)."""
        if self._plan.weight_decay:
            gradient.add_(parameters, alpha=self._plan.weight_decay)
        if self._plan.momentum:
            velocity = self._memory.moments[0]
            if self._memory.num_steps == 0:
                velocity.copy_(gradient)
            else:
                velocity.mul_(self._plan.momentum).add_(gradient)
            gradient = velocity
        self._memory.num_steps += 1
        parameters.add_(gradient, alpha=-self._plan.learning_rate)


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1) with L2 decay."""

    def __init__(self, plan: Optimiser, memory: Memory) -> None:
        self._plan = plan
        self._memory = memory

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """One step with both moments corrected for their start at zero."""
        memory = self._memory
        if self._plan.weight_decay:
            gradient.add_(parameters, alpha=self._plan.weight_decay)
        if memory.num_steps == 0:
            memory.moments.zero_()
        memory.num_steps += 1
        mean, square = memory.moments[0], memory.moments[1]
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        deviation = square.sqrt().div_(math.sqrt(1 - BETA2**memory.num_steps)).add_(EPS)
        rate = self._plan.learning_rate / (1 - BETA1**memory.num_steps)
        parameters.addcdiv_(mean, deviation, value=-rate)


def new_optimiser(plan: Optimiser, memory: Memory) -> Steps:
    """The optimiser that a checked training plan names, going on from `memory`."""
    return Adam(plan, memory) if plan.name == "adam" else Sgd(plan, memory)
