"""The scale-robust paper's theorems in the event simulation, and its Algorithm 1 in plain NumPy."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grapevine_agent.core.learning.gossip import SEND_RATE_POLICIES
from grapevine_lab.papers.report import Table, decimals
from grapevine_lab.papers.scale_robust import algorithm
from grapevine_lab.papers.scale_robust.algorithm import Learning
from grapevine_lab.papers.scale_robust.figures import time_to
from grapevine_lab.papers.scale_robust.runs import RATES, Setting, Task
from grapevine_lab.papers.scale_robust.staleness import Gossip, Staleness, Told, measure_staleness
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.datasets import DatasetPlan
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.plots import Curve
from grapevine_lab.simulator.scenario import read_scenario


def staleness(gossip: Gossip, *, updates: float = 150.0) -> float:
    """Measured over so many mean times between a node's updates."""
    return measure_staleness(gossip, duration_s=updates / gossip.effective_update_rate, seed=1).mean


def of_policy(policy: str, num_nodes: int) -> Gossip:
    return Gossip(num_nodes=num_nodes, send_rate=SEND_RATE_POLICIES[policy](num_nodes))


# --- Lemma 1 and Theorem 1 ------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["constant", "log-log-n", "log-n", "linear"])
def test_the_bound_of_lemma_1_is_tight(policy: str) -> None:
    gossip = of_policy(policy, 30)
    assert staleness(gossip) == pytest.approx(gossip.bound, rel=0.1)


def test_staleness_stays_flat_at_log_n_and_grows_at_a_constant_rate() -> None:
    few, many = 8, 80
    flat = staleness(of_policy("log-n", few), updates=800)
    assert staleness(of_policy("log-n", many), updates=100) == pytest.approx(flat, rel=0.2)
    assert staleness(of_policy("constant", many)) > 1.6 * staleness(of_policy("constant", few))
    assert staleness(of_policy("log-log-n", many)) > 1.2 * staleness(of_policy("log-log-n", few))


def test_the_lemmas_bounds_are_those_that_are_known() -> None:
    bounds = [of_policy("constant", n).bound for n in (10, 50, 100, 200)]
    assert bounds == pytest.approx([2.829, 4.479, 5.177, 5.873], abs=1e-3)
    assert of_policy("log-n", 10).bound == pytest.approx(2.829 / math.log(10), abs=1e-3)


@pytest.mark.parametrize(
    "gossip",
    [
        Gossip(num_nodes=20, send_rate=2.0, training_s=2.0),
        Gossip(num_nodes=20, send_rate=2.0, training_s=2.0, update_rate=50.0),
        Gossip(num_nodes=20, send_rate=2.0, loss=0.5),
        Gossip(num_nodes=20, send_rate=2.0, training_s=0.5, loss=0.25),
    ],
    ids=["training takes time", "regular updates", "lost sends", "both"],
)
def test_training_time_and_loss_change_the_rates_and_nothing_else(gossip: Gossip) -> None:
    assert staleness(gossip, updates=400) == pytest.approx(gossip.bound, rel=0.1)


def test_latency_comes_on_top_of_the_bound() -> None:
    gossip = Gossip(num_nodes=20, send_rate=2.0)
    late = replace(gossip, latency_s=0.5)
    # It is waited for at every node on the way, at least once and H_{n−1} times at most.
    assert gossip.bound + 0.5 < staleness(late) < gossip.bound + 0.5 * gossip.bound * gossip.send_rate


# --- Theorem 2 ------------------------------------------------------------------------------------


def opportunistic(num_nodes: int, send_rate: float, *, relays_count: bool) -> Gossip:
    return Gossip(num_nodes=num_nodes, send_rate=send_rate, opportunistic=True, relays_count=relays_count)


def test_opportunistic_sends_at_log_n_grow_stale_only_where_relays_do_not_count() -> None:
    few, many = 10, 60
    grown = [opportunistic(n, math.log(n), relays_count=False) for n in (few, many)]
    assert staleness(grown[1]) > 3 * staleness(grown[0])
    flat = [opportunistic(n, math.log(n), relays_count=True) for n in (few, many)]
    assert staleness(flat[1]) == pytest.approx(staleness(flat[0]), rel=0.2)
    assert staleness(flat[1]) == pytest.approx(flat[1].bound, rel=0.1)


def test_without_relays_the_rate_must_grow_with_n_whoever_sends() -> None:
    for n in (10, 40):
        gossip = opportunistic(n, float(n), relays_count=False)
        assert staleness(gossip) == pytest.approx(1 - 1 / n, rel=0.1)
        assert staleness(replace(gossip, opportunistic=False)) == pytest.approx(1 - 1 / n, rel=0.1)
    gossip = opportunistic(30, math.log(30), relays_count=False)
    assert staleness(gossip) == pytest.approx(gossip.first_hand_bound, rel=0.1)


def test_the_bound_of_theorem_2_holds_as_corrected_and_not_as_printed() -> None:
    # At λ = n the printed one is 1.58, whatever n; the fixed point of the equation before it is one less.
    gossip = opportunistic(20, 20.0, relays_count=False)
    assert gossip.printed_bound == pytest.approx(gossip.corrected_bound + 1)
    assert gossip.corrected_bound < staleness(gossip) < gossip.printed_bound


# --- what is told ---------------------------------------------------------------------------------


def test_a_send_that_names_few_sources_does_best_to_name_those_that_were_news_last() -> None:
    def naming(told: Told) -> float:
        return staleness(Gossip(num_nodes=40, send_rate=math.log(40), max_told=20, told=told), updates=60)

    everything = staleness(of_policy("log-n", 40), updates=60)
    assert everything < 1.2
    assert naming("latest") < 1.2 * everything
    assert naming("random") > 1.2 * everything
    assert naming("highest") > 2 * everything


def test_the_same_seed_gives_the_same_numbers() -> None:
    gossip = Gossip(num_nodes=10, send_rate=2.0, loss=0.1, latency_s=0.1, max_told=3, told="random")
    found = [measure_staleness(gossip, duration_s=30, seed=seed) for seed in (1, 1, 2)]
    assert isinstance(found[0], Staleness)
    assert found[0] == found[1] != found[2]


# --- Algorithm 1 ----------------------------------------------------------------------------------


def plan(task: Task, num_users: int, num_distributions: int = 1, seed: int = 0) -> DatasetPlan:
    return DatasetPlan(
        name=f"{task}-regression",
        seed=seed,
        num_users=num_users,
        num_distributions=num_distributions,
        samples_per_user=50,
    )


@pytest.mark.parametrize("task", ["linear", "nonlinear"])
def test_the_plain_gradient_is_that_of_the_tasks_model(task: Task) -> None:
    model = model_of(task)
    run = algorithm._Run(
        Learning(plan=plan(task, 2), send_rate=1.0, learning_rate=0.1, batch_size=0), np.random.default_rng(0)
    )
    theta = np.random.default_rng(1).normal(size=run.models.shape[1])
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    assert start == pytest.approx(run.models[0])
    run.models[0] = theta
    torch.nn.utils.vector_to_parameters(torch.tensor(theta, dtype=torch.float32), model.parameters())
    x = torch.tensor(run.x[0], dtype=torch.float32)
    y = torch.tensor(run.y[0], dtype=torch.float32)[:, None]
    torch.nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    gradient = torch.nn.utils.parameters_to_vector([p.grad for p in model.parameters() if p.grad is not None])
    assert run._change(0) == pytest.approx(-0.1 * gradient.numpy().astype(np.float64), rel=1e-4, abs=1e-6)


def model_of(task: Task) -> torch.nn.Module:
    path = Path(algorithm.__file__).parent / task / "model.py"
    spec = importlib.util.spec_from_file_location(f"{task}_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build()
    assert isinstance(model, torch.nn.Module)
    return model


def linear_end(num_nodes: int, send_rate: float, **changes: float) -> float:
    settings = {"learning_rate": 0.02, **changes}
    ends = []
    for seed in range(3):
        learning = Learning(
            plan=plan("linear", num_nodes, seed=seed),
            send_rate=send_rate,
            learning_rate=settings["learning_rate"],
            batch_size=int(settings.get("batch_size", 1)),
        )
        curve = algorithm.run(learning, duration_s=20.0, seed=seed)
        assert np.all(curve.of_mean <= curve.loss + 1e-9)  # the loss is convex
        ends.append(curve.loss[-1] / curve.loss[0])
    return float(np.mean(ends))


def test_linear_regression_converges_at_every_rate_and_faster_with_more_users_where_gradients_are_noisy() -> None:
    names = ("Θ(1)", "Θ(log n)")
    ends = {(name, n): linear_end(n, RATES[name](n)) for name in names for n in (10, 40)}
    for name in names:
        assert ends[name, 40] < 0.8 * ends[name, 10] < 0.8
    assert ends["Θ(1)", 40] == pytest.approx(ends["Θ(log n)", 40], rel=0.35)


def test_with_whole_gradients_more_users_are_not_faster() -> None:
    few, many = (linear_end(n, 10.0, batch_size=0, learning_rate=0.01) for n in (10, 50))
    assert many == pytest.approx(few, rel=0.15)
    assert many < 0.7


def test_nonlinear_regression_follows_one_trajectory_for_every_n_and_less_far_apart_the_more_is_sent() -> None:
    def ends(num_nodes: int, send_rate: float) -> tuple[float, float]:
        found = []
        for seed in range(5):
            learning = Learning(
                plan=plan("nonlinear", num_nodes, num_nodes, seed), send_rate=send_rate, learning_rate=0.05
            )
            curve = algorithm.run(learning, duration_s=25.0, seed=seed)
            half = len(curve.loss) // 2
            found.append((curve.loss[-1], np.mean((curve.loss - curve.of_mean)[half:])) / curve.loss[0])
        loss, apart = np.mean(found, axis=0)
        return float(loss), float(apart)

    many, few = ends(50, 10 * math.log(50)), ends(10, 10 * math.log(10))
    assert many[0] == pytest.approx(few[0], abs=0.12)
    assert many[0] < 0.45
    assert many[1] < 0.01
    assert ends(50, 1.0)[1] > 2 * ends(50, math.log(50))[1] > 2 * many[1]


# --- the pieces around ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scale-robust-linear", "scale-robust-nonlinear", "scale-robust-staleness"])
@pytest.mark.parametrize("quick", [True, False])
def test_the_scenarios_are_complete(name: str, quick: bool) -> None:
    prepared = prepare(read_scenario(find_scenario(name), quick=quick))
    assert prepared.built.draft.merging.strategy == "random-mix"
    assert prepared.built.draft.merging.clip == 0
    assert prepared.scenario.nodes.training_time == "exponential"


def test_a_settings_changes_are_the_papers_rates() -> None:
    rates = {name: [rate(n) for n in (10, 50, 100)] for name, rate in RATES.items()}
    assert rates["Θ(1)"] == [10, 10, 10]
    assert rates["Θ(log log n)"] == pytest.approx([8.34, 13.64, 15.27], abs=0.01)
    assert rates["Θ(log n)"] == pytest.approx([23.03, 39.12, 46.05], abs=0.01)
    setting = Setting(task="linear", num_nodes=20, num_distributions=20, send_rate=13.64, learning_rate=0.1)
    scenario = read_scenario(find_scenario("scale-robust-linear"), changes=setting.changes())
    plan_ = prepare(scenario).built.draft
    assert plan_.merging.sends_per_round / plan_.training.round_interval_s == pytest.approx(13.64)
    assert plan_.training.optimiser.learning_rate == 0.1
    assert scenario.data.num_distributions == scenario.nodes.num == 20


def test_the_time_to_a_loss_lies_between_two_points() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.6, 0.2])
    curve = Curve(x=x, median=y, low=y, high=y)
    assert time_to(curve, 0.5) == pytest.approx(1.25)
    assert time_to(curve, 1.0) == 0
    assert math.isnan(time_to(curve, 0.1))


def test_tables_are_markdown() -> None:
    table = Table(title="Title", head=("a", "b"))
    table.rows.append(["x", decimals(math.inf)])
    assert str(table) == "### Title\n\n| a | b |\n| --- | --- |\n| x | – |\n"


def test_an_unknown_part_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grapevine_lab.papers.scale_robust", "figurs"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "figurs" in done.stderr
    assert "figures" in done.stderr
