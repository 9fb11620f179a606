"""What a data set is to the simulator, and where its files are found."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.errors import ConfigError

DATA_VARIABLE: Final = "GRAPEVINE_DATA"

Array: TypeAlias = NDArray[Any]
Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """Which data set, and the options that a few of them have."""

    name: str  # one of `DATASETS`, or a path that ends in .npz
    kind: str = ""  # of a file of one's own; empty: whatever the task takes
    download: bool = False  # whether torchvision may fetch what is missing
    seed: int = 0  # these four: of the synthetic sets
    num_users: int = 10
    num_distributions: int = 1  # the paper's m: user u draws from distribution u mod m
    samples_per_user: int = 100

    @property
    def is_own_file(self) -> bool:
        """Whether `name` is a path."""
        return self.name.endswith(".npz")


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What is known of a data set before its samples are loaded."""

    name: str
    num_samples: int  # to train on
    num_test: int
    num_classes: int = 0  # 0: the targets are no classes
    grouped_by: str = ""  # what a group is: "writer", "station", "user", "group"; empty: there are none
    num_groups: int = 0
    has_test_groups: bool = False  # whether test samples have groups that occur in training, too


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples as they lie on disk: the task's data contract scales and converts them.

    Attributes:
        name: What it was asked for by.
        kind: As in a task's data contract ("mnist-28x28").
        x: Features [n, …], of any numeric dtype.
        y: Targets [n] of classes, or float32 [n, 1].
        x_test: The common test set's features [m, …].
        y_test: The common test set's targets [m, …].
        groups: int64 [n]: whose sample each is (a writer, a station, a user), or None.
        test_groups: int64 [m], numbered as `groups`, or None.
        num_classes: 0 where the targets are no classes.
        grouped_by: What a group is; empty without groups.
    """

    name: str
    kind: str
    x: Array
    y: Array
    x_test: Array
    y_test: Array
    groups: Indices | None = None
    test_groups: Indices | None = None
    num_classes: int = 0
    grouped_by: str = ""

    def facts(self) -> DatasetFacts:
        """The same as `dataset_facts` says before loading."""
        has_test_groups = False
        if self.groups is not None and self.test_groups is not None:
            has_test_groups = bool(np.isin(self.test_groups, self.groups).any())
        return DatasetFacts(
            name=self.name,
            num_samples=len(self.y),
            num_test=len(self.y_test),
            num_classes=self.num_classes,
            grouped_by=self.grouped_by,
            num_groups=0 if self.groups is None else len(np.unique(self.groups)),
            has_test_groups=has_test_groups,
        )


def data_folder() -> Path:
    """`$GRAPEVINE_DATA`, or the user's cache where nothing is set."""
    if named := os.environ.get(DATA_VARIABLE):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "grapevine"


def missing(name: str, path: Path, remedy: str) -> ConfigError:
    """The error for a file of a data set that is not there."""
    return ConfigError(
        f"data set {name!r}: there is no {path}; {remedy}, or set {DATA_VARIABLE} to the folder that holds it"
    )


def read_arrays(name: str, path: Path, wanted: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Array]:
    """The arrays `wanted`, and those of `optional` that are there, of an npz file; Python objects are refused.

    Raises `FileNotFoundError`, for the caller to say how it is had, and `ConfigError` when the file cannot
    be read or lacks one of `wanted`.
    """
    try:
        with path.open("rb") as file:  # by us: numpy leaves its own open when it turns out to be no archive
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            with archive:
                return _pick(name, path, archive, wanted, optional)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(
            f"data set {name!r}: {path} cannot be read as an npz file of numbers ({error}); write it with numpy.savez"
        ) from None


def _pick(
    name: str, path: Path, archive: np.lib.npyio.NpzFile, wanted: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Array]:
    lacking = [key for key in wanted if key not in archive]
    if lacking:
        has = ", ".join(archive.files) or "nothing"
        raise ConfigError(f"data set {name!r}: {path} has no array {lacking[0]!r} (it has {has}); add it")
    return {key: archive[key] for key in (*wanted, *optional) if key in archive}


def split_each_group(groups: Indices, test_share: float, seed: int) -> tuple[Indices, Indices]:
    """Indices (training, test), both ascending: of each group, `test_share` of its samples are for testing.

    A group of two or more gives one at least. Same seed, same split.
    """
    rng = np.random.default_rng(seed)
    is_test = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        num_test = max(1, round(test_share * len(members))) if len(members) > 1 else 0
        is_test[members[:num_test]] = True
    return np.flatnonzero(~is_test).astype(np.int64), np.flatnonzero(is_test).astype(np.int64)
