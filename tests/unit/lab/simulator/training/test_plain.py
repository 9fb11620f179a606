"""Nodes trained one after the other are the devices that they stand for, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.unit.lab.simulator.training.crowds import (
    SEED,
    asks,
    crowd,
    devices,
    looks,
    net,
    one_thread,
    some_rounds,
    the_same_on_devices,
)

from grapevine_lab.simulator.training import TrainingRequest, make_trainer
from grapevine_proto.errors import GrapevineError, TaskError
from grapevine_proto.manifest import Optimiser, Schedule, TrainingPlan

ADAM = TrainingPlan(optimiser=Optimiser(name="adam", learning_rate=0.01), batch_size=8)
MOMENTUM = TrainingPlan(optimiser=Optimiser(learning_rate=0.05, momentum=0.9, weight_decay=0.01), batch_size=8)
SCHEDULED = TrainingPlan(
    optimiser=Optimiser(name="adamw", learning_rate=0.05, weight_decay=0.01),
    schedule=Schedule(name="cosine", constants={"steps": 12.0}),
    loss_constants={"label_smoothing": 0.1},
    max_gradient_norm=1.0,
    batch_size=8,
)
NUM_NODES = 5


@pytest.fixture(autouse=True)
def _with_one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("plan", [ADAM, MOMENTUM, SCHEDULED])
@pytest.mark.parametrize("name", ["cnn", "dropping", "noisy"])
def test_a_node_is_trained_and_evaluated_as_its_device_would(name: str, plan: TrainingPlan) -> None:
    given, samples = net(name), crowd(net(name).shape, NUM_NODES)
    trainer = make_trainer(given.program, plan, samples, seed=SEED, num_workers=1, how="plain")
    local = devices(given.program, plan, samples)
    models, expected = some_rounds(trainer, given.model, NUM_NODES), the_same_on_devices(local, given.model)
    evaluations = trainer.evaluate(looks(models))
    for node, device in enumerate(local):
        np.testing.assert_array_equal(models[node][0], expected[node][0])
        np.testing.assert_array_equal(models[node][1], expected[node][1])
        assert evaluations[node] == device.evaluate(*expected[node])
        assert trainer.num_samples(node) == device.num_samples


def test_a_node_that_diverges_hurts_nobody_else_and_starts_afresh() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 3)
    for how in ("plain", "stacked"):
        trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how=how)
        alone = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how=how)
        poisoned = np.full_like(given.model[0], np.inf)
        models = {0: given.model, 1: (poisoned, given.model[1]), 2: given.model}
        first = trainer.train(asks(models, 4))
        assert isinstance(first[1], TaskError)
        assert "diverged" in str(first[1])
        healthy = alone.train(asks({0: given.model, 2: given.model}, 4))
        for result, expected in zip((first[0], first[2]), healthy, strict=True):
            np.testing.assert_array_equal(result.parameters, expected.parameters)  # type: ignore[union-attr]
        again = trainer.train(asks({1: given.model}, 4))[0]
        assert not isinstance(again, TaskError)
        assert np.isfinite(again.parameters).all()
        device = devices(given.program, ADAM, samples)[1]
        with pytest.raises(TaskError):
            device.train(*models[1], 4)
        np.testing.assert_allclose(again.parameters, device.train(*given.model, 4).parameters, atol=1e-6)


def test_a_model_of_another_size_is_that_nodes_error() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 2)
    trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="plain")
    short = (given.model[0][:-1], given.model[1])
    wrong, right = trainer.train(asks({0: short, 1: given.model}, 1))
    assert isinstance(wrong, TaskError)
    assert not isinstance(right, TaskError)
    with pytest.raises(TaskError, match="the task"):
        trainer.evaluate(looks({0: short}))


def test_arguments_and_pytorchs_generator_are_left_alone() -> None:
    given, samples = net("dropping"), crowd(net("dropping").shape, 3)
    copies = [vector.copy() for vector in given.model]
    for how in ("plain", "stacked"):
        torch.manual_seed(9)
        expected = torch.rand(3)
        torch.manual_seed(9)
        trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how=how)
        trainer.train(asks(dict.fromkeys(range(3), given.model), 2))
        assert torch.equal(torch.rand(3), expected)
        for vector, copy in zip(given.model, copies, strict=True):
            np.testing.assert_array_equal(vector, copy)


def test_one_asks_for_a_node_once_and_for_a_step_at_least() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 2)
    trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1)
    request = TrainingRequest(node=0, parameters=given.model[0], buffers=given.model[1], num_steps=1)
    with pytest.raises(ValueError, match="once"):
        trainer.train([request, request])
    with pytest.raises(ValueError, match="0 steps"):
        trainer.train(asks({0: given.model}, 0))
    assert trainer.train([]) == []
    assert trainer.evaluate([]) == []


@pytest.mark.parametrize("how", ["plain", "stacked"])
@pytest.mark.parametrize("plan", [ADAM, MOMENTUM])
def test_a_restored_trainer_goes_on_bit_for_bit(how: str, plan: TrainingPlan) -> None:
    given, samples = net("dropping"), crowd(net("dropping").shape, NUM_NODES)
    trainer = make_trainer(given.program, plan, samples, seed=SEED, num_workers=1, how=how)  # type: ignore[arg-type]
    some_rounds(trainer, given.model, NUM_NODES)
    state = trainer.state()
    went_on = some_rounds(trainer, given.model, NUM_NODES, first_round=1)
    other = make_trainer(given.program, plan, samples, seed=SEED + 1, num_workers=1, how=how)  # type: ignore[arg-type]
    some_rounds(other, given.model, NUM_NODES)
    other.restore(state)
    again = some_rounds(other, given.model, NUM_NODES, first_round=1)
    for node in range(NUM_NODES):
        np.testing.assert_array_equal(again[node][0], went_on[node][0])


def test_a_state_of_another_crowd_is_refused() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 3)
    plain = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="plain")
    stacked = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="stacked")
    with pytest.raises(GrapevineError, match="trained plain"):
        stacked.restore(plain.state())


def test_a_node_without_samples_is_named() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 2)
    samples[1].x.resize((0, 12), refcheck=False)
    with pytest.raises(TaskError, match="node 1 has no samples"):
        make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1)


def test_without_test_samples_nothing_is_evaluated() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 2, num_test=0)
    for how in ("plain", "stacked"):
        trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how=how)
        assert trainer.evaluate(looks({0: given.model}))[0].num_samples == 0
