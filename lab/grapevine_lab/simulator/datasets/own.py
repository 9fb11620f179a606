"""A file of the user's own: an npz with `x` [n, …] and `y` [n, …], and optionally more.

`x_test` and `y_test` are the common test set; without them every fifth sample, drawn once and for
all, is held out. `groups` [n] says whose sample each is, and `test_groups` the same of the test set.
A `y` of whole numbers, one per sample, is taken for classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from grapevine_lab.simulator.datasets.dataset import Array, Dataset, DatasetFacts, DatasetPlan, read_arrays
from grapevine_proto.errors import ConfigError
from grapevine_tasks.pipelines import HELD_OUT

SUFFIX: Final = ".npz"

_HELD_OUT_SEED = 0x7E57  # a device holds out the same samples of the same file
_PAIRS = (("x", "y"), ("x_test", "y_test"), ("x", "groups"), ("x_test", "test_groups"))


def load_own(plan: DatasetPlan) -> Dataset:
    """Load and check such a file. Raises `ConfigError` naming the file, the array and the remedy."""
    path = Path(plan.name).expanduser()
    arrays = _read(plan, path, ("x", "y"), ("x_test", "y_test", "groups", "test_groups"))
    for name, array in arrays.items():
        _check_array(plan, name, array)
    for one, other in (
        ("x_test", "y_test"),
        ("y_test", "x_test"),
        ("test_groups", "x_test"),
        ("test_groups", "groups"),
    ):
        if one in arrays and other not in arrays:
            raise _error(plan, f"has {one} but no {other}; add {other} or leave {one} out")
    for one, other in _PAIRS:
        if one in arrays and other in arrays and len(arrays[one]) != len(arrays[other]):
            raise _error(plan, f"has {len(arrays[one])} samples in {one} but {len(arrays[other])} in {other}")
    if "x_test" not in arrays:
        arrays = _hold_out(arrays)
    if arrays["x"].shape[1:] != arrays["x_test"].shape[1:] or arrays["y"].shape[1:] != arrays["y_test"].shape[1:]:
        raise _error(plan, "samples to test with have another shape than samples to train on")
    groups, test_groups = arrays.get("groups"), arrays.get("test_groups")
    return Dataset(
        name=plan.name,
        kind=plan.kind,
        x=arrays["x"],
        y=arrays["y"],
        x_test=arrays["x_test"],
        y_test=arrays["y_test"],
        groups=None if groups is None else groups.astype(np.int64),
        test_groups=None if test_groups is None else test_groups.astype(np.int64),
        num_classes=_num_classes(arrays["y"], arrays["y_test"]),
        grouped_by="" if groups is None else "group",
    )


def facts(plan: DatasetPlan) -> DatasetFacts:
    """What the labels and groups alone tell; the features are neither read nor checked."""
    arrays = _read(plan, Path(plan.name).expanduser(), ("y",), ("y_test", "groups", "test_groups"))
    for name, array in arrays.items():
        _check_array(plan, name, array)
    y, groups, test_groups = arrays["y"], arrays.get("groups"), arrays.get("test_groups")
    if "y_test" not in arrays:
        if groups is not None and len(groups) != len(y):
            raise _error(plan, f"has {len(y)} samples in y but {len(groups)} in groups")
        arrays = _hold_out(arrays)
        groups, test_groups = arrays.get("groups"), arrays.get("test_groups")
    return DatasetFacts(
        name=plan.name,
        num_samples=len(arrays["y"]),
        num_test=len(arrays["y_test"]),
        num_classes=_num_classes(arrays["y"], arrays["y_test"]),
        grouped_by="" if groups is None else "group",
        num_groups=0 if groups is None else len(np.unique(groups)),
        has_test_groups=groups is not None and test_groups is not None and bool(np.isin(test_groups, groups).any()),
    )


def _read(plan: DatasetPlan, path: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Array]:
    try:
        return read_arrays(plan.name, path, wanted, optional)
    except FileNotFoundError:
        raise _error(plan, "there is no such file; correct the path") from None


def _check_array(plan: DatasetPlan, name: str, array: Array) -> None:
    if array.ndim == 0 or array.dtype.kind not in "buif":
        raise _error(plan, f"{name} holds {array.dtype} of shape {list(array.shape)}; it must hold numbers, one a row")
    if len(array) < HELD_OUT and not name.startswith(("x_test", "y_test", "test_")):
        raise _error(plan, f"{name} has {len(array)} rows; {HELD_OUT} is the least")
    if len(array) == 0:
        raise _error(plan, f"{name} is empty; leave it out or give it samples")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _error(plan, f"{name} holds numbers that are not finite; leave those samples out")
    if name.endswith("groups") and (array.ndim != 1 or array.dtype.kind not in "ui"):
        raise _error(plan, f"{name} must hold one whole number for each sample")


def _hold_out(arrays: dict[str, Array]) -> dict[str, Array]:
    """Move every fifth sample to the test set."""
    order = np.random.default_rng(_HELD_OUT_SEED).permutation(len(arrays["y"]))
    test, train = np.split(order, [len(order) // HELD_OUT])
    split = {name: array[train] for name, array in arrays.items()}
    names = {"x": "x_test", "y": "y_test", "groups": "test_groups"}
    return split | {names[name]: array[test] for name, array in arrays.items()}


def _num_classes(y: Array, y_test: Array) -> int:
    if y.ndim != 1 or y.dtype.kind not in "ui":
        return 0
    return 0 if min(y.min(), y_test.min()) < 0 else int(max(y.max(), y_test.max())) + 1


def _error(plan: DatasetPlan, what: str) -> ConfigError:
    return ConfigError(f"data set {plan.name!r}: {what}")
