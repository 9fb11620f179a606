"""The scale-robust paper among the simulator's agents: staleness as bounded, learning as in Algorithm 1."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.swarm.simulations import build_once

from grapevine_lab.papers.scale_robust.figures import plain_curve, time_to
from grapevine_lab.papers.scale_robust.runs import RATES, Setting, Task, agents_staleness, loss_curve
from grapevine_lab.simulator import experiment


@pytest.fixture(autouse=True)
def _each_task_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds, and numbers of nodes, make no other task."""
    monkeypatch.setattr(experiment, "_build", build_once)


@pytest.mark.parametrize("policy", ["constant", "log-n"])
def test_agents_are_as_stale_as_lemma_1_says(policy: str) -> None:
    found = agents_staleness(num_nodes=16, policy=policy, duration_s=120.0)
    assert found.update_rate == pytest.approx(1.0, rel=0.1)
    assert found.mean == pytest.approx(found.bound, rel=0.12)


def test_agents_staleness_is_flat_at_log_n_and_grows_at_a_constant_rate() -> None:
    few, many = 8, 48
    means = {
        (policy, n): agents_staleness(num_nodes=n, policy=policy, duration_s=60.0).mean
        for policy in ("constant", "log-n")
        for n in (few, many)
    }
    assert means["log-n", many] == pytest.approx(means["log-n", few], rel=0.2)
    assert means["constant", many] > 1.4 * means["constant", few]


def test_agents_bear_slow_training_and_lost_messages_as_predicted() -> None:
    changes = ("nodes.training_time=fixed", "nodes.step_s=2.0")
    found = agents_staleness(num_nodes=16, policy="log-n", duration_s=200.0, changes=changes, loss=0.5)
    assert found.update_rate == pytest.approx(0.5, rel=0.02)
    assert found.mean == pytest.approx(found.bound, rel=0.12)


@pytest.mark.parametrize(("task", "learning_rate"), [("linear", 0.005), ("nonlinear", 0.02)])
def test_agents_learn_as_algorithm_1_does(task: Task, learning_rate: float) -> None:
    setting = Setting(
        task=task,
        num_nodes=12,
        send_rate=RATES["Θ(log n)"](12),
        learning_rate=learning_rate,
        batch_size=100,  # all samples: curves without noise
        duration_s=15.0,
    )
    times_s = np.arange(1.0, 14.0)
    agents, plain = (
        # The first steps count for much, and who makes them is chance: a mean over draws of all that is drawn.
        np.mean(
            [np.interp(times_s, c.x, c.median) for c in (curve(replace(setting, seed=s)) for s in range(6))], axis=0
        )
        for curve in (loss_curve, partial(plain_curve, like_agents=True))
    )
    assert agents[-1] < 0.8
    assert agents == pytest.approx(plain, abs=0.06)


def test_steps_that_grow_with_n_speed_learning_up() -> None:
    def half_s(num_nodes: int) -> float:
        setting = Setting(
            task="linear",
            num_nodes=num_nodes,
            send_rate=RATES["Θ(log n)"](num_nodes),
            learning_rate=0.001 * num_nodes,
            duration_s=400.0 / num_nodes,
        )
        return time_to(loss_curve(setting), 0.5)

    assert half_s(5) > 2 * half_s(20)


def test_a_run_of_agents_repeats() -> None:
    setting = Setting(task="nonlinear", num_nodes=4, num_distributions=4, send_rate=10.0, duration_s=5.0)
    one, other = loss_curve(setting), loss_curve(setting)
    assert one.median.tolist() == other.median.tolist()
