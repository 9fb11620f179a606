"""Training many nodes in one go: their models are the rows of one matrix.

A node's model of some ten thousand parameters keeps no core busy: most of a step's time goes into
calling operators. Here an operator is called once for all models of a job, and the optimiser passes
once over all of their parameters. Each row is computed by itself, from its own samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grapevine_agent.training.local_steps import as_tensor, diverged
from grapevine_agent.training.losses import EACH_METRIC, each_loss, shortened
from grapevine_agent.training.schedules import learning_rate
from grapevine_agent.training.scores import Score
from grapevine_lab.simulator.training.jobs import Commons, Evaluated, EvaluateJob, Models, Outcome, Trained, TrainJob
from grapevine_lab.simulator.training.row_losses import by_rows, row_slopes
from grapevine_lab.simulator.training.row_optimiser import RowOptimiser, only_descends
from grapevine_lab.simulator.training.stacked_interpreter import StackedInterpreter
from grapevine_lab.simulator.training.tape import IntoGradient, OntoParameters, Tape
from grapevine_proto.errors import TaskError
from grapevine_proto.program import Program
from grapevine_tasks.checks import EVALUATION_BATCH
from grapevine_tasks.layout import Entry, ModelLayout

_GATHERED_BYTES = 2 * 2**20  # of samples that are brought into the order of training at a time


class StackedEngine:
    """Does jobs of many models together."""

    def __init__(self, commons: Commons) -> None:
        self._commons = commons
        self._layout = ModelLayout.of(commons.program)
        self._split = self._layout.num_parameters
        self._train = StackedInterpreter(commons.program, stacked_inputs=True)
        self._evaluate = StackedInterpreter(commons.program, stacked_inputs=False)
        self._tape = None if why_no_tape(commons.program) else Tape(self._train)
        self._loss, self._slopes = by_rows(each_loss(commons.plan)), row_slopes(commons.plan)
        self._metric = by_rows(EACH_METRIC[commons.plan.metric])
        self._rate = learning_rate(commons.plan)

    def train(self, job: TrainJob, models: Models) -> Trained:
        """Train the models in place; where there is a problem, what is left there means nothing."""
        rows = torch.from_numpy(models)
        self._train.generators = [_generator(state) for state in job.dropout if state]
        try:
            total = self._take_steps(job, rows)
        except TaskError as error:  # an operator's: of the same batch, it would fail for each of them alone
            return Trained(
                outcomes=tuple(
                    Outcome(loss=math.nan, num_steps=0, dropout=state, problem=str(error)) for state in job.dropout
                )
            )
        return Trained(outcomes=self._outcomes(job, rows, total))

    def _take_steps(self, job: TrainJob, rows: Tensor) -> Tensor:
        """Train in place; the sum of each model's losses."""
        leaves = _views(rows[:, : self._split], self._layout.parameters)
        buffers = _views(rows[:, self._split :], self._layout.buffers)
        if self._tape is None:
            leaves = [leaf.requires_grad_() for leaf in leaves]
            total, buffers = self._recorded(job, rows, leaves, buffers)
        else:
            with torch.no_grad():
                descend = self._tape.reads_once and only_descends(self._commons.plan)
                steps = self._descending if descend else self._optimised
                total, buffers = steps(self._tape, job, rows, leaves, buffers)
        for entry, buffer in zip(self._layout.buffers, buffers, strict=True):
            rows[:, self._split :][:, entry.span] = buffer.reshape(len(rows), -1)
        return total

    def _descending(
        self, tape: Tape, job: TrainJob, rows: Tensor, leaves: list[Tensor], buffers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Plain descent: each gradient goes onto its parameters as it is found, none is kept.

        What descends is the loss times the rate, so that what is found needs no more factor.
        """
        total, ones = torch.zeros(len(rows)), torch.ones(len(rows))
        sinks = [OntoParameters(leaf) for leaf in leaves]
        for step, (x, y) in enumerate(self._batches(job)):
            output, buffers = tape.forward((x,), leaves, buffers)
            rates = torch.tensor([-self._rate(age + step) for age in job.ages])
            losses, slopes = self._slopes(output, y, ones * rates)
            tape.backward(slopes, sinks)
            total += losses
        return total, buffers

    def _optimised(
        self, tape: Tape, job: TrainJob, rows: Tensor, leaves: list[Tensor], buffers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Steps of an optimiser that wants the gradients, which are written where it reads them."""
        total, ones = torch.zeros(len(rows)), torch.ones(len(rows))
        gradients, optimiser = self._optimiser(job, rows)
        sinks = [IntoGradient(view) for view in _views(gradients, self._layout.parameters)]
        for step, (x, y) in enumerate(self._batches(job)):
            output, buffers = tape.forward((x,), leaves, buffers)
            losses, slopes = self._slopes(output, y, ones)
            for sink in sinks:
                sink.begin()
            tape.backward(slopes, sinks)
            shortened(gradients, self._commons.plan.max_gradient_norm)
            optimiser.step([self._rate(age + step) for age in job.ages])
            total += losses
        return total, buffers

    def _recorded(
        self, job: TrainJob, rows: Tensor, leaves: list[Tensor], buffers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """As `_optimised`, with gradients from autograd, of operators that a tape has no rule for."""
        total = torch.zeros(len(rows))
        gradients, optimiser = self._optimiser(job, rows)
        into = _views(gradients, self._layout.parameters)
        for step, (x, y) in enumerate(self._batches(job)):
            output, buffers = self._train.run("train", (x,), leaves, buffers)
            losses = self._loss(output, y)
            found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True, materialize_grads=True)
            for view, gradient in zip(into, found, strict=True):
                view.copy_(gradient)
            shortened(gradients, self._commons.plan.max_gradient_norm)
            optimiser.step([self._rate(age + step) for age in job.ages])
            total += losses.detach()
        return total, buffers

    def _optimiser(self, job: TrainJob, rows: Tensor) -> tuple[Tensor, RowOptimiser]:
        """Gradients of all rows, zeros, and what takes steps by them."""
        gradients = torch.zeros(len(rows), self._split)
        return gradients, RowOptimiser(
            self._commons.plan.optimiser,
            parameters=[row[: self._split] for row in rows],
            gradients=list(gradients),
            moments=[torch.from_numpy(self._commons.moments[node]) for node in job.nodes],
            num_steps=job.num_steps,
        )

    def evaluate(self, job: EvaluateJob, models: Models) -> Evaluated:
        """Evaluate the models."""
        x, y = (as_tensor(each[job.start : job.end]) for each in self._commons.tested_on(job.test))
        rows = torch.from_numpy(models)
        parameters = _views(rows[:, : self._split], self._layout.parameters)
        buffers = _views(rows[:, self._split :], self._layout.buffers)
        scores: list[list[Score]] = [[] for _ in models]
        with torch.no_grad():
            for start in range(0, len(x), EVALUATION_BATCH):
                part, target = x[start : start + EVALUATION_BATCH], y[start : start + EVALUATION_BATCH]
                output = self._evaluate.run("eval", (part,), parameters, buffers)[0]
                targets = target.expand(len(models), *target.shape)
                losses, metrics = self._loss(output, targets).tolist(), self._metric(output, targets).tolist()
                for own, loss, metric in zip(scores, losses, metrics, strict=True):
                    own.append(Score(loss=loss, metric=metric, num_samples=len(part)))
        return Evaluated(scores=tuple(map(tuple, scores)))

    def _batches(self, job: TrainJob) -> Iterator[tuple[Tensor, Tensor]]:
        """Each step's samples and targets: [models, batch, …]."""
        num_steps = job.batches.shape[1]
        x, y = ([as_tensor(arrays[node]) for node in job.nodes] for arrays in (self._commons.x, self._commons.y))
        step_bytes = job.batches[:, 0].size * max(1, x[0][0].numel()) * x[0].element_size()
        at_once = max(1, _GATHERED_BYTES // step_bytes)
        for first in range(0, num_steps, at_once):
            part = job.batches[:, first : first + at_once]
            gathered_x, gathered_y = _gathered(x, part), _gathered(y, part)
            for step in range(part.shape[1]):
                yield gathered_x[:, step], gathered_y[:, step]

    def _outcomes(self, job: TrainJob, rows: Tensor, total: Tensor) -> tuple[Outcome, ...]:
        num_steps = job.batches.shape[1]
        finite = torch.isfinite(rows.sum(1))
        if not finite.all():  # or only a sum was too large
            finite = torch.isfinite(rows).all(1)
        generators = iter(self._train.generators)
        outcomes = []
        for k, loss in enumerate((total / num_steps).tolist()):
            fine = bool(finite[k]) and math.isfinite(loss)
            state = next(generators).get_state().numpy().tobytes() if job.dropout[k] else b""
            outcomes.append(
                Outcome(
                    loss=loss,
                    num_steps=job.num_steps[k] + num_steps if fine else 0,
                    dropout=state,
                    problem="" if fine else str(diverged(loss)),
                )
            )
        return tuple(outcomes)


def _views(rows: Tensor, entries: tuple[Entry, ...]) -> list[Tensor]:
    """The named tensors of each row: [models, *shape]."""
    return [rows[:, entry.span].view(len(rows), *entry.shape).detach() for entry in entries]


def _gathered(samples: list[Tensor], batches: NDArray[np.int32]) -> Tensor:
    """Of each model its samples in the order of `batches` [models, steps, batch]: [models, steps, batch, …]."""
    gathered = samples[0].new_empty((*batches.shape, *samples[0].shape[1:]))
    for row, own, numbers in zip(gathered, samples, torch.from_numpy(batches), strict=True):
        torch.index_select(own, 0, numbers.reshape(-1), out=row.flatten(0, 1))
    return gathered


def why_no_tape(program: Program) -> str:
    """Why the gradients of this program are autograd's to find; empty if a tape finds them."""
    try:
        Tape(StackedInterpreter(program, stacked_inputs=True))
    except TaskError as error:
        return str(error)
    return ""


def _generator(state: bytes) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(np.frombuffer(state, np.uint8).copy()))
    return generator
