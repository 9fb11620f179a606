"""What hostile nodes send, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from grapevine_agent.core.learning.intake import base_digest
from grapevine_lab.simulator.hostile import ATTACK_KINDS, OLDEST, AttackKind, AttackPlan, Hostile
from grapevine_proto.messages import ModelUpdate, Vector, plain

THETA = np.array([1.0, -2.0, 3.0], np.float32)
BASE = np.array([0.5, -1.0, 2.0], np.float32)
HONEST = [np.array([1.0, 0.0, 0.0], np.float32), np.array([3.0, 0.0, 0.0], np.float32)]


def hostile(kind: AttackKind, **fields: Any) -> Hostile:
    plan = AttackPlan(kind=kind, nodes=(0,), **fields)
    return Hostile(plan=plan, rng=np.random.default_rng(0), direction_seed=1)


def learner(version: int = 1, theta: Vector = THETA) -> Any:
    return SimpleNamespace(model=SimpleNamespace(parameters=theta, base=BASE, version=version))


def update(**fields: Any) -> ModelUpdate:
    given: dict[str, Any] = {"full": THETA} if "delta" not in fields else {}
    return ModelUpdate(task="t", window=1, version=1, age=7, experience=70, samples=5, **given, **fields)


def sent(one: Hostile, own: Any = None, honest: Any = HONEST) -> Vector:
    said = one.says(update(), own or learner(), honest, 10.0)
    assert said is not None
    assert said.full is not None
    return plain(said.full)


@pytest.mark.parametrize(
    ("kind", "factor", "wanted"),
    [
        ("sign-flip", 0.0, [-1.0, 2.0, -3.0]),
        ("scale", 10.0, [10.0, -20.0, 30.0]),
        ("reversed", 2.0, [-0.5, 1.0, 0.0]),
        ("free-rider", 0.0, [0.5, -1.0, 2.0]),
        ("label-flip", 0.0, [1.0, -2.0, 3.0]),
        ("little", 1.5, [0.5, 0.0, 0.0]),
        ("inner-product", 1.0, [2.0, 0.0, 0.0]),  # nothing has moved yet
    ],
)
def test_what_is_sent_is_reckoned_from_the_model(kind: AttackKind, factor: float, wanted: list[float]) -> None:
    np.testing.assert_allclose(sent(hostile(kind, factor=factor)), wanted)


def test_a_movement_is_turned_round() -> None:
    one = hostile("inner-product", factor=1.0)
    sent(one)
    moved = [each + np.float32(1.0) for each in HONEST]
    np.testing.assert_allclose(sent(one, learner(version=2), moved), [3.0 - 2.0, 1.0 - 2.0, 1.0 - 2.0])


def test_random_numbers_are_as_long_as_the_model_and_noise_as_large_as_it_is() -> None:
    large = np.random.default_rng(2).standard_normal(20_000).astype(np.float32)
    honest = [large, large]
    drawn = sent(hostile("random"), learner(theta=large), honest)
    assert np.linalg.norm(drawn) == pytest.approx(np.linalg.norm(large), rel=1e-5)
    assert abs(np.dot(drawn, large)) < 0.05 * np.dot(large, large)
    noisy = sent(hostile("noise", factor=0.5), learner(theta=large), honest)
    assert np.std(noisy - large) == pytest.approx(0.5, rel=0.05)


def test_who_colludes_drifts_in_one_direction_as_far_as_the_others_are_apart() -> None:
    one, another = (sent(hostile("drift", factor=2.0)) for _ in range(2))
    np.testing.assert_array_equal(one, another)
    assert np.linalg.norm(one - np.mean(HONEST, axis=0)) == pytest.approx(2.0, rel=1e-5)


def test_a_replay_is_the_first_model_for_ever_and_nan_is_nan() -> None:
    one = hostile("replay")
    np.testing.assert_array_equal(sent(one), THETA)
    np.testing.assert_array_equal(sent(one, learner(version=2, theta=2 * THETA)), THETA)
    assert np.isnan(sent(hostile("nan"))).all()


@pytest.mark.parametrize("kind", ATTACK_KINDS)
def test_everybody_is_honest_until_it_begins(kind: AttackKind) -> None:
    asked = update()
    assert hostile(kind, from_s=11.0).says(asked, learner(), HONEST, 10.0) is asked


def test_a_silent_one_sends_nothing_and_a_claim_is_the_oldest() -> None:
    assert hostile("silent").says(update(), learner(), HONEST, 10.0) is None
    said = hostile("sign-flip", claims_age=True).says(update(), learner(), HONEST, 10.0)
    assert said is not None
    assert said.age == OLDEST


def test_a_change_leads_from_its_base_to_what_is_sent() -> None:
    asked = update(delta=THETA - BASE, base=BASE, base_digest=base_digest(BASE))
    said = hostile("sign-flip").says(asked, learner(), HONEST, 10.0)
    assert said is not None
    assert said.base is not None
    assert said.delta is not None
    np.testing.assert_allclose(plain(said.base) + plain(said.delta), -THETA)
    assert said.base_digest == base_digest(plain(said.base))
