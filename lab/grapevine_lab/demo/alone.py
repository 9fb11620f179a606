"""What each agent would have reached by itself: really trained, with the same samples, steps and number of rounds.

Run as a child process of the demo, so that PyTorch stays out of the demo's own, at the lowest
priority. It reads `AGENT ROUND` lines, in the order in which the agents reported their rounds, and
answers each with the accuracy that this agent's lonely twin has in that round, as a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_tasks.built import BuiltTask, load_built
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import load_initial

LOWEST_PRIORITY = 19


class Loner:
    """An agent that hears of nobody: the rounds of `core.tasks.learning.Learning`, without the merges.

    Args:
        task: What is learned; also its initial weights, released average and local steps.
        samples: An npz file, as the agent has it.
        seed: Of the order of samples.
    """

    def __init__(self, task: BuiltTask, samples: Path, seed: int) -> None:
        self._plan = task.draft.training
        self._ema = task.draft.merging.ema
        source = DataSource(name=samples.stem, kind=task.draft.data.kind, path=samples)
        self._trainer = LocalTrainer(
            task.draft.program, self._plan, load_samples(task.draft.data, source), seed=seed, num_threads=1
        )
        parameters, buffers = load_initial(ModelLayout.of(task.draft.program), task.weights, task.draft.initial_weights)
        self._model = ModelState.initial(parameters, buffers)

    def accuracy_at(self, round_: int) -> float:
        """Train up to this round and evaluate the model released in it. Rounds that are over keep the newest model."""
        model = self._model
        while model.round < round_:
            if model.round:
                self._train()
            model.round += 1
            model.release(self._ema)
        metric = self._trainer.evaluate(model.released, model.released_buffers).metric
        assert metric is not None, "the demo's samples come with a test set"
        return metric

    def _train(self) -> None:
        model = self._model
        result = self._trainer.train(model.parameters, model.buffers, self._plan.steps_per_round, age=model.age)
        model.age += self._plan.steps_per_round
        model.add_training(
            start=model.parameters,
            end=result.parameters,
            start_buffers=model.buffers,
            end_buffers=result.buffers,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer lines until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_lab.demo.alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("task", type=Path, help="a built task")
    parser.add_argument("samples", type=Path, nargs="+", help="one npz file for each agent")
    options = parser.parse_args(arguments)
    os.nice(LOWEST_PRIORITY)
    task = load_built(options.task)
    loners = [Loner(task, path, options.seed + agent) for agent, path in enumerate(options.samples)]
    for line in sys.stdin:
        agent, round_ = (int(number) for number in line.split())
        accuracy = loners[agent].accuracy_at(round_)
        sys.stdout.write(json.dumps({"agent": agent, "round": round_, "accuracy": accuracy}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
