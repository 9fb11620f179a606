"""The optimisers and schedules of the closed set give what PyTorch's own give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from grapevine_agent.training.losses import shortened
from grapevine_agent.training.optimisers import Memory, new_optimiser
from grapevine_agent.training.schedules import SHARES, learning_rate
from grapevine_proto.manifest import Optimiser, Schedule, TrainingPlan
from grapevine_tasks.closed_sets import OPTIMISERS, SCHEDULES

NUM_STEPS = 50
Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
PAIRS: list[tuple[Optimiser, Make]] = [
    (Optimiser(learning_rate=0.05), lambda p: torch.optim.SGD(p, 0.05)),
    (
        Optimiser(learning_rate=0.05, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1),
    ),
    (
        Optimiser(learning_rate=0.05, momentum=0.9, weight_decay=0.1, constants={"nesterov": 1.0}),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    ),
    (Optimiser(name="adam", learning_rate=0.01), lambda p: torch.optim.Adam(p, 0.01)),
    (
        Optimiser(name="adam", learning_rate=0.01, weight_decay=0.1, constants={"beta1": 0.8, "eps": 1e-4}),
        lambda p: torch.optim.Adam(p, 0.01, betas=(0.8, 0.999), eps=1e-4, weight_decay=0.1),
    ),
    (
        Optimiser(name="adamw", learning_rate=0.01, weight_decay=0.1, constants={"beta2": 0.9}),
        lambda p: torch.optim.AdamW(p, 0.01, betas=(0.9, 0.9), weight_decay=0.1),
    ),
]


def _gradient(parameters: Tensor, step: int) -> Tensor:
    return (parameters - torch.arange(6.0)) * (1 + step % 3) + torch.sin(torch.arange(6.0) * step)


@pytest.mark.parametrize(("plan", "make"), PAIRS, ids=lambda each: getattr(each, "name", None))
def test_fifty_steps_end_where_pytorchs_own_end(plan: Optimiser, make: Make) -> None:
    theirs = torch.nn.Parameter(torch.linspace(-1, 1, 6))
    ours, memory = theirs.detach().clone(), Memory.fresh(plan, 6)
    reference = make([theirs])
    for step in range(NUM_STEPS):
        theirs.grad = _gradient(theirs.detach(), step)
        reference.step()
        new_optimiser(plan, memory).step(ours, _gradient(ours, step), plan.learning_rate)
    torch.testing.assert_close(ours, theirs.detach(), rtol=2e-6, atol=2e-6)


def test_every_optimiser_is_compared() -> None:
    assert {plan.name for plan, _ in PAIRS} == set(OPTIMISERS)


def test_a_long_gradient_is_shortened_as_pytorch_does_and_a_short_one_is_not() -> None:
    gradient = torch.tensor([3.0, -4.0])
    theirs = torch.nn.Parameter(torch.zeros(2))
    theirs.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_([theirs], 2.0)
    assert torch.equal(shortened(gradient.clone(), 2.0), theirs.grad)
    assert torch.equal(shortened(gradient.clone(), 6.0), gradient)
    assert torch.equal(shortened(gradient.clone(), 0.0), gradient)
    rows = shortened(torch.stack([gradient, gradient / 100]), 2.0)
    assert torch.equal(rows, torch.stack([theirs.grad, gradient / 100]))


def _plan(name: str, **constants: float) -> TrainingPlan:
    return TrainingPlan(optimiser=Optimiser(learning_rate=0.5), schedule=Schedule(name=name, constants=dict(constants)))


def _theirs(make: Callable[[Any], Any], num_steps: int) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    schedule = make(optimiser)
    rates = []
    for _ in range(num_steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("plan", "make"),
    [
        (_plan("step", every=7, factor=0.3), lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.3)),
        (_plan("exponential", factor=0.9), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        (
            _plan("cosine", steps=40, final=0.1),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.05),
        ),
        (
            _plan("warm-up", warm_up=10),
            lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: min(1.0, (k + 1) / 10)),
        ),
    ],
)
def test_a_schedule_is_pytorchs_own_of_the_models_age(plan: TrainingPlan, make: Callable[[Any], Any]) -> None:
    rate = learning_rate(plan)
    assert [rate(age) for age in range(40)] == pytest.approx(_theirs(make, 40), rel=1e-9)


def test_a_warm_up_goes_over_into_the_cosine_and_stays_at_its_end() -> None:
    rate = learning_rate(_plan("warm-up-cosine", warm_up=10, steps=30, final=0.2))
    assert [rate(age) for age in (0, 4, 9, 10)] == pytest.approx([0.05, 0.25, 0.5, 0.5])
    assert rate(20) == pytest.approx(0.5 * 0.6)
    assert rate(30) == rate(10**6) == pytest.approx(0.1)


CONSTANTS = {
    "every": st.integers(1, 10**12),
    "factor": st.floats(1e-6, 1),
    "steps": st.integers(10**6, 10**12),
    "warm_up": st.integers(1, 10**5),
    "final": st.floats(0, 1),
}


@given(st.data(), st.sampled_from(sorted(SCHEDULES)), st.integers(0, 2**53))
def test_no_age_takes_a_learning_rate_out_of_its_bounds(data: st.DataObject, name: str, age: int) -> None:
    constants = {key: float(data.draw(CONSTANTS[key])) for key in SCHEDULES[name].constants}
    assert 0 <= learning_rate(_plan(name, **constants))(age) <= 0.5
    assert set(SHARES) == set(SCHEDULES)
