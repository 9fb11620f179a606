"""The closed list of torchvision's data sets that may be named, and what each of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet:
    """One data set: how torchvision calls it, and its sizes."""

    loader: str  # the class in torchvision.datasets
    folder: str  # below the root, where it is after a download
    shape: tuple[int, ...]
    num_train: int
    num_test: int
    num_classes: int
    split: str = ""  # EMNIST's


_DIGITS = {"folder": "MNIST/raw", "shape": (28, 28), "num_train": 60_000, "num_test": 10_000, "num_classes": 10}
_COLOURS: dict[str, Any] = {"shape": (32, 32, 3), "num_train": 50_000, "num_test": 10_000}
TORCHVISION_SETS = {
    "MNIST": TorchvisionSet(loader="MNIST", **_DIGITS),  # type: ignore[arg-type]
    "FashionMNIST": TorchvisionSet(loader="FashionMNIST", **_DIGITS | {"folder": "FashionMNIST/raw"}),  # type: ignore[arg-type]
    "KMNIST": TorchvisionSet(loader="KMNIST", **_DIGITS | {"folder": "KMNIST/raw"}),  # type: ignore[arg-type]
    "CIFAR10": TorchvisionSet(loader="CIFAR10", folder="cifar-10-batches-py", num_classes=10, **_COLOURS),
    "CIFAR100": TorchvisionSet(loader="CIFAR100", folder="cifar-100-python", num_classes=100, **_COLOURS),
} | {
    f"EMNIST/{split}": TorchvisionSet(
        loader="EMNIST",
        folder="EMNIST/raw",
        shape=(28, 28),
        num_train=num_train,
        num_test=num_test,
        num_classes=num_classes,
        split=split,
    )
    for split, num_train, num_test, num_classes in (
        ("balanced", 112_800, 18_800, 47),
        ("byclass", 697_932, 116_323, 62),
        ("bymerge", 697_932, 116_323, 47),
        ("digits", 240_000, 40_000, 10),
        ("letters", 124_800, 20_800, 26),
        ("mnist", 60_000, 10_000, 10),
    )
}
