"""The synthetic regressions of the scale-robust decentralized learning paper (section IV).

A user draws x from ½ N(1.5/d · w, I) + ½ N(−1.5/d · w, I), with w uniform in [0, 1]^d, and observes
y = f(x, w) without noise. There are m such distributions (w_1 … w_m) among n users. For the linear
one, f(x, θ) = xᵀθ and d = 100; for the non-linear one, f(x, θ) = θ₁x₁ + θ₁θ₂x₂ and d = 2. Which user
has which distribution the paper does not say: here user u has number u mod m.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.simulator.datasets.dataset import Dataset, DatasetFacts, DatasetPlan
from grapevine_proto.errors import ConfigError

Reals = NDArray[np.float64]

_DIMENSIONS: Final = {"linear-regression": 100, "nonlinear-regression": 2}
_TEST_SHARE = 0.25  # of the training samples, drawn beside them


def facts(plan: DatasetPlan) -> DatasetFacts:
    """Known from the options."""
    return DatasetFacts(
        name=plan.name,
        num_samples=plan.num_users * plan.samples_per_user,
        num_test=plan.num_users * _num_test(plan),
        grouped_by="user",
        num_groups=plan.num_users,
        has_test_groups=True,
    )


def load_regression(plan: DatasetPlan, folder: Path) -> Dataset:  # noqa: ARG001 - nothing lies on disk
    """Draw x float32 [n, d] and y float32 [n, 1]; groups are users, and everybody has equally many samples.

    The test set is drawn from the users' distributions, too, a quarter as many for each.
    """
    if not 1 <= plan.num_distributions <= plan.num_users:
        raise ConfigError(
            f"num_distributions = {plan.num_distributions}: must be from 1 to num_users = {plan.num_users}"
        )
    if plan.samples_per_user < 1:
        raise ConfigError(f"samples_per_user = {plan.samples_per_user}: must be 1 or more")
    rng = np.random.default_rng(plan.seed)
    of_distribution = rng.random((plan.num_distributions, _DIMENSIONS[plan.name]))
    weights = of_distribution[np.arange(plan.num_users) % plan.num_distributions]
    x, y, groups = _draw(plan, weights, plan.samples_per_user, rng)
    x_test, y_test, test_groups = _draw(plan, weights, _num_test(plan), rng)
    return Dataset(
        name=plan.name,
        kind=f"{plan.name}-{_DIMENSIONS[plan.name]}",
        x=x,
        y=y,
        x_test=x_test,
        y_test=y_test,
        groups=groups,
        test_groups=test_groups,
        grouped_by="user",
    )


def true_parameters(plan: DatasetPlan) -> Reals:
    """The paper's w: [m, d], of which user u has number u mod m. With m = 1 it is where the loss is 0."""
    return np.random.default_rng(plan.seed).random((plan.num_distributions, _DIMENSIONS[plan.name]))


def _num_test(plan: DatasetPlan) -> int:
    return max(1, round(_TEST_SHARE * plan.samples_per_user))


def _draw(
    plan: DatasetPlan, weights: Reals, num_each: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """`num_each` samples of each user, whose w are the rows of `weights`."""
    users = np.repeat(np.arange(len(weights)), num_each)
    of_sample = weights[users]
    sign = rng.choice([-1.0, 1.0], size=(len(users), 1))
    x = sign * 1.5 / weights.shape[1] * of_sample + rng.standard_normal(of_sample.shape)
    if plan.name == "linear-regression":
        y = (x * of_sample).sum(axis=1)
    else:
        y = of_sample[:, 0] * x[:, 0] + of_sample[:, 0] * of_sample[:, 1] * x[:, 1]
    return x.astype(np.float32), y.astype(np.float32)[:, None], users.astype(np.int64)
