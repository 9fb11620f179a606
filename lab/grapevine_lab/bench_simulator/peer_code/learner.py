"""What every peer does alike: read the plan and the samples, make batches, and tell the harness of rounds."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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


def accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of the test samples that the model tells right."""
    model.eval()
    with torch.no_grad():
        return float((model(samples.x_test).argmax(1) == samples.y_test).float().mean())


class Harness:
    """The way to the harness: our standard output, which from now on is nobody else's."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)  # progress bars and logs go where errors go

    def ready(self) -> None:
        """The first round begins."""
        self._tell(event="ready", t=time.monotonic())

    def round_ended(self, number: int) -> None:
        """A round has ended; the first is number 1."""
        self._tell(event="round", round=number, t=time.monotonic())

    def learned(self, accuracy: float) -> None:
        """All rounds have ended, and the model, or the mean of the models, is as good as that."""
        self._tell(event="learned", accuracy=accuracy)

    def _tell(self, **event: Any) -> None:
        self._stream.write(json.dumps(event) + "\n")
