"""What every peer does alike: read the plan and the samples, make batches, and tell the harness of rounds."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TOLD_VARIABLE = "BENCH_TOLD"  # the file in which a process tells whose output somebody else has
FOLLOW_S = 0.01


@dataclass(frozen=True)
class Plan:
    """The workload, as the harness writes it to plan.json."""

    num_nodes: int
    model: str
    num_samples: int  # of each node: node k owns the k-th such stretch of rows
    num_rounds: int
    num_steps: int
    batch_size: int
    learning_rate: float
    seed: int
    num_cores: int
    samples: str  # the npz file


@dataclass(frozen=True)
class Samples:
    """Images float32 [n, 28, 28] and classes int64 [n]; the tensors are views of the file's arrays."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


@cache
def read_plan(path: str) -> Plan:
    """Read plan.json, once in each process."""
    return Plan(**json.loads(Path(path).read_text(encoding="utf-8")))


@cache
def read_samples(path: str) -> Samples:
    """Read the samples of all nodes, once in each process."""
    with np.load(path) as archive:
        return Samples(*(torch.from_numpy(archive[name]) for name in ("x", "y", "x_test", "y_test")))


def rows_of(node: int, plan: Plan) -> slice:
    """The rows that a node owns."""
    return slice(node * plan.num_samples, (node + 1) * plan.num_samples)


def new_model(plan: Plan) -> nn.Module:
    """The plan's model with fresh weights: the same ones in every process."""
    torch.manual_seed(plan.seed)
    model: nn.Module = importlib.import_module(f"{__package__}.{plan.model}").build()
    return model


def batches(num_samples: int, batch_size: int, num_steps: int) -> Iterator[Tensor]:
    """Rows of `num_steps` batches of exactly `batch_size` (all rows if there are fewer); a new order each epoch."""
    size = min(batch_size, num_samples)
    start, order = num_samples, torch.empty(0)
    for _ in range(num_steps):
        if start + size > num_samples:
            start, order = 0, torch.randperm(num_samples)
        yield order[start : start + size]
        start += size


class LocalTraining:
    """What one node does in a round: the plan's steps of SGD on its own samples."""

    def __init__(self, plan: Plan, node: int) -> None:
        torch.set_num_threads(1)  # several such processes share few cores
        samples, rows = read_samples(plan.samples), rows_of(node, plan)
        self.model = new_model(plan)
        self._plan = plan
        self.x, self.y = samples.x[rows], samples.y[rows]
        self._optimiser = torch.optim.SGD(self.model.parameters(), lr=plan.learning_rate)
        self._loss = nn.CrossEntropyLoss()
        torch.manual_seed(hash((plan.seed, node)))  # the model is the same in all nodes, the batches are not

    def round_of_batches(self) -> list[tuple[Tensor, Tensor]]:
        """Images and classes of each step of a round."""
        order = batches(len(self.x), self._plan.batch_size, self._plan.num_steps)
        return [(self.x[batch], self.y[batch]) for batch in order]

    def train(self) -> None:
        """Train `model` for a round."""
        self.model.train()
        for x, y in self.round_of_batches():
            self._optimiser.zero_grad()
            self._loss(self.model(x), y).backward()
            self._optimiser.step()


def accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of the test samples that the model tells right."""
    model.eval()
    with torch.no_grad():
        return float((model(samples.x_test).argmax(1) == samples.y_test).float().mean())


class Harness:
    """The way to the harness: our standard output, which from now on is nobody else's.

    Or a file, by a process whose output somebody else has; `follow` hands on what is in it.
    """

    def __init__(self, path: str = "") -> None:
        if path:
            self._stream = Path(path).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115 - for as long as we live
            return
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # progress bars and logs go where errors go

    def follow(self, path: Path, going_on: Callable[[], bool]) -> None:
        """Hand on each line of a file as it comes, up to the one that says how well the model does.

        Raises:
            RuntimeError: It is not going on, and there is no such line.
        """
        with path.open(encoding="utf-8") as told:
            while True:
                goes_on = going_on()
                while line := told.readline():
                    self._stream.write(line)
                    if '"learned"' in line:
                        return
                if not goes_on:
                    raise RuntimeError("it has ended before its rounds were over")
                time.sleep(FOLLOW_S)

    def ready(self, *, at_s: float | None = None) -> None:
        """The first round begins, now or at a CLOCK_MONOTONIC."""
        self._tell(event="ready", t=time.monotonic() if at_s is None else at_s)

    def nodes(self, pids: list[int]) -> None:
        """Each node is a process of its own: one of these."""
        self._tell(event="nodes", pids=pids)

    def round_ended(
        self, number: int, *, models: int | None = None, num_bytes: int | None = None, at_s: float | None = None
    ) -> None:
        """A round has ended; the first is number 1.

        Args:
            number: Of the round.
            models: How often a model has crossed a line between nodes, since the run began.
            num_bytes: What has been sent since then, where only the nodes themselves can count it.
            at_s: When it ended, by CLOCK_MONOTONIC, if that was not just now.
        """
        moment = time.monotonic() if at_s is None else at_s
        self._tell(event="round", round=number, t=moment, models=models, bytes=num_bytes)

    def learned(self, accuracy: float) -> None:
        """All rounds have ended, and the model, or the mean of the models, is as good as that."""
        self._tell(event="learned", accuracy=accuracy)

    def _tell(self, **event: Any) -> None:
        self._stream.write(json.dumps(event) + "\n")
