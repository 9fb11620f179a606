"""How a model did on batches of samples, and what that is in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grapevine_agent.training.results import Evaluation


@dataclass(frozen=True, kw_only=True)
class Score:
    """Loss and metric of a model, means over a batch of `num_samples`."""

    loss: float
    metric: float
    num_samples: int


def mean_score(scores: Sequence[Score]) -> Evaluation:
    """The mean over the samples of all batches; no figures when there are none."""
    num_samples = sum(score.num_samples for score in scores)
    if not num_samples:
        return Evaluation(loss=None, metric=None, num_samples=0)
    loss = metric = 0.0
    for score in scores:
        loss += score.loss * score.num_samples
        metric += score.metric * score.num_samples
    return Evaluation(loss=loss / num_samples, metric=metric / num_samples, num_samples=num_samples)
