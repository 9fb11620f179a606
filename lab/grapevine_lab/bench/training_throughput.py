"""`training_throughput`, `evaluation_throughput`: the simulator's trainer against a plain PyTorch loop.

Conventions. The plain loop is what one writes without a simulator: an eager module and an optimiser of
`torch.optim` for each node, trained one after the other. It evaluates in batches of the size in which the
trainer does, without gradients. Ours is `make_trainer` with its defaults, models handed over as vectors and
back. Both take as many steps of as many samples, each node from samples of its own in an order that is
drawn as it goes.

The plain loop runs with as many threads as PyTorch takes by itself, and again with one: on small models, or
when something else runs, many threads wait for each other. A ratio is to the faster of the two. All take
turns, and a ratio is of one turn of each, so whatever else this machine does disturbs all of them. Samples
are random numbers: nothing here depends on what is learnt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import psutil

from grapevine_agent.data.preparing import Samples
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_tasks.checks import EVALUATION_BATCH
from grapevine_tasks.layout import ModelLayout

if TYPE_CHECKING:
    from torch import nn

    from grapevine_lab.simulator.training import CrowdTrainer
    from grapevine_proto.messages import Vector

NAME = "training_throughput"
EVALUATION = "evaluation_throughput"
CONVOLUTIONAL = Target(limit=3.0, at_most=False)
STACKED = Target(limit=4.0, at_most=False)
NUM_TEST = 10_000
NUM_CLASSES = 10
NUM_REPETITIONS = 7
GB_NEEDED = 4.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, and what is asked of it."""

    what: str
    network: Literal["cnn", "784-64-10", "64-64-10"]
    optimiser: Optimiser
    num_nodes: int
    num_samples: int  # of each node
    batch_size: int
    num_steps: int
    num_evaluated: int = 0  # models, each on the common test set
    target: Target | None = None


ADAM = Optimiser(name="adam", learning_rate=1e-3)
SGD = Optimiser(learning_rate=0.05)
CASES = (
    Case(
        what="CNN, Adam, batch 64",
        network="cnn",
        optimiser=ADAM,
        num_nodes=6,
        num_samples=1920,
        batch_size=64,
        num_steps=30,
        num_evaluated=2,
        target=CONVOLUTIONAL,
    ),
    *(
        Case(
            what=f"{network}, 100 nodes, {optimiser.name}, batch {batch_size}",
            network=network,
            optimiser=optimiser,
            num_nodes=100,
            num_samples=100,
            batch_size=batch_size,
            num_steps=10,
            num_evaluated=10 if batch_size == 32 and optimiser is ADAM else 0,
            target=STACKED,
        )
        for network in ("784-64-10", "64-64-10")
        for optimiser in (ADAM, SGD)
        for batch_size in (32, 10)
    ),
)


def missing() -> str:
    """Why this machine cannot run it; empty if it can."""
    available = psutil.virtual_memory().available / 1e9
    return "" if available > GB_NEEDED else f"needs {GB_NEEDED} GB of free memory, {available:.1f} GB are free"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure every case."""
    found: list[Figure] = []
    for case in CASES:
        say(case.what)
        found += measure(case)
    return found


def measure(case: Case, num_repetitions: int = NUM_REPETITIONS) -> list[Figure]:
    """The figures of one case."""
    from grapevine_lab.simulator.training import make_trainer  # noqa: PLC0415 — imports PyTorch
    from grapevine_tasks.authoring.export import build_program  # noqa: PLC0415
    from grapevine_tasks.weights import decode_weights  # noqa: PLC0415

    module, samples = _network(case.network), _samples(case)
    program, weights = build_program(module, _tensor(samples[0].x[:3]))
    model = decode_weights(ModelLayout.of(program), weights)
    plan = TrainingPlan(optimiser=case.optimiser, batch_size=case.batch_size)
    plain = _PlainLoop(case, module, samples)
    trainer = make_trainer(program, plan, samples, seed=0)
    try:
        found = _compared(
            NAME,
            case.what,
            "steps/s",
            case.num_nodes * case.num_steps,
            lambda: _train(trainer, case, model),
            plain.train,
            num_repetitions,
            case.target,
        )
        if case.num_evaluated:
            found += _compared(
                EVALUATION,
                case.what.split(",")[0],
                "samples/s",
                case.num_evaluated * NUM_TEST,
                lambda: _evaluate(trainer, case, model),
                plain.evaluate,
                num_repetitions,
                None,
            )
    finally:
        trainer.close()
    return found


def _compared(
    name: str,
    what: str,
    unit: str,
    amount: int,
    ours: Callable[[], object],
    plain: Callable[[], object],
    num_repetitions: int,
    target: Target | None,
) -> list[Figure]:
    """How much of `amount` each does in a second, in turns."""
    many = f"plain loop, {_num_threads()} threads"
    ways = {"trainer": ours, many: plain, "plain loop, 1 thread": lambda: _with_one_thread(plain)}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for repetition in range(num_repetitions + 1):  # the first warms up
        for way, work in ways.items():
            seconds = _seconds(work)
            if repetition:
                rates[way].append(amount / seconds)
    own, *others = rates.values()
    ratios = [rate / max(plains) for rate, *plains in zip(own, *others, strict=True)]
    return [
        figure(name, f"{what} / plain loop", ratios, target=target),
        *(figure(name, f"{what}: {way}", found, unit=unit) for way, found in rates.items()),
    ]


def _num_threads() -> int:
    import torch  # noqa: PLC0415

    return int(torch.get_num_threads())


def _with_one_thread(work: Callable[[], object]) -> None:
    import torch  # noqa: PLC0415

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work()
    finally:
        torch.set_num_threads(num_threads)


def _train(trainer: CrowdTrainer, case: Case, model: tuple[Vector, Vector]) -> None:
    from grapevine_lab.simulator.training import TrainingRequest  # noqa: PLC0415

    parameters, buffers = model
    trainer.train(
        [
            TrainingRequest(node=node, parameters=parameters, buffers=buffers, num_steps=case.num_steps)
            for node in range(case.num_nodes)
        ]
    )


def _evaluate(trainer: CrowdTrainer, case: Case, model: tuple[Vector, Vector]) -> None:
    from grapevine_lab.simulator.training import EvaluationRequest  # noqa: PLC0415

    parameters, buffers = model
    trainer.evaluate(
        [EvaluationRequest(node=node, parameters=parameters, buffers=buffers) for node in range(case.num_evaluated)]
    )


class _PlainLoop:
    """Modules and optimisers of PyTorch, one after the other."""

    def __init__(self, case: Case, module: nn.Module, samples: list[Samples]) -> None:
        import copy  # noqa: PLC0415

        import torch  # noqa: PLC0415

        self._case = case
        self._modules = [copy.deepcopy(module) for _ in samples]
        self._optimisers: list[Any] = [
            torch.optim.Adam(own.parameters(), lr=case.optimiser.learning_rate)
            if case.optimiser.name == "adam"
            else torch.optim.SGD(own.parameters(), lr=case.optimiser.learning_rate)
            for own in self._modules
        ]
        self._samples = [(_tensor(own.x), _tensor(own.y)) for own in samples]
        self._test = _tensor(samples[0].x_test), _tensor(samples[0].y_test)

    def train(self) -> None:
        """As many steps of every node."""
        import torch  # noqa: PLC0415

        for module, optimiser, (x, y) in zip(self._modules, self._optimisers, self._samples, strict=True):
            module.train()
            order, start = torch.randperm(len(x)), 0
            for _ in range(self._case.num_steps):
                if start + self._case.batch_size > len(x):
                    order, start = torch.randperm(len(x)), 0
                batch = order[start : start + self._case.batch_size]
                start += self._case.batch_size
                loss = torch.nn.functional.cross_entropy(module(x[batch]), y[batch])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()

    def evaluate(self) -> None:
        """Loss and accuracy of as many models on the test set."""
        import torch  # noqa: PLC0415

        x, y = self._test
        with torch.no_grad():
            for module in self._modules[: self._case.num_evaluated]:
                module.eval()
                loss = accuracy = 0.0
                for start in range(0, len(x), EVALUATION_BATCH):
                    part, target = x[start : start + EVALUATION_BATCH], y[start : start + EVALUATION_BATCH]
                    output = module(part)
                    loss += float(torch.nn.functional.cross_entropy(output, target)) * len(part)
                    accuracy += float((output.argmax(1) == target).sum())


def _network(name: str) -> nn.Module:
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    torch.manual_seed(0)
    if name != "cnn":
        widths = [int(width) for width in name.split("-")]
        return nn.Sequential(nn.Linear(widths[0], widths[1]), nn.ReLU(), nn.Linear(widths[1], widths[2]))
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)),
        *(nn.Conv2d(16, 32, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3)),
        *(nn.Flatten(), nn.Linear(1568, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, NUM_CLASSES)),
    )


def _samples(case: Case) -> list[Samples]:
    rng = np.random.default_rng(0)
    shape = (1, 28, 28) if case.network == "cnn" else (int(case.network.split("-")[0]),)

    def drawn(number: int) -> tuple[Any, Any]:
        return rng.random((number, *shape), dtype=np.float32), rng.integers(0, NUM_CLASSES, number)

    x_test, y_test = drawn(NUM_TEST)
    nodes = [drawn(case.num_samples) for _ in range(case.num_nodes)]
    return [Samples(x=x, y=y, x_test=x_test, y_test=y_test) for x, y in nodes]


def _tensor(array: Any) -> Any:
    import torch  # noqa: PLC0415

    return torch.from_numpy(array)


def _seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s
