"""`memory_estimate`: what the checks say that training takes, against what a trainer's memory grows by.

Conventions. Each case trains in a fresh process, with the device's own `LocalTrainer`, models going
through shared memory as they do in a trainer process. What PyTorch itself takes is not counted: the process
first trains a small model of the same layers, so that libraries are loaded, code is paged in and threads
run; then its resident memory is the baseline. The kernel's own high-water mark is set back (`5` into
/proc/self/clear_refs), two rounds of two steps and one evaluation follow, and the mark less the baseline is
the measurement: no sampling can miss a peak.

The estimate is of what is *in use*. glibc keeps freed memory for later, and how much depends on the order of
sizes; an aligned block, as PyTorch asks for, often does not fit where one of its size was. So the process is
told to map every block of 1 MB and more by itself (`MALLOC_MMAP_THRESHOLD_`), which gives it back to the
kernel as it is freed: resident is then what is in use. A trainer does not run so, because steps would take
up to twice as long; the second figure of each case says how much more glibc holds by its own settings.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_proto.program import Program
from grapevine_proto.program_codec import decode_program, encode_program
from grapevine_tasks.checks import EVALUATION_BATCH, TO_LOOK_AT, check_program, estimate_memory
from grapevine_tasks.layout import ModelLayout

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "memory_estimate"
MIB = 2**20
NUM_REPETITIONS = 2
NUM_ROUNDS = 2
NUM_CLASSES = 10
SMALL_WIDTH = 8
SMALLEST_COUNTED = 50 * MIB  # below, single blocks of the libraries weigh too much
TARGET = Target(limit=0.25, at_most=True)
GB_NEEDED = 4.0
_PROMPT_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1048576"}
SGD = Optimiser(learning_rate=0.01)
MOMENTUM = Optimiser(learning_rate=0.01, momentum=0.9)
ADAM = Optimiser(name="adam", learning_rate=1e-3)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, and how it is trained."""

    network: str  # of `NETWORKS`
    optimiser: Optimiser
    batch_size: int

    @property
    def what(self) -> str:
        """For people."""
        momentum = " with momentum" if self.optimiser.momentum else ""
        return f"{self.network}, {self.optimiser.name}{momentum}, batch {self.batch_size}"


@dataclass(frozen=True, kw_only=True)
class Network:
    """How to make a network, whose `width` a small one of the same layers has less of."""

    make: Callable[[int], nn.Module]
    width: int
    shape: tuple[int, ...]  # of a sample


def _mlp(depth: int) -> Callable[[int], nn.Module]:
    def make(width: int) -> nn.Module:
        from torch import nn  # noqa: PLC0415

        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, width), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, 10))

    return make


def _cnn(width: int) -> nn.Module:
    from torch import nn  # noqa: PLC0415

    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2 * width * 8 * 8, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10)),
    )


def _normalised_cnn(width: int) -> nn.Module:
    from torch import nn  # noqa: PLC0415

    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def _resnet18(width: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) with a stem for small images; `width` is 64 in the paper."""
    from torch import nn  # noqa: PLC0415

    blocks: list[nn.Module] = []
    before = width
    for stage, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
        after = stage * width
        blocks += [_residual(before, after, stride), nn.ReLU(), _residual(after, after, 1), nn.ReLU()]
        before = after
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
        *blocks,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, NUM_CLASSES)),
    )


def _residual(before: int, after: int, stride: int) -> nn.Module:
    """X → f(x) + g(x), where g is the identity as long as the shapes allow that."""
    from torch import nn  # noqa: PLC0415

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.long = nn.Sequential(
                *(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()),
                *(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)),
            )
            self.short = (
                nn.Identity()
                if (before, stride) == (after, 1)
                else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.long(x) + self.short(x)  # type: ignore[no-any-return]

    return Residual()


NETWORKS = {
    "MLP, wide": Network(make=_mlp(2), width=1800, shape=(784,)),
    "MLP, deep": Network(make=_mlp(30), width=512, shape=(784,)),
    "CNN": Network(make=_cnn, width=32, shape=(3, 32, 32)),
    "CNN, wide": Network(make=_cnn, width=96, shape=(3, 32, 32)),
    "CNN, BatchNorm, SiLU": Network(make=_normalised_cnn, width=32, shape=(3, 32, 32)),
    "ResNet-18": Network(make=_resnet18, width=64, shape=(3, 32, 32)),
}
CASES = (
    *(Case(network="MLP, wide", optimiser=o, batch_size=b) for o, b in ((SGD, 32), (ADAM, 32), (ADAM, 2048))),
    *(Case(network="MLP, deep", optimiser=o, batch_size=b) for o, b in ((SGD, 64), (ADAM, 64), (MOMENTUM, 4096))),
    *(Case(network="CNN", optimiser=o, batch_size=b) for o, b in ((SGD, 64), (ADAM, 256), (ADAM, 1024))),
    *(Case(network="CNN, wide", optimiser=o, batch_size=b) for o, b in ((ADAM, 32), (ADAM, 512))),
    *(Case(network="CNN, BatchNorm, SiLU", optimiser=o, batch_size=b) for o, b in ((SGD, 64), (ADAM, 256))),
    *(Case(network="ResNet-18", optimiser=o, batch_size=b) for o, b in ((SGD, 32), (ADAM, 64), (ADAM, 256))),
)


def missing() -> str:
    """Why this machine cannot run it; empty if it can."""
    if not Path("/proc/self/clear_refs").exists():
        return "needs Linux's /proc/self/clear_refs"
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
    """The estimate over what is measured, on both sides of 1."""
    network = NETWORKS[case.network]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _export(network, network.width, folder / "large")
        _export(network, SMALL_WIDTH, folder / "small")
        in_use = [_in_a_process(folder, case, _PROMPT_ALLOCATOR) for _ in range(num_repetitions)]
        held = _in_a_process(folder, case, {})["grown"]
    estimate, bound, grown = in_use[0]["estimate"], in_use[0]["bound"], [each["grown"] for each in in_use]
    middle = statistics.median(grown)
    counts = max(estimate, middle) > SMALLEST_COUNTED
    what = f"{case.what}: estimate {estimate / MIB:.0f} MB, in use {middle / MIB:.0f}, bound {bound / MIB:.0f}; off by"
    off = [abs(estimate / each - 1) for each in grown]
    return [
        figure(NAME, what, off, target=TARGET if counts else None),
        figure(NAME, f"{case.what}: held by glibc, over what is in use", [held / middle]),
    ]


def _in_a_process(folder: Path, case: Case, environment: dict[str, str]) -> dict[str, int]:
    command = [sys.executable, "-m", __spec__.name, str(folder), str(CASES.index(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        raise TaskError(f"{case.what}: {done.stderr.strip()[-500:]}")
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def _export(network: Network, width: int, path: Path) -> None:
    import torch  # noqa: PLC0415

    from grapevine_tasks.authoring.export import build_program  # noqa: PLC0415

    program, _ = build_program(network.make(width), torch.zeros(3, *network.shape))
    path.write_bytes(encode_program(program))


# --- in the process that is measured --------------------------------------------------------------


def _main(folder: Path, case: Case) -> None:
    """Print what one case is estimated at and takes, in bytes, as JSON."""
    shape = NETWORKS[case.network].shape
    plan = TrainingPlan(optimiser=case.optimiser, batch_size=case.batch_size, steps_per_round=2)
    program = decode_program((folder / "large").read_bytes())
    report = check_program(program, replace(TO_LOOK_AT, largest_batch=case.batch_size))
    estimate = estimate_memory(program, report, plan)
    small = decode_program((folder / "small").read_bytes())
    _train(small, TrainingPlan(optimiser=case.optimiser, batch_size=4, steps_per_round=2), _samples(shape, 8))
    samples = _samples(shape, max(case.batch_size, EVALUATION_BATCH))
    gc.collect()
    baseline = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    _train(program, plan, samples)
    grown = _status("VmHWM") - baseline
    sys.stdout.write(json.dumps({"estimate": estimate.peak_bytes, "bound": report.memory_bytes, "grown": grown}))


def _train(program: Program, plan: TrainingPlan, samples: Samples) -> None:
    """What a trainer process does for its service, from a model of zeros: as much work as from any other."""
    from grapevine_agent.training.local_training import LocalTrainer  # noqa: PLC0415

    trainer = LocalTrainer(program, plan, samples)
    layout = ModelLayout.of(program)
    memory = SharedVectors.create(layout.num_parameters, layout.num_buffers)
    for number in range(NUM_ROUNDS):
        result = trainer.train(*memory.read(number), plan.steps_per_round)
        memory.write(number, result.parameters, result.buffers)
        del result  # as it goes out of scope in the trainer
    trainer.evaluate(*memory.read(NUM_ROUNDS - 1))
    memory.close()


def _samples(shape: tuple[int, ...], number: int) -> Samples:
    rng = np.random.default_rng(1)
    x = rng.random((number, *shape), dtype=np.float32)
    y = rng.integers(0, NUM_CLASSES, number)
    return Samples(x=x, y=y, x_test=x[:EVALUATION_BATCH], y_test=y[:EVALUATION_BATCH])


def _status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), CASES[int(sys.argv[2])])
