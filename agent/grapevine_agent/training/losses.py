"""What the losses and metrics of the closed set compute, as means over a batch.

A variational autoencoder gives [batch, d + 2·l]: the reconstruction of d numbers, then the mean and then
the log-variance of its l latent numbers. Metrics of it look at the reconstruction alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_agent.training.results import Evaluation
from grapevine_proto.manifest import TrainingPlan
from grapevine_tasks.closed_sets import LOSSES, read_constants

Constants: TypeAlias = Mapping[str, float]
Compare: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # output and target [batch, …] → []

_LARGEST_EXPONENT = 20.0  # of a log-variance: e^20 is far from any latent that trains, and far from overflow


def _cross_entropy(output: Tensor, target: Tensor, constants: Constants) -> Tensor:
    return F.cross_entropy(output, target, reduction="none", label_smoothing=constants["label_smoothing"])


def _binary_cross_entropy(output: Tensor, target: Tensor, constants: Constants) -> Tensor:  # noqa: ARG001
    return F.binary_cross_entropy_with_logits(output, _zeros_and_ones(output, target), reduction="none")


def _zeros_and_ones(output: Tensor, target: Tensor) -> Tensor:
    """The target as float32 of the output's shape: one of two classes is [batch], its output [batch, 1]."""
    return target.to(output.dtype).reshape(output.shape)


def _elbo(output: Tensor, target: Tensor, constants: Constants) -> Tensor:
    d = target.shape[1]
    mean, log_variance = output[:, d:].chunk(2, dim=1)
    error = 0.5 * (output[:, :d] - target).square().sum(1)
    variance = log_variance.clamp(max=_LARGEST_EXPONENT).exp()
    divergence = 0.5 * (mean.square() + variance - 1 - log_variance).sum(1)
    return error + constants["beta"] * divergence


# Output and target [n, …] → the losses of samples [n], or of their numbers [n, …].
EACH: Mapping[str, Callable[[Tensor, Tensor, Constants], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "binary-cross-entropy": _binary_cross_entropy,
    "mse": lambda output, target, constants: F.mse_loss(output, target, reduction="none"),  # noqa: ARG005
    "l1": lambda output, target, constants: F.l1_loss(output, target, reduction="none"),  # noqa: ARG005
    "huber": lambda output, target, constants: F.huber_loss(output, target, reduction="none", delta=constants["delta"]),
    "smooth-l1": lambda output, target, constants: F.smooth_l1_loss(
        output, target, reduction="none", beta=constants["beta"]
    ),
    "elbo": _elbo,
}

# PyTorch's own means: another order of additions would give other bits.
_MEANS: Mapping[str, Callable[[Tensor, Tensor, Constants], Tensor]] = {
    "cross-entropy": lambda output, target, constants: F.cross_entropy(
        output, target, label_smoothing=constants["label_smoothing"]
    ),
    "mse": lambda output, target, constants: F.mse_loss(output, target),  # noqa: ARG005
}


def _accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(-1) == target).float()


def _top_5_accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.topk(min(5, output.shape[-1]), dim=-1).indices == target.unsqueeze(-1)).any(-1).float()


def _binary_accuracy(output: Tensor, target: Tensor) -> Tensor:
    return ((output > 0) == (_zeros_and_ones(output, target) > 0.5)).float()


def _square(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(_reconstruction(output, target), target, reduction="none")


def _absolute(output: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(_reconstruction(output, target), target, reduction="none")


def _reconstruction(output: Tensor, target: Tensor) -> Tensor:
    """The part of the output that is compared with the target: all of it, but of a variational autoencoder."""
    return output if output.shape == target.shape else output[:, : target.shape[1]]


# Output and target [n, …] → the metric of samples [n], or of their numbers [n, …]. "rmse" is finished at the end.
EACH_METRIC: Mapping[str, Compare] = {
    "accuracy": _accuracy,
    "top-5-accuracy": _top_5_accuracy,
    "binary-accuracy": _binary_accuracy,
    "mse": _square,
    "mae": _absolute,
    "rmse": _square,
}


def each_loss(plan: TrainingPlan) -> Compare:
    """The plan's loss without the mean: output and target [n, …] → [n] or [n, …]. `plan` is checked."""
    constants, each = loss_constants(plan), EACH[plan.loss]
    return lambda output, target: each(output, target, constants)


def mean_loss(plan: TrainingPlan) -> Compare:
    """The plan's loss of a batch. `plan` is checked."""
    if plan.loss not in _MEANS:
        each = each_loss(plan)
        return lambda output, target: each(output, target).mean()
    constants, mean = loss_constants(plan), _MEANS[plan.loss]
    return lambda output, target: mean(output, target, constants)


def mean_metric(plan: TrainingPlan) -> Compare:
    """The plan's metric of a batch, before `finished`."""
    if plan.metric == "mse" and plan.loss != "elbo":
        return F.mse_loss
    each = EACH_METRIC[plan.metric]
    return lambda output, target: each(output, target).mean()


def loss_constants(plan: TrainingPlan) -> Constants:
    """All constants of the plan's loss."""
    return read_constants("training.loss_constants", LOSSES[plan.loss].constants, plan.loss_constants)


def finished(plan: TrainingPlan, evaluation: Evaluation) -> Evaluation:
    """An evaluation whose metric is what its name says: the mean of squares becomes its root."""
    if plan.metric != "rmse" or evaluation.metric is None:
        return evaluation
    return replace(evaluation, metric=math.sqrt(evaluation.metric))


def shortened(gradient: Tensor, longest: float) -> Tensor:
    """The gradient [p], or its rows [n, p], shortened in place to at most `longest`; 0 leaves it as it is."""
    if longest:
        norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        gradient.mul_((longest / (norm + 1e-6)).clamp(max=1.0))
    return gradient
