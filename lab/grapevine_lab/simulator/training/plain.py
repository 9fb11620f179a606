"""Training one node after the other, with the device's own steps."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch

from grapevine_agent.training.local_steps import LocalSteps, as_tensor, lent_randomness
from grapevine_agent.training.optimisers import Memory
from grapevine_lab.simulator.training.jobs import Commons, Evaluated, EvaluateJob, Models, Outcome, Trained, TrainJob
from grapevine_lab.simulator.training.quick_pooling import QuickInterpreter
from grapevine_proto.errors import TaskError


class PlainEngine:
    """Does jobs of one or more models, one model at a time: what `LocalTrainer` would give, bit for bit."""

    def __init__(self, commons: Commons) -> None:
        self._commons = commons
        self._steps = LocalSteps(commons.program, commons.plan, interpreter=QuickInterpreter(commons.program))
        self._split = self._steps.layout.num_parameters

    def train(self, job: TrainJob, models: Models) -> Trained:
        """Train the models in place; where there is a problem, what is left there means nothing."""
        outcomes = []
        each = zip(job.nodes, job.num_steps, job.ages, job.dropout, strict=True)
        for k, (node, num_steps, age, dropout) in enumerate(each):
            memory = Memory(torch.from_numpy(self._commons.moments[node]), num_steps)
            state = torch.from_numpy(np.frombuffer(dropout, np.uint8).copy())
            x, y = as_tensor(self._commons.x[node]), as_tensor(self._commons.y[node])
            batches = torch.from_numpy(job.batches[k].astype(np.int64))
            loss, problem = float("nan"), ""
            with lent_randomness(state) if dropout else nullcontext():
                try:
                    result = self._steps.train(*self._halves(models, k), x, y, batches, memory, age=age)
                except TaskError as error:
                    problem = str(error)
                else:
                    loss = result.loss
                    models[k, : self._split], models[k, self._split :] = result.parameters, result.buffers
            outcomes.append(
                Outcome(loss=loss, num_steps=memory.num_steps, dropout=state.numpy().tobytes(), problem=problem)
            )
        return Trained(outcomes=tuple(outcomes))

    def evaluate(self, job: EvaluateJob, models: Models) -> Evaluated:
        """Evaluate the models."""
        x, y = (as_tensor(each[job.start : job.end]) for each in self._commons.tested_on(job.test))
        scores = (self._steps.scores(*self._halves(models, k), x, y) for k in range(job.num_models))
        return Evaluated(scores=tuple(map(tuple, scores)))

    def _halves(self, models: Models, k: int) -> tuple[Models, Models]:
        return models[k, : self._split], models[k, self._split :]
