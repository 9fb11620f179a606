"""The catalogue's MNIST task: Delta Sum Learning's network, and that it learns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.figures import metric_of

from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.built import BuiltTask
from grapevine_tasks.catalogue import catalogue_task
from grapevine_tasks.checks import check_manifest
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltTask:
    return build_task(catalogue_task("mnist"), check_merging=check_merge_plan, into=tmp_path_factory.mktemp("mnist"))


def test_the_network_is_the_papers(built: BuiltTask) -> None:
    report = check_manifest(built.draft, check_merging=check_merge_plan)
    assert report.num_parameters == 55_338
    assert report.num_buffers == 0
    assert report.output == "float32[batch, 10]"
    assert report.operators["DROPOUT"] == 3
    assert len(built.weights) < 250_000  # it fits into one message


def test_kernels_start_uniform_within_glorots_bounds_and_biases_at_zero(built: BuiltTask) -> None:
    layout = ModelLayout.of(built.draft.program)
    parameters, _ = decode_weights(layout, built.weights)
    tensors = [parameters[entry.span].reshape(entry.shape) for entry in layout.parameters]
    assert [tensor.shape for tensor in tensors if tensor.ndim > 1] == [
        (16, 1, 3, 3),
        (32, 16, 3, 3),
        (32, 1568),
        (10, 32),
    ]
    for tensor in tensors:
        if tensor.ndim == 1:
            assert not tensor.any()
        else:
            field = int(np.prod(tensor.shape[2:]))
            bound = np.sqrt(6 / (field * (tensor.shape[0] + tensor.shape[1])))
            assert 0.9 * bound < np.abs(tensor).max() <= bound


def test_it_trains_as_the_paper_says(built: BuiltTask) -> None:
    plan = built.draft.training
    assert (plan.optimiser.name, plan.optimiser.learning_rate, plan.batch_size) == ("adam", 1e-3, 64)


@pytest.mark.skipif(not os.environ.get("GRAPEVINE_DATA"), reason="GRAPEVINE_DATA is not set")
def test_two_hundred_steps_on_a_device_tell_most_digits_apart(built: BuiltTask, tmp_path: Path) -> None:
    from grapevine_lab.simulator.datasets import load_dataset

    mnist = load_dataset("mnist")
    source = DataSource(name="own", kind="mnist-28x28", path=tmp_path / "mnist.npz")
    np.savez(source.path, x=mnist.x[:2000], y=mnist.y[:2000], x_test=mnist.x_test[:1000], y_test=mnist.y_test[:1000])
    assert match_source(built.draft.data, [source]).num_test == 1000
    samples = load_samples(built.draft.data, source)
    trainer = LocalTrainer(built.draft.program, built.draft.training, samples, num_threads=1)
    parameters, buffers = decode_weights(ModelLayout.of(built.draft.program), built.weights)
    assert metric_of(trainer.evaluate(parameters, buffers)) < 0.3
    trained = trainer.train(parameters, buffers, 200)
    assert metric_of(trainer.evaluate(trained.parameters, trained.buffers)) > 0.85
