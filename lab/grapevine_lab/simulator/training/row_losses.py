"""Losses of many models' batches, and how they change with the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from grapevine_agent.training.losses import Compare, each_loss, loss_constants
from grapevine_proto.manifest import TrainingPlan

aten = torch.ops.aten
_BATCH_OF_CLASSES = 3  # dimensions: models, batch, classes
_EACH, _IGNORED = 0, -100  # of PyTorch's reductions; and the class that it leaves out
Rows: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # output and target [models, batch, …] → [models]
Slopes: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def by_rows(each: Compare) -> Rows:
    """Of what compares samples: the means of each model's."""
    return lambda output, target: each(output.flatten(0, 1), target.flatten(0, 1)).view(len(output), -1).mean(1)


def row_slopes(plan: TrainingPlan) -> Slopes:
    """The plan's loss: output and target [models, batch, …] and weights [models] → losses [models] and slopes.

    The slopes [models, batch, …] are the gradient of the sum of all losses times their weights.
    """
    loss = by_rows(each_loss(plan))

    def recorded(output: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        leaf = output.detach().requires_grad_()
        with torch.enable_grad():
            losses = loss(leaf, target)
        return losses.detach(), torch.autograd.grad(losses, leaf, weights)[0]

    def cross_entropy(output: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        if output.dim() != _BATCH_OF_CLASSES:
            return recorded(output, target, weights)
        num_models, batch, num_classes = output.shape
        likely = torch.log_softmax(output.reshape(-1, num_classes), 1)
        classes = target.reshape(-1)
        losses, total = aten.nll_loss_forward(likely, classes, None, _EACH, _IGNORED)
        back = (weights / batch).unsqueeze(1).expand(num_models, batch).reshape(-1)
        back = aten.nll_loss_backward(back, likely, classes, None, _EACH, _IGNORED, total)
        slopes: Tensor = aten._log_softmax_backward_data(back, likely, 1, likely.dtype)
        return losses.view(num_models, batch).mean(1), slopes.view(output.shape)

    return cross_entropy if plan.loss == "cross-entropy" and not any(loss_constants(plan).values()) else recorded
