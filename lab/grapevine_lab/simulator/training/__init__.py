"""Trains the models of many simulated nodes at once.

requests ── Crowd ── jobs ── Crew ── Engine
             │                │        ├─ plain     one model after the other, the device's own steps
             │                │        └─ stacked   many models as the rows of one matrix
             │                ├─ this process
             │                └─ worker processes that share its memory
             └─ what nodes remember: their orders of samples, optimisers, dropout
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from grapevine_lab.simulator.training.interface import CrowdTrainer, EvaluationRequest, TrainingRequest

if TYPE_CHECKING:
    from grapevine_agent.data.preparing import Samples
    from grapevine_proto.manifest import TrainingPlan
    from grapevine_proto.program import Program

__all__ = ["CrowdTrainer", "EvaluationRequest", "TrainingRequest", "make_trainer"]


def make_trainer(
    program: Program,
    plan: TrainingPlan,
    samples: Sequence[Samples],
    *,
    seed: int,
    num_workers: int | None = None,
    how: Literal["auto", "stacked", "plain"] = "auto",
) -> CrowdTrainer:
    """A trainer of as many nodes as there are samples of. It must be closed.

    Args:
        program: Checked.
        plan: The manifest's training plan.
        samples: Of each node, as the data contract wants them. What several nodes share (a common test
            set) is to be the same array, or the same part of one.
        seed: 0 or more.
        num_workers: Processes that train, one thread each; 1 trains in this process, None takes as many as
            there are cores for it. Results do not depend on it.
        how: "plain" trains node after node, "stacked" many in one go, "auto" decides by the program alone.

    Raises:
        TaskError: When a node has no samples.
        ConfigError: When the program cannot be trained stacked, and `how` says so.
    """
    from grapevine_lab.simulator.training.choose import make_crowd  # noqa: PLC0415 — imports PyTorch

    return make_crowd(program, plan, samples, seed=seed, num_workers=num_workers, how=how)
