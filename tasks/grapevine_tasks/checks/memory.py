"""How much memory training and evaluating a checked program takes, found out without running it.

Two figures come from one walk (`passes`). The *estimate* is for people and for matching: close to what a
trainer's memory grows by. The *bound* is what `check_program` holds against a device's limit: no program
takes more, whatever it says. Both follow the trainer (`grapevine_agent.training.local_steps`):

* **Copies of the model.** The flat parameter vector, the request's copy, two slots of memory shared
  with the service, the optimiser's moments; then gradients tensor by tensor, their concatenation, the
  optimiser's scratch. What a step made lives until the next step replaces it: gradients, their
  concatenation, the output. At a round's end comes the trained model, and a check that it is finite.
* **Forward.** Values live from the node that makes them to the last that reads them, or until the
  backward pass if autograd keeps them. A view costs nothing and keeps its memory alive.
* **Backward.** From the last node to the first: the gradients of the arguments come, then the
  gradient of the result and what the node kept are freed. Gradients of parameters stay.

The largest sum along the way is the peak. Memory that PyTorch itself takes, and the samples, come on
top: they are there before the first step.

The two differ in what an operator takes. The estimate knows each (`footprints`); the bound trusts no detail
of a kernel (`ceilings`): every operator may keep all that it reads and makes, kernels may take what they took in
the worst case that was found, every optimiser is Adam, and the libraries may set aside `LIBRARY_BYTES` when they
first compute something large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.program import Program
from grapevine_tasks.checks.ceilings import bounded
from grapevine_tasks.checks.footprints import estimated
from grapevine_tasks.checks.passes import Pass, Rules
from grapevine_tasks.checks.report import EVALUATION_BATCH, MIB, CheckReport
from grapevine_tasks.sizes import ValueType

SHARED_SLOTS = 2  # of the memory that a trainer shares with its service
MOST_MOMENTS = 2  # that any optimiser remembers: vectors of the parameters' size
LIBRARY_BYTES = (
    8 * MIB
)  # buffers of MKL and oneDNN (up to 6 MB, by the processor), code that oneDNN writes for new shapes
ABOUT = Rules(node=estimated, loss_keeps=1)
AT_MOST = Rules(node=bounded, loss_keeps=3, loss_forward=3, loss_backward=5, is_cautious=True)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes beyond what the trainer takes before its first step. See the module's docstring."""

    model_bytes: int  # copies of the parameters and buffers that are there all the time
    optimiser_bytes: int  # moments
    gradient_bytes: int  # of the peak: old, new, joined
    activation_bytes: int  # of the peak: values, what autograd keeps, workspaces
    training_bytes: int  # the peak of a training step: the four above
    evaluation_bytes: int  # the peak of an evaluation

    @property
    def peak_bytes(self) -> int:
        """What a trainer needs for both."""
        return max(self.training_bytes, self.evaluation_bytes)


def estimate_memory(program: Program, report: CheckReport, plan: TrainingPlan) -> MemoryEstimate:
    """The memory that a trainer takes for this program and plan. `report` is the program's own."""
    p, b = 4 * report.num_parameters, 4 * report.num_buffers
    num_moments = _num_moments(plan)
    training = Pass(program, program.train, report.train_values, plan.batch_size, learns=True, rules=ABOUT).peak
    evaluation = Pass(program, program.eval, report.eval_values, EVALUATION_BATCH, learns=False, rules=ABOUT).peak
    old = 2 * p if plan.steps_per_round > 1 else 0  # tensor by tensor, and joined
    ending = 3 * p + _finite_bytes(p)  # gradients, joined, the trained model; then, a step takes no more than that
    in_backward = training + old >= ending
    model, moments = _model_bytes(p, b), num_moments * p
    activations = training - p if in_backward else 0
    gradients = old + p if in_backward else ending
    return MemoryEstimate(
        model_bytes=model,
        optimiser_bytes=moments,
        gradient_bytes=gradients,
        activation_bytes=activations,
        training_bytes=model + moments + gradients + activations,
        evaluation_bytes=model + moments + p + evaluation,
    )


def bound_memory(
    program: Program,
    train_values: Sequence[ValueType],
    eval_values: Sequence[ValueType],
    *,
    batch: int,
    evaluation_batch: int,
) -> int:
    """Bytes that a trainer never takes more than. See the module's docstring."""
    p = 4 * sum(math.prod(spec.shape) for spec in program.parameters)
    b = 4 * sum(math.prod(spec.shape) for spec in program.buffers)
    train = Pass(program, program.train, train_values, batch, learns=True, rules=AT_MOST)
    evaluation = Pass(program, program.eval, eval_values, evaluation_batch, learns=False, rules=AT_MOST)
    stepping = train.left + p + train.peak  # what the step before left; its gradients, joined
    joining = train.left + 3 * p  # gradients in order, joined, and those of the step before
    ending = train.left + 2 * p + b + _finite_bytes(p + b)
    most = max(stepping, joining, ending, p + b + evaluation.peak)
    return _model_bytes(p, b) + MOST_MOMENTS * p + most + LIBRARY_BYTES


def _model_bytes(p: int, b: int) -> int:
    """The flat vector, a request's copy of the model and the buffers of the step, and the slots."""
    return 2 * p + 2 * b + SHARED_SLOTS * (p + b)


def _finite_bytes(num_bytes: int) -> int:
    """One bool for each float32: whether it is finite."""
    return num_bytes // 4


def _num_moments(plan: TrainingPlan) -> int:
    if plan.optimiser.name == "sgd":
        return 1 if plan.optimiser.momentum else 0
    return MOST_MOMENTS
