"""A contract that asks for points, and a source that holds some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.data.source import DataSource
from grapevine_proto.manifest import DataContract, FeatureSpec


@pytest.fixture
def contract() -> DataContract:
    return DataContract(
        kind="points",
        features=FeatureSpec(name="x", dtype="float32", shape=(4,)),
        target=FeatureSpec(name="y", dtype="int64", shape=()),
        num_classes=3,
    )


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "points.npz", x=rng.normal(size=(200, 4)), y=rng.integers(0, 3, 200))
    return DataSource(name="garden", kind="points", path=tmp_path / "points.npz")
