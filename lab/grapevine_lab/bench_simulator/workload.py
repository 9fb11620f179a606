"""The work that every system gets: one file of samples, and one plan that names it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Model = Literal["mlp", "cnn"]
MODELS: Final[tuple[Model, ...]] = ("mlp", "cnn")
SIDE = 28
NUM_CLASSES = 10
NUM_TEST = 1_000
MNIST_SIZE = 60_000
DATA_VARIABLE = "GRAPEVINE_DATA"
_IMAGES_HEADER, _LABELS_HEADER = 16, 8  # bytes, of the IDX files

Images = NDArray[np.float32]
Classes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Every node trains `num_steps` steps of plain SGD in every round."""

    num_nodes: int
    num_samples: int  # of each node, independently drawn
    model: Model = "mlp"
    num_rounds: int = 10
    num_steps: int = 10
    batch_size: int = 32
    learning_rate: float = 0.1
    seed: int = 0
    num_cores: int = 2


def workload_of(num_nodes: int, *, model: Model = "mlp", num_rounds: int = 10) -> Workload:
    """The workload for so many nodes: 6,000 samples among fewer than 60, 100 each from there on."""
    return Workload(num_nodes=num_nodes, num_samples=max(100, 6_000 // num_nodes), model=model, num_rounds=num_rounds)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images float32 [n, 28, 28] from 0 to 1, and classes int64 [n]: node k owns the k-th `num_samples` of them."""

    x: Images
    y: Classes
    x_test: Images
    y_test: Classes
    origin: str  # for people


def samples_for(workload: Workload) -> Samples:
    """MNIST, if `$GRAPEVINE_DATA` has it, else noise of the same shape: the speed is the same."""
    num_train = workload.num_nodes * workload.num_samples
    rng = np.random.default_rng(workload.seed)
    folder = Path(os.environ.get(DATA_VARIABLE, "")) / "MNIST" / "raw"
    if os.environ.get(DATA_VARIABLE) and num_train <= MNIST_SIZE and (folder / "train-images-idx3-ubyte.gz").is_file():
        chosen = rng.permutation(MNIST_SIZE)[:num_train]
        x, y = _read_mnist(folder, "train")
        x_test, y_test = _read_mnist(folder, "t10k")
        return Samples(
            x=_scaled(x[chosen]),
            y=y[chosen].astype(np.int64),
            x_test=_scaled(x_test[:NUM_TEST]),
            y_test=y_test[:NUM_TEST].astype(np.int64),
            origin="MNIST",
        )
    pixels = rng.random((num_train + NUM_TEST, SIDE, SIDE), dtype=np.float32)
    classes = rng.integers(NUM_CLASSES, size=len(pixels))
    return Samples(
        x=pixels[:num_train],
        y=classes[:num_train],
        x_test=pixels[num_train:],
        y_test=classes[num_train:],
        origin="noise of MNIST's shape",
    )


def write_workload(folder: Path, workload: Workload) -> tuple[Path, Samples]:
    """Write samples.npz and plan.json to `folder`; return the plan's path, and the samples."""
    samples = samples_for(workload)
    path = folder / "samples.npz"
    np.savez(path, x=samples.x, y=samples.y, x_test=samples.x_test, y_test=samples.y_test)
    plan = folder / "plan.json"
    plan.write_text(json.dumps(dataclasses.asdict(workload) | {"samples": str(path)}, indent=2), encoding="utf-8")
    return plan, samples


def _read_mnist(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=_IMAGES_HEADER).reshape(-1, SIDE, SIDE)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        return pixels, np.frombuffer(file.read(), np.uint8, offset=_LABELS_HEADER)


def _scaled(pixels: NDArray[np.uint8]) -> Images:
    return pixels.astype(np.float32) / np.float32(255)
