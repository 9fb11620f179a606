"""Which engine trains a program: a rule on the program alone, so that a run is the same on every machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from grapevine_lab.simulator.training.jobs import Commons, Engine, EvaluateJob, How, TrainJob
from grapevine_lab.simulator.training.plain import PlainEngine
from grapevine_lab.simulator.training.stacked import StackedEngine, why_no_tape
from grapevine_proto.errors import TaskError
from grapevine_proto.program import Operator, Program
from grapevine_tasks.checks import EVALUATION_BATCH, TO_LOOK_AT, check_program
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.randomness import random_operators

# A core's second-level cache holds the parameters of a job, their gradients and their moments.
_PARAMETER_BYTES = 1_600_000
_INTERMEDIATE_BYTES = 16 * 2**20  # of any one value of all models of a job, when they are evaluated
_MOST_MODELS = 32  # from there on, calling operators costs little beside what they do
# Recorded by autograd, with a dimension more, these take longer than one after the other; on a tape less.
_CONVOLUTIONS = frozenset({Operator.CONV1D, Operator.CONV2D})
_ANY_SIZE = replace(TO_LOOK_AT, largest_batch=EVALUATION_BATCH, num_nodes=2**62, constant_bytes=2**62)


def new_engine(how: How, commons: Commons) -> Engine:
    """The engine of this name."""
    return StackedEngine(commons) if how == "stacked" else PlainEngine(commons)


def models_at_once(program: Program) -> int:
    """How many models a stacked job has at most: so many that they fit a core's cache, 1 to 32."""
    report = check_program(program, _ANY_SIZE)
    by_parameters = _PARAMETER_BYTES // (4 * max(1, report.num_parameters))
    by_intermediates = _INTERMEDIATE_BYTES // max(1, report.largest_intermediate_bytes)
    return max(1, min(_MOST_MODELS, by_parameters, by_intermediates))


def why_not_stacked(commons: Commons) -> str:
    """Why many models of this program are not to be trained in one go; empty if they are."""
    program = commons.program
    operators = {node.operator for node in (*program.train.nodes, *program.eval.nodes)}
    if convolutions := sorted(operator.name for operator in operators & _CONVOLUTIONS):
        if problem := why_no_tape(program):
            return f"it has {', '.join(convolutions)}, which take longer for many models at once unless {problem}"
    elif models_at_once(program) == 1:
        return "one model alone fills a core's cache"
    return fails_stacked(commons)


def fails_stacked(commons: Commons) -> str:
    """What fails when a step of two models of this program is tried; empty if nothing does."""
    if drawn := sorted(op.name for op in random_operators(commons.program.train) - {Operator.DROPOUT}):
        return f"it has {', '.join(drawn)}, which cannot draw for each model from a generator of its own"
    layout = ModelLayout.of(commons.program)
    x, y = commons.x[0][:1], commons.y[0][:1]
    moments = np.zeros((2, commons.moments.shape[1], layout.num_parameters), np.float32)
    models = np.zeros((2, layout.num_parameters + layout.num_buffers), np.float32)
    state = torch.Generator().get_state().numpy().tobytes()
    batches = np.zeros((2, 1, 2), np.int32)
    try:
        engine = StackedEngine(replace(commons, x=[x, x], y=[y, y], x_test=[x], y_test=[y], moments=moments))
        engine.evaluate(EvaluateJob(test=0, num_models=2, start=0, end=1), models)
        trained = engine.train(
            TrainJob(nodes=(0, 1), batches=batches, num_steps=(0, 0), ages=(0, 0), dropout=(state, state)), models
        )
    except (TaskError, RuntimeError, ValueError, IndexError, TypeError) as error:
        return str(error)
    return next((outcome.problem for outcome in trained.outcomes if outcome.num_steps == 0), "")
