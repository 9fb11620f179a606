"""Hostile nodes in a simulated swarm: what they cost, that they are not measured, and what a scenario may ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.swarm.simulations import LEARNING, prepared_of

from grapevine_lab.simulator import run
from grapevine_lab.simulator.experiment import begin
from grapevine_lab.simulator.hostile import Collusion
from grapevine_lab.simulator.run import Outcome, run_seed
from grapevine_proto.errors import ConfigError

SIZE = ("scenario.rounds=10", "nodes.num=5")


def outcome_of(folder: Path, attack: str) -> Outcome:
    return run_seed(prepared_of(folder, LEARNING, *SIZE, f"attack=[{{{attack}}}]"), 0)


def last_accuracy(outcome: Outcome) -> float:
    rows = outcome.measurements.readings
    last = rows.column("round") == rows.column("round").max()
    return float(np.mean(rows.column("metric")[last]))


def test_a_flipped_sign_costs_more_than_silence_and_who_is_hostile_is_not_measured(tmp_path: Path) -> None:
    silent = outcome_of(tmp_path, 'kind = "silent", nodes = [3, 4]')
    flipped = outcome_of(tmp_path, 'kind = "sign-flip", nodes = [3, 4]')
    for each in (silent, flipped):
        assert set(each.measurements.readings.column("node")) == {0, 1, 2}
    assert last_accuracy(flipped) < last_accuracy(silent) - 0.1


def test_numbers_that_are_none_are_dropped_and_cost_what_silence_costs(tmp_path: Path) -> None:
    silent = outcome_of(tmp_path, 'kind = "silent", nodes = [4]')
    nan = outcome_of(tmp_path, 'kind = "nan", nodes = [4]')
    assert nan.rejected["non-finite"] > 10
    assert nan.updates["hostile"] == {"non-finite": nan.rejected["non-finite"]}
    assert set(nan.updates["honest"]) == {"taken"}
    assert "hostile" not in silent.updates
    assert last_accuracy(nan) == pytest.approx(last_accuracy(silent), abs=0.05)


def test_who_knows_the_defence_sends_one_model_as_far_from_the_median_as_it_dares_and_back(tmp_path: Path) -> None:
    collusion, rng = Collusion(), np.random.default_rng(0)
    before = rng.standard_normal((5, 40)).astype(np.float32)
    after = before + np.float32(0.5)  # all have moved alike
    assert collusion.model(1, before, 2.4) == pytest.approx(np.median(before, axis=0))
    sent = collusion.model(2, after, 2.4)
    middle = np.median(after, axis=0)
    usual = np.median(np.linalg.norm(after - middle, axis=1))
    assert np.linalg.norm(sent - middle) == pytest.approx(2.4 * usual, rel=1e-5)
    assert (sent < middle).all()
    assert collusion.model(2, before, 2.4) is sent  # the others of the same round
    assert sent.dtype == np.float32
    begun = begin(prepared_of(tmp_path, LEARNING, *SIZE, 'attack=[{kind = "adaptive", nodes = [3, 4]}]'), 0)
    colluding = [device.hostile.collusion for device in begun.world.devices if device.hostile is not None]
    assert len(colluding) == 2
    assert colluding[0] is colluding[1]


def test_flipped_labels_are_in_the_samples_of_those_nodes_alone(tmp_path: Path) -> None:
    prepared = prepared_of(tmp_path, LEARNING, *SIZE, 'attack=[{kind = "label-flip", nodes = [4]}]')
    honest = prepared_of(tmp_path, LEARNING, *SIZE)
    for node, (one, other) in enumerate(zip(begin(prepared, 0).samples, begin(honest, 0).samples, strict=True)):
        np.testing.assert_array_equal(one.y, 9 - other.y if node == 4 else other.y)
        np.testing.assert_array_equal(one.y_test, other.y_test)


def test_a_run_with_hostile_nodes_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOOK_EVERY_S", 0.0)
    attack = 'attack=[{kind = "adaptive", nodes = [2, 3]}, {kind = "replay", nodes = [4]}]'
    prepared = prepared_of(tmp_path, LEARNING, *SIZE, attack)
    whole, looks = run_seed(prepared, 0), iter([False] * 10 + [True])
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 0, keep=tmp_path / "kept", stopping=lambda: next(looks))
    assert (tmp_path / "kept").exists()
    other = prepared_of(tmp_path, LEARNING, *SIZE, 'attack=[{kind = "silent", nodes = [3]}]')
    with pytest.raises(ConfigError, match="another scenario"):
        run_seed(other, 0, keep=tmp_path / "kept", resume=True)
    resumed = run_seed(prepared, 0, keep=tmp_path / "kept", resume=True)
    assert resumed.measurements == whole.measurements


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        ('kind = "sign-flop", nodes = [1]', r"attack\[1\]\.kind.*did you mean 'sign-flip'"),
        ('kind = "nan", nodes = [5]', r"attack\[1\]\.nodes.*below 5"),
        ('kind = "nan", nodes = []', r"attack\[1\]\.nodes.*write nodes = "),
        ('kind = "nan", nodes = [0, 1, 2, 3, 4]', "nobody is left who is honest"),
        ('kind = "nan", nodes = [1], factor = 2.0', "factor: unknown key"),
        ('kind = "adaptive", nodes = [1], factor = "far"', r"attack\[1\]\.factor"),
        ('kind = "scale", nodes = [1], factor = -1.0', r"attack\[1\]\.factor.*from 0 to"),
    ],
)
def test_an_attack_that_cannot_be_is_named(tmp_path: Path, attack: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        prepared_of(tmp_path, LEARNING, *SIZE, f"attack=[{{{attack}}}]")


def test_a_node_has_one_attack(tmp_path: Path) -> None:
    twice = 'attack=[{kind = "nan", nodes = [1]}, {kind = "replay", nodes = [2, 1]}]'
    with pytest.raises(ConfigError, match="node 1 has two attacks"):
        prepared_of(tmp_path, LEARNING, *SIZE, twice)
