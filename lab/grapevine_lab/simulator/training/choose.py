"""Makes the trainer of a crowd."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.optimisers import num_moments
from grapevine_lab.simulator.training.crews import SLOTS_PER_WORKER, Crew, LocalCrew, WorkerCrew
from grapevine_lab.simulator.training.crowd import Crowd, distinct_tests
from grapevine_lab.simulator.training.engines import fails_stacked, models_at_once, new_engine, why_not_stacked
from grapevine_lab.simulator.training.jobs import Commons, How
from grapevine_lab.simulator.training.sharing import share
from grapevine_proto.errors import ConfigError, TaskError
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.program import Program
from grapevine_tasks.layout import ModelLayout


def make_crowd(
    program: Program,
    plan: TrainingPlan,
    samples: Sequence[Samples],
    *,
    seed: int,
    num_workers: int | None,
    how: str,
) -> Crowd:
    """See `grapevine_lab.simulator.training.make_trainer`."""
    if not samples:
        raise TaskError("there are no nodes to train")
    if empty := [node for node, own in enumerate(samples) if len(own.x) == 0]:
        raise TaskError(f"node {empty[0]} has no samples to train on")
    test_sets, owners = distinct_tests([own.x_test for own in samples], [own.y_test for own in samples])
    num_parameters = ModelLayout.of(program).num_parameters
    commons = Commons(
        program=program,
        plan=plan,
        x=[own.x for own in samples],
        y=[own.y for own in samples],
        x_test=[samples[node].x_test for node in owners],
        y_test=[samples[node].y_test for node in owners],
        moments=np.zeros((len(samples), num_moments(plan.optimiser), num_parameters), np.float32),
    )
    chosen = _choose(commons, how)
    at_once = models_at_once(program) if chosen == "stacked" else 1
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0))
    crew, commons = _crew(commons, chosen, at_once, num_workers)
    return Crowd(commons, test_sets, crew, how=chosen, at_once=at_once, seed=seed)


def _choose(commons: Commons, how: str) -> How:
    if how == "plain":
        return "plain"
    if how == "stacked":
        if problem := fails_stacked(commons):
            raise ConfigError(f'this task cannot be trained stacked ({problem}); write trainer = "plain"')
        return "stacked"
    if how == "auto":
        return "plain" if why_not_stacked(commons) else "stacked"
    raise ConfigError(f'nodes are trained "auto", "stacked" or "plain", not {how!r}')


def _crew(commons: Commons, how: How, at_once: int, num_workers: int) -> tuple[Crew, Commons]:
    """Who does the jobs, and what jobs refer to where that crew sees it."""
    layout = ModelLayout.of(commons.program)
    width = layout.num_parameters + layout.num_buffers
    if num_workers == 1:
        return LocalCrew(new_engine(how, commons), width), commons
    if num_workers < 1:
        raise ConfigError(f"{num_workers} workers cannot train; write 1 or more")
    shared = share(commons, how, num_slots=SLOTS_PER_WORKER * num_workers, slot_shape=(at_once, width))
    try:
        return WorkerCrew(shared), shared.commons
    finally:
        os.close(shared.fd)
