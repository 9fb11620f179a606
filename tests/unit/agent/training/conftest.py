"""A small task and samples for it, without PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from grapevine_agent.data.source import DataSource
from grapevine_proto.manifest import DataContract, FeatureSpec, Optimiser, TaskManifest, TrainingPlan, WeightsRef
from grapevine_proto.messages import Vector
from grapevine_proto.program import BufferUpdate, Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights, encode_weights


@pytest.fixture
def program() -> Program:
    """4 features, 3 classes: normalised, dropped out in training, one linear layer."""
    statistics = (Ref(3), Ref(4))
    train = (
        Node(operator=Operator.BATCH_NORM_TRAIN, arguments=(Ref(0), None, None, *statistics, 0.1, 1e-5), num_results=3),
        Node(operator=Operator.DROPOUT, arguments=(Ref(5), 0.1)),
        Node(operator=Operator.LINEAR, arguments=(Ref(8), Ref(1), Ref(2))),
    )
    evaluation = (
        Node(operator=Operator.BATCH_NORM_EVAL, arguments=(Ref(0), None, None, *statistics, 1e-5)),
        Node(operator=Operator.LINEAR, arguments=(Ref(5), Ref(1), Ref(2))),
    )
    updates = (BufferUpdate(buffer=0, value=6), BufferUpdate(buffer=1, value=7))
    return Program(
        inputs=(InputSpec(name="input", shape=(4,)),),
        parameters=(TensorSpec(name="weight", shape=(3, 4)), TensorSpec(name="bias", shape=(3,))),
        buffers=(TensorSpec(name="mean", shape=(4,)), TensorSpec(name="var", shape=(4,))),
        train=Graph(nodes=train, output=9, updates=updates),
        eval=Graph(nodes=evaluation, output=6),
    )


@pytest.fixture
def layout(program: Program) -> ModelLayout:
    return ModelLayout.of(program)


@pytest.fixture
def weights(layout: ModelLayout) -> bytes:
    parameters = np.random.default_rng(0).normal(0, 0.1, layout.num_parameters).astype(np.float32)
    return encode_weights(layout, parameters, np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32))


@pytest.fixture
def model(layout: ModelLayout, weights: bytes) -> tuple[Vector, Vector]:
    return decode_weights(layout, weights)


@pytest.fixture
def manifest(program: Program, weights: bytes) -> TaskManifest:
    return TaskManifest(
        name="Three classes",
        publisher="abc",
        program=program,
        initial_weights=WeightsRef(digest=hashlib.sha256(weights).hexdigest(), num_bytes=len(weights)),
        data=DataContract(
            kind="points",
            features=FeatureSpec(name="x", dtype="float32", shape=(4,)),
            target=FeatureSpec(name="y", dtype="int64", shape=()),
            num_classes=3,
        ),
        training=TrainingPlan(batch_size=16, optimiser=Optimiser(learning_rate=0.1, momentum=0.5)),
    )


def three_classes(num_samples: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Points around three centres."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, 4) * 4
    y = rng.integers(0, 3, num_samples)
    return {"x": (centres[y] + rng.normal(size=(num_samples, 4))).astype(np.float32), "y": y}


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    samples = three_classes(200)
    np.savez(tmp_path / "points.npz", x=samples["x"], y=samples["y"])
    return DataSource(name="garden", kind="points", path=tmp_path / "points.npz")
