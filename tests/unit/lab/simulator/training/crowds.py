"""Small tasks and crowds to train, and the trainers that devices would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_agent.training.results import TrainingResult
from grapevine_lab.simulator.training import CrowdTrainer, EvaluationRequest, TrainingRequest
from grapevine_lab.simulator.training.crowd import node_seed
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TrainingPlan
from grapevine_proto.messages import Vector
from grapevine_proto.program import Program
from grapevine_tasks.authoring.export import build_program
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights

SEED = 5
NUM_CLASSES = 4
Model = tuple[Vector, Vector]


@dataclass(frozen=True)
class Net:
    """A program, its initial model and the shape of a sample."""

    program: Program
    model: Model
    shape: tuple[int, ...]


class Noisy(nn.Module):
    """Draws otherwise than by dropout of its own: noise, and dropout between recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(4, 8, num_layers=2, dropout=0.4, batch_first=True), nn.Linear(8, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read = self.gru(x.reshape(-1, 3, 4))[0][:, -1]
        output: torch.Tensor = self.out(read + 0.1 * torch.randn_like(read) if self.training else read)
        return output


@cache
def net(name: str) -> Net:
    torch.manual_seed(0)
    match name:
        case "mlp":
            return net_of(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES)), (12,))
        case "dropping":
            layers: list[nn.Module] = [nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3)]
            layers += [nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, NUM_CLASSES)]
            return net_of(nn.Sequential(*layers), (12,))
        case "noisy":
            return net_of(Noisy(), (12,))
        case _:
            # What a bias adds before a batch norm is taken away again: Adam would take steps by its rounding.
            layers = [nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)]
            layers += [
                nn.Conv2d(4, 6, 3, bias=name != "unbiased cnn"),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=1),
            ]
            return net_of(nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, NUM_CLASSES)), (1, 12, 12))


def net_of(module: nn.Module, shape: tuple[int, ...]) -> Net:
    program, weights = build_program(module, torch.zeros(3, *shape))
    return Net(program, decode_weights(ModelLayout.of(program), weights), shape)


def crowd(shape: tuple[int, ...], num_nodes: int, *, num_test: int = 300) -> list[Samples]:
    """Nodes with 10, 17, 24, … samples that can be learnt, and a common test set."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(NUM_CLASSES, *shape))

    def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, NUM_CLASSES, number)
        return (centres[y] + rng.normal(size=(number, *shape))).astype(np.float32), y

    x_test, y_test = drawn(num_test)
    nodes = [drawn(10 + 7 * k) for k in range(num_nodes)]
    return [Samples(x=x, y=y, x_test=x_test, y_test=y_test) for x, y in nodes]


def devices(program: Program, plan: TrainingPlan, samples: Sequence[Samples]) -> list[LocalTrainer]:
    """What the same nodes would have as devices."""
    return [LocalTrainer(program, plan, own, seed=node_seed(SEED, node)) for node, own in enumerate(samples)]


@contextmanager
def one_thread() -> Iterator[None]:
    """A simulated node's numbers are those of one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def asks(models: dict[int, Model], num_steps: int) -> list[TrainingRequest]:
    return [
        TrainingRequest(node=node, parameters=parameters, buffers=buffers, num_steps=num_steps)
        for node, (parameters, buffers) in models.items()
    ]


def looks(models: dict[int, Model]) -> list[EvaluationRequest]:
    return [
        EvaluationRequest(node=node, parameters=parameters, buffers=buffers)
        for node, (parameters, buffers) in models.items()
    ]


def fine(result: TrainingResult | TaskError) -> TrainingResult:
    assert isinstance(result, TrainingResult), result
    return result


def some_rounds(trainer: CrowdTrainer, model: Model, num_nodes: int, first_round: int = 0) -> dict[int, Model]:
    """Three rounds, in each of which two nodes of three take steps, every second of them one more."""
    models = dict.fromkeys(range(num_nodes), model)
    for k in range(first_round, first_round + 3):
        chosen = {node: models[node] for node in range(num_nodes) if (node + k) % 3}
        requests = [
            TrainingRequest(node=node, parameters=parameters, buffers=buffers, num_steps=3 + node % 2, age=k + node)
            for node, (parameters, buffers) in chosen.items()
        ]
        for request, result in zip(requests, map(fine, trainer.train(requests)), strict=True):
            models[request.node] = (result.parameters, result.buffers)
            assert result.num_samples == request.num_steps * min(8, 10 + 7 * request.node)
    return models


def the_same_on_devices(trainers: list[LocalTrainer], model: Model) -> dict[int, Model]:
    """`some_rounds`, by devices."""
    models = dict.fromkeys(range(len(trainers)), model)
    for k in range(3):
        for node, trainer in enumerate(trainers):
            if (node + k) % 3:
                result = trainer.train(*models[node], 3 + node % 2, age=k + node)
                models[node] = (result.parameters, result.buffers)
    return models
