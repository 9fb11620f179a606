"""What a member says of itself at a task: the metrics that it publishes, and its released models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from grapevine_agent.core.events import Measured
from grapevine_agent.core.moment import Moment
from grapevine_proto.messages import Metrics, ReleasedModel, Share, Which

if TYPE_CHECKING:
    from grapevine_agent.core.learning.learning import Learning

MAX_SHARES_TOLD: Final = 64


def metrics_of(learner: Learning, now: Moment) -> Metrics:
    """How a member is doing, once its released model was evaluated."""
    evaluation, model = learner.evaluation, learner.model
    assert evaluation is not None
    return Metrics(
        task=learner.task,
        round=evaluation.round,
        age=model.age,
        loss=evaluation.loss,
        metric=evaluation.metric,
        num_evaluated=evaluation.num_evaluated,
        staleness=learner.staleness(now),
        energy_j=learner.energy_j,
        round_energy_j=learner.energy.round_j,
        is_metered=learner.energy.by == "metered",
        server=learner.server_state(),
        num_peers=len(learner.members.of_task(learner.task, now.monotonic_s)),
        shares=tuple(
            Share(peer=peer, share=share)
            for peer, share in sorted(learner.merging.shares.items(), key=lambda item: -item[1])[:MAX_SHARES_TOLD]
        ),
        best=learner.best.figure(model.round),
        baseline=evaluation.baseline,
        baseline_name=evaluation.baseline_name,
        metric_in_units=evaluation.metric_in_units,
    )


def measured_of(learner: Learning, metrics: Metrics, now: Moment) -> Measured:
    """The same for the owner."""
    bound = learner.staleness_bound(now)
    return Measured(
        task=learner.task,
        label=learner.manifest.label,
        round=metrics.round,
        age=metrics.age,
        metric_name=learner.manifest.training.metric,
        metric=metrics.metric,
        loss=metrics.loss,
        num_evaluated=metrics.num_evaluated,
        baseline=metrics.baseline,
        baseline_name=metrics.baseline_name,
        best=metrics.best,
        staleness=metrics.staleness,
        staleness_bound=bound if math.isfinite(bound) else None,
        server=metrics.server,
        num_peers=metrics.num_peers,
        energy_j=metrics.energy_j,
        round_energy_j=metrics.round_energy_j,
    )


def released_of(learner: Learning, which: Which) -> ReleasedModel:
    """A member's best released model, or its latest one; the latest where it has measured none."""
    model, evaluation, held = learner.model, learner.evaluation, learner.best.held
    latest = ReleasedModel(
        task=learner.task,
        strategy=learner.manifest.merging.strategy,
        age=model.age,
        steps=model.schedule_age,
        round=model.round,
        version=model.version,
        full=model.released,
        buffers=model.released_buffers,
        contributions=learner.merging.contributions(),
        num_evaluated=evaluation.num_evaluated if evaluation is not None else 0,
        loss=evaluation.loss if evaluation is not None else None,
        metric=evaluation.metric if evaluation is not None else None,
        best=learner.best.figure(model.round),
        latest=learner.best.latest,
        baseline=evaluation.baseline if evaluation is not None else None,
        baseline_name=evaluation.baseline_name if evaluation is not None else "",
    )
    if which == "latest" or held is None:
        return latest
    return replace(
        latest,
        age=held.asked.age,
        steps=held.asked.steps,
        round=held.asked.round,
        version=held.asked.version,
        full=held.asked.parameters,
        buffers=held.asked.buffers,
        contributions=held.contributions,
        num_evaluated=held.num_evaluated,
        loss=held.loss,
        metric=held.metric,
        which="best",
    )
