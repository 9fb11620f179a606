"""What losses and metrics compute, beside PyTorch or by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.figures import metric_of
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_agent.data.preparing import Samples
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_agent.training.losses import EACH, EACH_METRIC, each_loss, mean_loss, mean_metric
from grapevine_proto.manifest import Optimiser, Schedule, TrainingPlan
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.authoring.export import build_program
from grapevine_tasks.closed_sets import LOSSES, METRICS
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.pipelines import prepare_learning
from grapevine_tasks.weights import decode_weights

torch.manual_seed(0)
OUTPUT, NUMBERS, BITS = torch.randn(30, 7), torch.randn(30, 7), torch.randint(0, 2, (30, 7)).float()
CLASSES = torch.randint(0, 7, (30,))


def _plan(loss: str, metric: str = "mse", **constants: float) -> TrainingPlan:
    return TrainingPlan(loss=loss, metric=metric, loss_constants=dict(constants))


@pytest.mark.parametrize(
    ("plan", "target", "expected"),
    [
        (_plan("cross-entropy"), CLASSES, F.cross_entropy(OUTPUT, CLASSES)),
        (
            _plan("cross-entropy", label_smoothing=0.1),
            CLASSES,
            F.cross_entropy(OUTPUT, CLASSES, label_smoothing=0.1),
        ),
        (_plan("binary-cross-entropy"), BITS, F.binary_cross_entropy_with_logits(OUTPUT, BITS)),
        (_plan("mse"), NUMBERS, F.mse_loss(OUTPUT, NUMBERS)),
        (_plan("l1"), NUMBERS, F.l1_loss(OUTPUT, NUMBERS)),
        (_plan("huber", delta=0.3), NUMBERS, F.huber_loss(OUTPUT, NUMBERS, delta=0.3)),
        (_plan("smooth-l1", beta=0.3), NUMBERS, F.smooth_l1_loss(OUTPUT, NUMBERS, beta=0.3)),
    ],
)
def test_a_loss_is_pytorchs_own(plan: TrainingPlan, target: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(mean_loss(plan)(OUTPUT, target), expected)
    torch.testing.assert_close(each_loss(plan)(OUTPUT, target).mean(), expected)


def test_the_elbo_is_half_the_squared_error_and_the_divergence_from_a_normal_distribution() -> None:
    shown, mean, log_variance = torch.randn(30, 7), torch.randn(30, 3), torch.randn(30, 3)
    output = torch.cat([shown, mean, log_variance], dim=1)
    latent = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(latent, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    expected = 0.5 * F.mse_loss(shown, NUMBERS, reduction="sum") / 30 + 4 * divergence
    torch.testing.assert_close(mean_loss(_plan("elbo", beta=4))(output, NUMBERS), expected)
    torch.testing.assert_close(mean_metric(_plan("elbo"))(output, NUMBERS), F.mse_loss(shown, NUMBERS))


def test_one_of_two_classes_is_compared_with_one_logit() -> None:
    output, target = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1, 0, 0])
    plan = _plan("binary-cross-entropy", "binary-accuracy")
    expected = F.binary_cross_entropy_with_logits(output[:, 0], target.float())
    torch.testing.assert_close(mean_loss(plan)(output, target), expected)
    assert float(mean_metric(plan)(output, target)) == pytest.approx(2 / 3)


def test_the_five_likeliest_classes_are_looked_at() -> None:
    output = torch.arange(7.0).repeat(7, 1)
    plan = _plan("cross-entropy", "top-5-accuracy")
    assert float(mean_metric(plan)(output, torch.arange(7))) == pytest.approx(5 / 7)


def test_every_name_of_the_closed_sets_computes_something() -> None:
    assert set(EACH) == set(LOSSES)
    assert set(EACH_METRIC) == set(METRICS)
    assert {loss for metric in METRICS.values() for loss in metric.losses} == set(LOSSES)


def _regression(num: int, plan: TrainingPlan) -> tuple[LocalTrainer, Any, Any]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(num, 4)).astype(np.float32)
    y = (x @ np.array([[1.0], [2], [-1], [0.5]])).astype(np.float32)
    torch.manual_seed(0)
    program, weights = build_program(nn.Linear(4, 1), torch.zeros(3, 4))
    trainer = LocalTrainer(program, plan, Samples(x=x, y=y, x_test=x, y_test=y))
    return trainer, decode_weights(ModelLayout.of(program), weights), y


def test_a_root_is_taken_of_the_mean_over_all_batches() -> None:
    squares, model, _ = _regression(1000, _plan("mse"))
    roots, _, _ = _regression(1000, _plan("mse", "rmse"))
    assert roots.evaluate(*model).metric == pytest.approx(math.sqrt(metric_of(squares.evaluate(*model))))


def test_the_learning_rate_is_that_of_the_models_age() -> None:
    plan = TrainingPlan(
        loss="mse",
        metric="mae",
        optimiser=Optimiser(learning_rate=0.1),
        schedule=Schedule(name="step", constants={"every": 10, "factor": 0.5}),
    )
    (scheduled, model, _), (plain, _, _) = (
        _regression(50, plan),
        _regression(50, TrainingPlan(loss="mse", metric="mae")),
    )
    parameters, buffers = model
    moved = [trainer.train(parameters, buffers, 1, age=25).parameters - parameters for trainer in (scheduled, plain)]
    np.testing.assert_allclose(moved[0], moved[1] / 4, rtol=1e-4, atol=1e-7)


MODEL = """
from torch import nn


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
"""
TASK = """
[task]
name = "Waves"

[data]
kind = "waves"

[data.features]
name = "row"
dtype = "float32"
shape = [2]
columns = ["sine", "cosine"]

[[data.pipeline]]
name = "standardise"

[[data.pipeline]]
name = "forecast"
length = 24
horizon = 3
columns = ["sine"]

[[data.pipeline]]
name = "flatten-target"

[training]
loss = "huber"
metric = "rmse"
optimiser = { name = "adamw", learning_rate = 0.02 }
schedule = { name = "warm-up-cosine", warm_up = 10, steps = 300 }
"""


def test_a_series_is_forecast_from_a_task_file_on(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "task.toml").write_text(TASK)
    draft = build_task(tmp_path, check_merging=check_merge_plan).draft
    program, plan = draft.program, draft.training
    time = np.arange(500) / 5
    rows = np.stack([20 + 5 * np.sin(time), 7 * np.cos(time)], axis=1)
    rows[100, 0] = np.nan
    trained = prepare_learning(rows[:400], None, draft.data, "waves")
    tested = prepare_learning(rows[400:], None, draft.data, "waves", trained.learnt)
    samples = Samples(x=trained.x, y=trained.y, x_test=tested.x, y_test=tested.y)
    trainer = LocalTrainer(program, plan, samples)
    layout = ModelLayout.of(program)
    result = trainer.train(np.zeros(layout.num_parameters, np.float32), np.empty(0, np.float32), 300)
    assert metric_of(trainer.evaluate(result.parameters, result.buffers)) < 0.05
