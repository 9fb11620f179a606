"""Local steps: they learn, they repeat, and they leave everything else alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.figures import loss_of, metric_of
from tests.unit.agent.training.conftest import three_classes
from torch import nn

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_agent.training.results import Evaluation
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, TaskManifest, TrainingPlan
from grapevine_proto.messages import Vector
from grapevine_proto.program import Program

Model = tuple[Vector, Vector]


def _samples(num_train: int, num_test: int = 50) -> Samples:
    train, test = three_classes(num_train), three_classes(num_test, seed=1)
    return Samples(x=train["x"], y=train["y"], x_test=test["x"], y_test=test["y"])


@pytest.fixture
def samples() -> Samples:
    return _samples(200)


def test_training_learns_and_tells_how_well(manifest: TaskManifest, samples: Samples, model: Model) -> None:
    trainer = LocalTrainer(manifest.program, manifest.training, samples)
    before = trainer.evaluate(*model)
    result = trainer.train(*model, 100)
    after = trainer.evaluate(result.parameters, result.buffers)
    assert metric_of(before) < 0.7
    assert metric_of(after) > 0.9
    assert loss_of(after) < loss_of(before)
    assert after.num_samples == 50
    assert result.num_samples == 100 * 16
    assert result.loss < loss_of(before)
    assert not np.array_equal(result.buffers, model[1])  # statistics moved
    assert trainer.num_samples == 200


def test_the_same_seed_repeats_to_the_bit_and_another_does_not(
    manifest: TaskManifest, samples: Samples, model: Model
) -> None:
    def run(seed: int) -> Vector:
        trainer = LocalTrainer(manifest.program, manifest.training, samples, seed=seed)
        first = trainer.train(*model, 5)
        torch.rand(10)  # somebody else draws in between
        return trainer.train(first.parameters, first.buffers, 5).parameters

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_the_global_generator_and_the_arguments_are_left_alone(
    manifest: TaskManifest, samples: Samples, model: Model
) -> None:
    copies = [vector.copy() for vector in model]
    trainer = LocalTrainer(manifest.program, manifest.training, samples)
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    result = trainer.train(*model, 3)
    trainer.evaluate(result.parameters, result.buffers)
    assert torch.equal(torch.rand(3), expected)
    for vector, copy in zip(model, copies, strict=True):
        np.testing.assert_array_equal(vector, copy)


@pytest.mark.parametrize("optimiser", [Optimiser(momentum=0.9, weight_decay=0.01), Optimiser(name="adam")])
def test_steps_are_those_of_pytorch_and_its_optimisers_state_survives_rounds(
    program: Program, model: Model, optimiser: Optimiser
) -> None:
    """One batch of all samples and no dropout, so that the order of samples does not matter."""
    nodes = (program.train.nodes[0], replace(program.train.nodes[2], arguments=(*_without_dropout(program),)))
    plain = replace(program, train=replace(program.train, nodes=nodes, output=8))
    samples = _samples(12)
    trainer = LocalTrainer(plain, TrainingPlan(batch_size=12, optimiser=optimiser), samples)
    parameters, buffers = model
    normalisation, linear = nn.BatchNorm1d(4, affine=False), nn.Linear(4, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(parameters[:12]).view(3, 4))
        linear.bias.copy_(torch.from_numpy(parameters[12:]))
    rate, decay = optimiser.learning_rate, optimiser.weight_decay
    reference: Any = (
        torch.optim.Adam(linear.parameters(), lr=rate, weight_decay=decay)
        if optimiser.name == "adam"
        else torch.optim.SGD(linear.parameters(), lr=rate, momentum=optimiser.momentum, weight_decay=decay)
    )
    x, y = torch.from_numpy(samples.x), torch.from_numpy(samples.y)
    for _ in range(3):  # rounds of two steps
        for _ in range(2):
            reference.zero_grad()
            loss: Any = nn.functional.cross_entropy(linear(normalisation(x)), y)
            loss.backward()
            reference.step()
        result = trainer.train(parameters, buffers, 2)
        parameters, buffers = result.parameters, result.buffers
    expected = torch.cat([linear.weight.detach().flatten(), linear.bias.detach()]).numpy()
    np.testing.assert_allclose(parameters, expected, atol=1e-5)
    np.testing.assert_allclose(buffers[4:], normalisation.get_buffer("running_var").numpy(), rtol=1e-5)


def _without_dropout(program: Program) -> list[Any]:
    return [program.train.nodes[1].arguments[0], *program.train.nodes[2].arguments[1:]]


@pytest.mark.parametrize(
    "optimiser", [Optimiser(momentum=0.9), Optimiser(name="adam", learning_rate=0.01), Optimiser(learning_rate=0.1)]
)
def test_a_restored_trainer_goes_on_bit_for_bit(
    manifest: TaskManifest, samples: Samples, model: Model, optimiser: Optimiser
) -> None:
    plan = replace(manifest.training, optimiser=optimiser)
    trainer = LocalTrainer(manifest.program, plan, samples, seed=1)
    result = trainer.train(*model, 7)  # in the middle of an epoch
    state = trainer.state()
    went_on = trainer.train(result.parameters, result.buffers, 20)
    other = LocalTrainer(manifest.program, plan, samples, seed=2)
    other.train(*model, 3)
    other.restore(state)
    again = other.train(result.parameters, result.buffers, 20)
    np.testing.assert_array_equal(again.parameters, went_on.parameters)
    np.testing.assert_array_equal(again.buffers, went_on.buffers)
    assert again.loss == went_on.loss


def test_the_state_of_a_fresh_trainer_makes_another_one_fresh(
    manifest: TaskManifest, samples: Samples, model: Model
) -> None:
    trainer = LocalTrainer(manifest.program, manifest.training, samples, seed=1)
    state = trainer.state()
    used = LocalTrainer(manifest.program, manifest.training, samples, seed=1)
    used.train(*model, 5)
    used.restore(state)
    np.testing.assert_array_equal(used.train(*model, 5).parameters, trainer.train(*model, 5).parameters)


def test_fewer_samples_than_a_batch_make_one_batch(manifest: TaskManifest, model: Model) -> None:
    trainer = LocalTrainer(manifest.program, manifest.training, _samples(5))
    assert trainer.train(*model, 2).num_samples == 10


def test_without_test_samples_nothing_is_evaluated(manifest: TaskManifest, model: Model) -> None:
    trainer = LocalTrainer(manifest.program, manifest.training, _samples(20, num_test=0))
    assert trainer.evaluate(*model) == Evaluation(loss=None, metric=None, num_samples=0)


def test_an_evaluation_is_the_mean_over_samples_whatever_the_batches(manifest: TaskManifest, model: Model) -> None:
    whole = _samples(20, num_test=600)  # in batches of 256, 256 and 88
    trainer = LocalTrainer(manifest.program, manifest.training, whole)
    found = trainer.evaluate(*model)
    x, (parameters, _) = whole.x_test / np.sqrt(1 + 1e-5), model
    output = x @ parameters[:12].reshape(3, 4).T + parameters[12:]
    assert found.metric == pytest.approx((output.argmax(1) == whole.y_test).mean())


def test_training_that_diverges_is_a_task_error_and_the_next_call_starts_afresh(
    manifest: TaskManifest, samples: Samples, model: Model
) -> None:
    trainer = LocalTrainer(manifest.program, manifest.training, samples)
    poisoned = model[0].copy()
    poisoned[0] = np.inf
    with pytest.raises(TaskError, match="diverged"):
        trainer.train(poisoned, model[1], 3)
    assert np.isfinite(trainer.train(*model, 3).parameters).all()


def test_a_model_of_another_size_is_refused(manifest: TaskManifest, samples: Samples, model: Model) -> None:
    trainer = LocalTrainer(manifest.program, manifest.training, samples)
    with pytest.raises(TaskError, match="the task 15 and 8"):
        trainer.train(model[0][:-1], model[1], 1)
    with pytest.raises(TaskError, match="the task 15 and 8"):
        trainer.evaluate(model[0][:-1], model[1])
    unused = LocalTrainer(manifest.program, manifest.training, samples)
    np.testing.assert_array_equal(trainer.train(*model, 1).parameters, unused.train(*model, 1).parameters)


def test_a_regression_is_trained_with_mse(manifest: TaskManifest, model: Model) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype(np.float32)
    y = (x @ rng.normal(size=(4, 3))).astype(np.float32)
    plan = replace(manifest.training, loss="mse", metric="mse")
    trainer = LocalTrainer(manifest.program, plan, Samples(x=x, y=y, x_test=x, y_test=y))
    result = trainer.train(*model, 200)
    after = metric_of(trainer.evaluate(result.parameters, result.buffers))
    assert after < 0.3 * metric_of(trainer.evaluate(*model))


def test_read_only_samples_will_do(manifest: TaskManifest, samples: Samples, model: Model) -> None:
    samples.x.flags.writeable = False
    result = LocalTrainer(manifest.program, manifest.training, samples).train(*model, 1)
    assert np.isfinite(result.parameters).all()


def test_training_does_not_import_pytorchs_compiler() -> None:
    """It would cost every trainer process 80 MB and a second."""
    script = """
        import sys
        import numpy as np
        from grapevine_agent.training.local_training import LocalTrainer
        from grapevine_agent.data.preparing import Samples
        from grapevine_proto.manifest import Optimiser, TrainingPlan
        from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec

        graph = Graph(nodes=(Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(1), None)),), output=2)
        program = Program(
            inputs=(InputSpec(name="x", shape=(2,)),),
            parameters=(TensorSpec(name="w", shape=(2, 2)),),
            train=graph,
            eval=graph,
        )
        x, y = np.ones((8, 2), np.float32), np.zeros(8, np.int64)
        for name in ("sgd", "adam"):
            plan = TrainingPlan(optimiser=Optimiser(name=name))
            trainer = LocalTrainer(program, plan, Samples(x=x, y=y, x_test=x, y_test=y))
            trainer.evaluate(trainer.train(np.zeros(4, np.float32), x[:0, 0], 2).parameters, x[:0, 0])
        sys.exit("torch._dynamo" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == 0


def test_a_device_left_with_a_single_sample_is_told_so_before_it_trains(manifest: TaskManifest) -> None:
    with pytest.raises(TaskError, match=r"a single sample is left .* 1 value at a batch of 1"):
        LocalTrainer(manifest.program, manifest.training, _samples(1))
    LocalTrainer(manifest.program, manifest.training, _samples(2))
