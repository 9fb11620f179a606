"""A node's samples as the file that its agent reads: numbers that the task's contract scales to the very same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.preparing import Samples, load_samples
from grapevine_agent.data.source import DataSource
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import scaled

_ARRAYS = ("x", "y", "x_test", "y_test")


def write_share(path: Path, samples: Samples, contract: DataContract) -> None:
    """Write a node's samples to an npz file, and read them back as its agent will.

    Raises ConfigError where the agent would not get bit for bit what the simulator trains on, and TaskError where it
    would not take them at all.
    """
    np.savez(
        path,
        x=unprepared(samples.x, contract),
        y=samples.y,
        x_test=unprepared(samples.x_test, contract),
        y_test=samples.y_test,
    )
    read = load_samples(contract, DataSource(name=path.stem, kind=contract.kind, path=path))
    for name in _ARRAYS:
        ours, theirs = getattr(samples, name), getattr(read, name)
        if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs):
            raise ConfigError(
                f"{path.name}: {name} is not what the simulator trains on once the task's contract has scaled it "
                f"(scale = {contract.scale:g}, offset = {contract.offset:g}): choose another data set"
            )


def unprepared(features: NDArray[Any], contract: DataContract) -> NDArray[Any]:
    """Numbers [n, …] of which the contract makes `features`: whole ones where they do, as pixels are."""
    if contract.features.dtype == "int64":
        return features
    raw = features.astype(np.float64) / np.float64(np.float32(contract.scale)) + np.float64(np.float32(contract.offset))
    whole = np.rint(raw).astype(np.float32)
    if np.array_equal(scaled(whole, contract, "share"), features):
        return whole
    return raw.astype(np.float32)


def alone_at_most(samples: Samples) -> float:
    """The accuracy that a node cannot pass by itself: the share of its test samples whose class it has ever seen."""
    return float(np.isin(samples.y_test, np.unique(samples.y)).mean())
