"""Many models trained as rows of a matrix come out as each would alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.figures import metric_of
from tests.unit.lab.simulator.training.crowds import (
    SEED,
    asks,
    crowd,
    devices,
    fine,
    looks,
    net,
    net_of,
    some_rounds,
    the_same_on_devices,
)
from torch import Tensor, nn

from grapevine_agent.data.preparing import Samples
from grapevine_lab.simulator.training import EvaluationRequest, make_trainer
from grapevine_lab.simulator.training.choose import make_crowd
from grapevine_lab.simulator.training.engines import models_at_once
from grapevine_lab.simulator.training.jobs import How
from grapevine_lab.simulator.training.stacked_interpreter import StackedInterpreter
from grapevine_proto.errors import ConfigError, TaskError
from grapevine_proto.manifest import Optimiser, Schedule, TrainingPlan
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout

ADAM = TrainingPlan(optimiser=Optimiser(name="adam", learning_rate=0.01), batch_size=8)
PLANS = [
    ADAM,
    TrainingPlan(optimiser=Optimiser(name="adam", learning_rate=0.01, weight_decay=0.1), batch_size=8),
    TrainingPlan(optimiser=Optimiser(learning_rate=0.05, momentum=0.9), batch_size=8),
    TrainingPlan(optimiser=Optimiser(learning_rate=0.05, weight_decay=0.1), batch_size=8),
    TrainingPlan(
        optimiser=Optimiser(learning_rate=0.05, momentum=0.9, constants={"nesterov": 1.0}),
        loss_constants={"label_smoothing": 0.1},
        max_gradient_norm=0.5,
        batch_size=8,
    ),
    TrainingPlan(
        optimiser=Optimiser(
            name="adamw", learning_rate=0.01, weight_decay=0.1, constants={"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}
        ),
        schedule=Schedule(name="step", constants={"every": 2.0, "factor": 0.5}),
        batch_size=8,
    ),
]
NUM_NODES = 10


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["mlp", "dropping", "unbiased cnn"])
def test_ten_nodes_together_agree_with_ten_devices(name: str, plan: TrainingPlan) -> None:
    given, samples = net(name), crowd(net(name).shape, NUM_NODES)
    trainer = make_trainer(given.program, plan, samples, seed=SEED, num_workers=1, how="stacked")
    local = devices(given.program, plan, samples)
    models, expected = some_rounds(trainer, given.model, NUM_NODES), the_same_on_devices(local, given.model)
    evaluations = trainer.evaluate(looks(models))
    near = (
        5e-5 if name == "unbiased cnn" else 1e-5
    )  # Adam makes half a percent of a step of a small gradient's rounding
    for node, device in enumerate(local):
        np.testing.assert_allclose(models[node][0], expected[node][0], atol=near)
        np.testing.assert_allclose(models[node][1], expected[node][1], atol=1e-5)
        reference = device.evaluate(*models[node])
        assert evaluations[node].loss == pytest.approx(reference.loss, abs=1e-5)
        assert evaluations[node].metric == pytest.approx(reference.metric, abs=1e-9)
        assert evaluations[node].num_samples == reference.num_samples


@pytest.mark.parametrize("how", ["plain", "stacked"])
def test_models_are_measured_on_the_samples_that_a_node_trains_on_where_that_is_asked(how: How) -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 3)
    trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how=how)
    own = [replace(each, x_test=each.x, y_test=each.y) for each in samples]
    local = devices(given.program, ADAM, own)
    parameters, buffers = given.model
    asked = [EvaluationRequest(node=node, parameters=parameters, buffers=buffers, own=True) for node in (2, 0, 2)]
    common, *found = trainer.evaluate([replace(asked[0], own=False), *asked])
    assert common.num_samples == len(samples[0].x_test)
    for request, evaluation in zip(asked, found, strict=True):
        reference = local[request.node].evaluate(parameters, buffers)
        assert evaluation.loss == pytest.approx(reference.loss, abs=1e-5)
        assert evaluation.num_samples == len(samples[request.node].x)


def test_training_together_learns() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, NUM_NODES)
    trainer = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="stacked")
    before = trainer.evaluate(looks({NUM_NODES - 1: given.model}))[0]
    result = fine(trainer.train(asks({NUM_NODES - 1: given.model}, 100))[0])
    after = trainer.evaluate(looks({NUM_NODES - 1: (result.parameters, result.buffers)}))[0]
    assert metric_of(before) < 0.6
    assert metric_of(after) > 0.9


@pytest.mark.parametrize("name", ["mlp", "dropping", "cnn"])
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    given, samples = net(name), crowd(net(name).shape, NUM_NODES)
    everybody = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="stacked")
    together = everybody.train(asks(dict.fromkeys(range(NUM_NODES), given.model), 5))
    for nodes in ([3], [7, 3], [9, 1, 3, 2, 8, 0]):
        few = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="stacked")
        results = few.train(asks(dict.fromkeys(nodes, given.model), 5))
        for node, result in zip(nodes, results, strict=True):
            np.testing.assert_array_equal(fine(result).parameters, fine(together[node]).parameters)


def test_a_regression_is_trained_too() -> None:
    rng = np.random.default_rng(0)
    given = net_of(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,))
    x = rng.normal(size=(60, 6)).astype(np.float32)
    y = (x @ rng.normal(size=(6, 3))).astype(np.float32)
    plan = replace(ADAM, loss="mse", metric="mse")
    samples = [Samples(x=x[k::3], y=y[k::3], x_test=x, y_test=y) for k in range(3)]
    trainer = make_trainer(given.program, plan, samples, seed=SEED, num_workers=1, how="stacked")
    local = devices(given.program, plan, samples)
    results = trainer.train(asks(dict.fromkeys(range(3), given.model), 20))
    for node, result in enumerate(results):
        expected = local[node].train(*given.model, 20)
        np.testing.assert_allclose(fine(result).parameters, expected.parameters, atol=1e-5)
        assert fine(result).loss == pytest.approx(expected.loss, abs=1e-5)


class _Attention(nn.Module):
    """Sequences, products of matrices, softmax, sums over a dimension, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(5, 4, bias=k == 2) for k in range(3))
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("places", torch.rand(7, 5), persistent=False)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.get_buffer("places")
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 2, dim=-1)
        found = self.norm(weights @ self.value(x)) * self.scale
        out: Tensor = self.out(torch.cat([found.mean(1), found.amax(1)], dim=1))
        return out


class _Recurrent(nn.Module):
    """Slices and steps over time, elements combined, stacked and reshaped."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.again, self.out = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = (x[:, 0, :1] * 0).expand(-1, 6)
        kept = []
        for step in range(7):
            gate = torch.sigmoid(self.into(x[:, step]))
            state = gate * torch.tanh(self.again(state)) + (1 - gate) * state
            kept.append(self.out(state))
        return torch.stack(kept, dim=1).reshape(x.shape[0], 14)


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (_Attention, (7, 5)),
    (_Recurrent, (7, 5)),
    (lambda: nn.Sequential(nn.Unflatten(1, (2, 6)), nn.GroupNorm(2, 2), nn.Flatten(), nn.Linear(12, 3)), (12,)),
    (lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ELU(), nn.Hardswish(), nn.Softplus()), (12,)),
    (lambda: nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3), nn.GELU()), (1, 8, 8)),
    (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2)), (1, 8, 8)),
]


@pytest.mark.parametrize(("module", "shape"), NETWORKS)
def test_the_stacked_interpreter_computes_each_row_as_the_interpreter_does(
    module: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    program = net_of(module(), shape).program
    layout = ModelLayout.of(program)
    parameters = [torch.randn(3, *entry.shape).requires_grad_() for entry in layout.parameters]
    buffers = [torch.rand(3, *entry.shape) for entry in layout.buffers]
    own, common = torch.randn(3, 6, *shape), torch.randn(6, *shape)
    stacked = StackedInterpreter(program, stacked_inputs=True)
    output, updated = stacked.run("train", (own,), parameters, buffers)
    gradients = torch.autograd.grad((output * torch.arange(3.0).view(3, 1, 1)).sum(), parameters)
    of_common = StackedInterpreter(program, stacked_inputs=False).run("eval", (common,), parameters, buffers)[0]
    plain = Interpreter(program)
    for k in range(3):
        leaves = [tensor[k].detach().requires_grad_() for tensor in parameters]
        state = [tensor[k] for tensor in buffers]
        expected, expected_state = plain.run("train", (own[k],), leaves, state)
        torch.testing.assert_close(output[k], expected, atol=1e-5, rtol=1e-4)
        for found, wanted in zip(updated, expected_state, strict=True):
            torch.testing.assert_close(found[k], wanted, atol=1e-5, rtol=1e-4)
        for found, wanted in zip(gradients, torch.autograd.grad((k * expected).sum(), leaves), strict=True):
            torch.testing.assert_close(found[k], wanted, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(of_common[k], plain.run("eval", (common,), leaves, state)[0], atol=1e-5, rtol=1e-4)


def test_the_program_decides_whether_nodes_are_stacked() -> None:
    for name, how in (("mlp", "stacked"), ("dropping", "stacked"), ("cnn", "stacked"), ("noisy", "plain")):
        made = make_crowd(net(name).program, ADAM, crowd(net(name).shape, 2), seed=SEED, num_workers=1, how="auto")
        assert made.how == how
    large = net_of(nn.Sequential(nn.Linear(12, 30_000), nn.ReLU(), nn.Linear(30_000, 4)), (12,))
    made = make_crowd(large.program, ADAM, crowd((12,), 2), seed=SEED, num_workers=1, how="auto")
    assert made.how == "plain"


def test_what_draws_otherwise_than_by_dropout_is_trained_one_by_one() -> None:
    samples = crowd((12,), 2)
    assert make_crowd(net("noisy").program, ADAM, samples, seed=SEED, num_workers=1, how="auto").how == "plain"
    with pytest.raises(ConfigError, match=r"GRU, NORMAL, which cannot draw.*trainer = \"plain\""):
        make_crowd(net("noisy").program, ADAM, samples, seed=SEED, num_workers=1, how="stacked")


def test_what_cannot_be_trained_at_all_is_told() -> None:
    with pytest.raises(ConfigError, match='"stacked" or "plain"'):
        make_crowd(net("mlp").program, ADAM, crowd((12,), 2), seed=SEED, num_workers=1, how="staked")
    with pytest.raises(ConfigError, match="0 workers"):
        make_trainer(net("mlp").program, ADAM, crowd((12,), 2), seed=SEED, num_workers=0)


def test_a_job_holds_as_many_models_as_fit_a_cache() -> None:
    assert models_at_once(net("mlp").program) == 32
    wide = net_of(nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)), (784,))
    assert models_at_once(wide.program) == 7


def test_many_steps_are_gathered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 4)
    models = dict.fromkeys(range(4), given.model)
    whole = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="stacked").train(asks(models, 9))
    monkeypatch.setattr("grapevine_lab.simulator.training.stacked._GATHERED_BYTES", 4 * 8 * 12 * 4 * 2)
    parts = make_trainer(given.program, ADAM, samples, seed=SEED, num_workers=1, how="stacked").train(asks(models, 9))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(fine(one).parameters, fine(other).parameters)


def test_a_batch_that_an_operator_refuses_is_those_nodes_error() -> None:
    """A batch of one sample has no variance to normalise by."""
    given, samples = net("dropping"), crowd(net("dropping").shape, 3)
    one = replace(samples[0], x=samples[0].x[:1], y=samples[0].y[:1])
    for how in ("plain", "stacked"):
        trainer = make_trainer(given.program, ADAM, [one, samples[1], samples[2]], seed=SEED, num_workers=1, how=how)
        results = trainer.train(asks(dict.fromkeys(range(3), given.model), 2))
        assert isinstance(results[0], TaskError)
        assert "more than 1 value per channel" in str(results[0])
        assert np.isfinite(fine(results[1]).parameters).all()


def test_nodes_with_test_sets_of_their_own_are_evaluated_on_them() -> None:
    given, samples = net("mlp"), crowd(net("mlp").shape, 4)
    own = [replace(each, x_test=each.x, y_test=each.y) for each in samples]
    trainer = make_trainer(given.program, ADAM, own, seed=SEED, num_workers=1, how="stacked")
    found = trainer.evaluate(looks(dict.fromkeys([2, 0, 3], given.model)))
    assert [each.num_samples for each in found] == [24, 10, 31]
    local = devices(given.program, ADAM, own)
    for node, each in zip([2, 0, 3], found, strict=True):
        assert each.loss == pytest.approx(local[node].evaluate(*given.model).loss, abs=1e-5)
