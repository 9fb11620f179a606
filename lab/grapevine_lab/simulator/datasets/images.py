"""Handwriting: scikit-learn's digits, MNIST with and without its writers, and UNIPEN's characters by writer.

MNIST lies in `MNIST/raw/` as its publishers' four IDX files, compressed or not, where torchvision
puts them, too. Its writers are those that QMNIST found (Yadav & Bottou 2019): row i of
`mnist_by_writer/mnist_writer_ids.npz` belongs to image i; the writers of the test images are other
people than those of the training images. UNIPEN (Guyon et al., ICPR 1994): pen strokes of isolated
characters, drawn into 28x28 pixels, `unipen_by_writer/unipen_by_writer.npz`.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.simulator.datasets.dataset import (
    Dataset,
    DatasetFacts,
    DatasetPlan,
    missing,
    read_arrays,
    split_each_group,
)
from grapevine_proto.errors import ConfigError

DIGITS: Final = DatasetFacts(name="digits", num_samples=1437, num_test=360, num_classes=10)
MNIST: Final = DatasetFacts(name="mnist", num_samples=60_000, num_test=10_000, num_classes=10)
MNIST_BY_WRITER: Final = DatasetFacts(
    name="mnist-by-writer", num_samples=60_000, num_test=10_000, num_classes=10, grouped_by="writer", num_groups=539
)
UNIPEN: Final = DatasetFacts(
    name="unipen-by-writer",
    num_samples=32_993,
    num_test=8_242,
    num_classes=62,
    grouped_by="writer",
    num_groups=210,
    has_test_groups=True,
)
UNIPEN_80: Final = DatasetFacts(
    name="unipen-80",
    num_samples=6_919,
    num_test=1_726,
    num_classes=62,
    grouped_by="writer",
    num_groups=80,
    has_test_groups=True,
)
DOWNLOADED: Final = ("mnist",)  # by torchvision; MNIST by writer needs a second file, which is not to be had so

_TEST_SHARE = 0.2
_SPLIT_SEED = 0  # the same test samples in every scenario
_IDX_UINT8 = 0x0800


def load_digits(plan: DatasetPlan, folder: Path) -> Dataset:  # noqa: ARG001 - it comes with scikit-learn
    """1,437 + 360 digits, uint8 [n, 8, 8] with values 0 to 16; the split is the same in every scenario."""
    from sklearn import datasets  # noqa: PLC0415 - it takes a second to import

    loaded = datasets.load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(loaded.target))
    x, y = loaded.images[order].astype(np.uint8), loaded.target[order].astype(np.int64)
    num_train = int((1 - _TEST_SHARE) * len(x))
    return Dataset(
        name=plan.name,
        kind="digits-8x8",
        x=x[:num_train],
        y=y[:num_train],
        x_test=x[num_train:],
        y_test=y[num_train:],
        num_classes=10,
    )


def load_mnist(plan: DatasetPlan, folder: Path) -> Dataset:
    """60,000 + 10,000 digits, uint8 [n, 28, 28]; where `plan.download` allows it, fetched if they are not there."""
    raw = folder / "MNIST" / "raw"
    if plan.download and _find_idx(raw, "train-images-idx3-ubyte") is None:
        _download_mnist(folder)
    return Dataset(
        name=plan.name,
        kind="mnist-28x28",
        x=_read_idx(plan, raw, "train-images-idx3-ubyte", (60_000, 28, 28)),
        y=_read_idx(plan, raw, "train-labels-idx1-ubyte", (60_000,)),
        x_test=_read_idx(plan, raw, "t10k-images-idx3-ubyte", (10_000, 28, 28)),
        y_test=_read_idx(plan, raw, "t10k-labels-idx1-ubyte", (10_000,)),
        num_classes=10,
    )


def load_mnist_by_writer(plan: DatasetPlan, folder: Path) -> Dataset:
    """MNIST with groups: the 539 writers of the training images, and the 297 others of the test images."""
    digits = load_mnist(plan, folder)
    path = folder / "mnist_by_writer" / "mnist_writer_ids.npz"
    if not path.exists():
        raise missing(
            plan.name,
            path,
            "make it from QMNIST's extended labels (github.com/facebookresearch/qmnist, column 2 of its idx2-int "
            "files): arrays train_writer [60000] and test_writer [10000]",
        )
    writers = read_arrays(plan.name, path, ("train_writer", "test_writer"))
    if len(writers["train_writer"]) != len(digits.y) or len(writers["test_writer"]) != len(digits.y_test):
        raise ConfigError(f"data set {plan.name!r}: {path} does not belong to MNIST: other numbers of samples")
    return Dataset(
        name=plan.name,
        kind=digits.kind,
        x=digits.x,
        y=digits.y,
        x_test=digits.x_test,
        y_test=digits.y_test,
        groups=writers["train_writer"].astype(np.int64),
        test_groups=writers["test_writer"].astype(np.int64),
        num_classes=10,
        grouped_by="writer",
    )


def load_unipen(plan: DatasetPlan, folder: Path) -> Dataset:
    """Characters, uint8 [n, 28, 28], of classes 0 to 61 (digits, A to Z, a to z), by writer.

    Of each writer's characters a fifth is for testing, the same in every scenario. `unipen-80` is a
    fixed selection of 80 writers.
    """
    path = folder / "unipen_by_writer" / "unipen_by_writer.npz"
    if not path.exists():
        raise missing(
            plan.name,
            path,
            "make it from UNIPEN train_r01_v07 (doi.org/10.5281/zenodo.1195803): arrays images uint8 [n, 28, 28], "
            "labels, writer and the selection sub80, bool, all [n]",
        )
    arrays = read_arrays(plan.name, path, ("images", "labels", "writer", "sub80"))
    if plan.name == "unipen-80":
        arrays = {key: array[arrays["sub80"]] for key, array in arrays.items()}
    writers = arrays["writer"].astype(np.int64)
    train, test = split_each_group(writers, _TEST_SHARE, _SPLIT_SEED)
    return Dataset(
        name=plan.name,
        kind="characters-28x28",
        x=arrays["images"][train],
        y=arrays["labels"][train],
        x_test=arrays["images"][test],
        y_test=arrays["labels"][test],
        groups=writers[train],
        test_groups=writers[test],
        num_classes=62,
        grouped_by="writer",
    )


def _find_idx(raw: Path, stem: str) -> Path | None:
    return next((path for path in (raw / f"{stem}.gz", raw / stem) if path.exists()), None)


def _read_idx(plan: DatasetPlan, raw: Path, stem: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """One IDX file (http://yann.lecun.com/exdb/mnist): a magic number, the dimensions, then the bytes."""
    path = _find_idx(raw, stem)
    if path is None:
        remedy = "write download = true to let torchvision fetch it"
        if plan.name not in DOWNLOADED:
            remedy = 'fetch MNIST first (data set "mnist" with download = true)'
        raise missing(plan.name, raw / f"{stem}.gz", remedy)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        header = struct.unpack_from(f">{1 + len(shape)}I", content)
        pixels = np.frombuffer(content, np.uint8, offset=4 * len(header))
        if header != (_IDX_UINT8 + len(shape), *shape):
            raise ValueError(f"its header is {header}")
        return pixels.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise ConfigError(
            f"data set {plan.name!r}: {path} is not MNIST's IDX file ({error}); delete it and get it again"
        ) from None


def _download_mnist(folder: Path) -> None:
    """Let torchvision fetch the four files into `folder/MNIST/raw`, checksums and all."""
    from grapevine_agent.data.torchvision_sets import torchvision_datasets  # noqa: PLC0415 - it imports PyTorch

    datasets = torchvision_datasets()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        datasets.MNIST(str(folder), train=True, download=True)
    except (OSError, RuntimeError) as error:
        told = " ".join(str(error).split())  # torchvision tells each attempt on a line of its own
        raise ConfigError(
            f"data set 'mnist': cannot be downloaded to {folder} ({told}); get the four IDX files yourself "
            f"and put them into {folder / 'MNIST' / 'raw'}"
        ) from None
