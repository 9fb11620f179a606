"""The optimisers that a task may name, on one flat vector of parameters.

They compute what `torch.optim` computes. Using that would import PyTorch's compiler with it: 80 MB
and a second more in every trainer process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from grapevine_proto.manifest import Optimiser
from grapevine_tasks.closed_sets import OPTIMISERS, read_constants

ADAMS = ("adam", "adamw")


def num_moments(plan: Optimiser) -> int:
    """k: how many vectors of the parameters' size the optimiser remembers."""
    if plan.name in ADAMS:
        return 2
    return 1 if plan.momentum else 0


def optimiser_constants(plan: Optimiser) -> Mapping[str, float]:
    """All constants of a checked optimiser, with the defaults that PyTorch has too."""
    return read_constants("training.optimiser", OPTIMISERS[plan.name].constants, plan.constants)


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

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """Change `parameters` (float32 [p]) in place; `gradient` (float32 [p]) may be overwritten."""


class Sgd:
    """Stochastic gradient descent with momentum (Polyak 1964, in PyTorch's form; Nesterov's too) and L2 decay."""

    def __init__(self, plan: Optimiser, memory: Memory) -> None:
        self._plan = plan
        self._memory = memory
        self._looks_ahead = bool(optimiser_constants(plan)["nesterov"])

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """θ ← θ − η·v,  v ← μ·v + (g + λ·θ); Nesterov's takes g + λ·θ + μ·v in the place of v."""
        if self._plan.weight_decay:
            gradient.add_(parameters, alpha=self._plan.weight_decay)
        if self._plan.momentum:
            velocity = self._memory.moments[0]
            if self._memory.num_steps == 0:
                velocity.copy_(gradient)
            else:
                velocity.mul_(self._plan.momentum).add_(gradient)
            gradient = gradient.add_(velocity, alpha=self._plan.momentum) if self._looks_ahead else velocity
        self._memory.num_steps += 1
        parameters.add_(gradient, alpha=-rate)


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1) with L2 decay, or decoupled (AdamW, Loshchilov & Hutter 2019)."""

    def __init__(self, plan: Optimiser, memory: Memory) -> None:
        self._plan = plan
        self._memory = memory
        constants = optimiser_constants(plan)
        self._beta1, self._beta2, self._eps = (constants[name] for name in ("beta1", "beta2", "eps"))

    def step(self, parameters: Tensor, gradient: Tensor, rate: float) -> None:
        """One step with both moments corrected for their start at zero."""
        memory, beta1, beta2 = self._memory, self._beta1, self._beta2
        if self._plan.weight_decay:
            if self._plan.name == "adamw":
                parameters.mul_(1 - rate * self._plan.weight_decay)
            else:
                gradient.add_(parameters, alpha=self._plan.weight_decay)
        if memory.num_steps == 0:
            memory.moments.zero_()
        memory.num_steps += 1
        mean, square = memory.moments[0], memory.moments[1]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        deviation = square.sqrt().div_(math.sqrt(1 - beta2**memory.num_steps)).add_(self._eps)
        parameters.addcdiv_(mean, deviation, value=-rate / (1 - beta1**memory.num_steps))


def new_optimiser(plan: Optimiser, memory: Memory) -> Steps:
    """The optimiser that a checked training plan names, going on from `memory`."""
    return Adam(plan, memory) if plan.name in ADAMS else Sgd(plan, memory)
