"""The optimisers that a task may name, on many vectors of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from grapevine_agent.training.optimisers import ADAMS, optimiser_constants
from grapevine_proto.manifest import Optimiser, TrainingPlan


def only_descends(plan: TrainingPlan) -> bool:
    """Whether a step does no more than take the rate times the gradient from the parameters."""
    optimiser = plan.optimiser
    plain = optimiser.name not in ADAMS and not optimiser.momentum and not optimiser.weight_decay
    return plain and not plan.max_gradient_norm


class RowOptimiser:
    """SGD, Adam or AdamW on many vectors of parameters, each with its own moments and number of steps.

    The moments of a vector that has taken no step yet are cleared first: then there is no first step to tell
    from others.
    """

    def __init__(
        self,
        plan: Optimiser,
        *,
        parameters: list[Tensor],
        gradients: list[Tensor],
        moments: list[Tensor],
        num_steps: Sequence[int],
    ) -> None:
        self._plan = plan
        self._constants = optimiser_constants(plan)
        self._parameters = parameters
        self._gradients = gradients
        for row, number in zip(moments, num_steps, strict=True):
            if number == 0:
                row.zero_()
        self._first, self._second = ([row[k] for row in moments if k < len(row)] for k in range(2))
        self._num_steps = [torch.tensor(float(number)) for number in num_steps]

    def step(self, rates: Sequence[float]) -> None:
        """Change the parameters by the gradients, each at its learning rate; those of equal ones in one go."""
        if self._plan.name in ADAMS:
            torch._foreach_add_(self._num_steps, 1)
        for rate in dict.fromkeys(rates):
            rows = range(len(rates)) if len(set(rates)) == 1 else [k for k, own in enumerate(rates) if own == rate]
            self._step_of(rows, rate)

    def _step_of(self, rows: Sequence[int], rate: float) -> None:
        def of(tensors: list[Tensor]) -> list[Tensor]:
            return [tensors[k] for k in rows] if tensors else []

        parameters, gradients, first = of(self._parameters), of(self._gradients), of(self._first)
        if self._plan.name not in ADAMS:
            torch._fused_sgd_(
                parameters,
                gradients,
                first,
                weight_decay=self._plan.weight_decay,
                momentum=self._plan.momentum,
                lr=rate,
                dampening=0.0,
                nesterov=bool(self._constants["nesterov"]),
                maximize=False,
                is_first_step=False,
            )
            return
        fused = torch._fused_adam_ if self._plan.name == "adam" else torch._fused_adamw_
        fused(
            parameters,
            gradients,
            first,
            of(self._second),
            [],
            of(self._num_steps),
            lr=rate,
            beta1=self._constants["beta1"],
            beta2=self._constants["beta2"],
            weight_decay=self._plan.weight_decay,
            eps=self._constants["eps"],
            amsgrad=False,
            maximize=False,
        )
