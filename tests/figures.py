"""Figures of an evaluation that did measure something."""

from __future__ import annotations

from grapevine_agent.training.results import Evaluation


def metric_of(evaluation: Evaluation) -> float:
    """Its metric."""
    assert evaluation.metric is not None
    return evaluation.metric


def loss_of(evaluation: Evaluation) -> float:
    """Its loss."""
    assert evaluation.loss is not None
    return evaluation.loss
