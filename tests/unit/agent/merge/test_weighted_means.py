"""The strategies that are a mean by weights, on models small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.agent.merge.by_hand import merge, voice

from grapevine_agent.merge.halves import BLOCK
from grapevine_agent.merge.voices import bounded_shares, weighted_sum


def test_age_weighted_weighs_by_steps_seen() -> None:
    merged = merge("age-weighted", voice("i", [0, 0], age=10), voice("k", [4, 8], age=30))
    assert merged.parameters.tolist() == [3, 6]
    assert merged.age == 25  # 10/4 + 3·30/4: as much of the age as of the model
    assert merged.shares == {"i": 0.25, "k": 0.75}


def test_the_papers_rule_takes_the_larger_age() -> None:
    crowd = [voice("i", [0], age=10, experience=5), voice("k", [4], age=30), voice("l", [4], age=0, experience=9)]
    merged = merge("age-weighted", *crowd, age_by_max=1.0)
    assert (merged.age, merged.experience) == (30, 5)  # `l` has no share
    assert merge("age-weighted", *crowd[:2], age_by_max=1.0).parameters.tolist() == [3]


def test_a_newcomer_that_takes_half_a_model_takes_half_its_age() -> None:
    merged = merge("doubly-weighted", voice("i", [0]), voice("k", [4], age=1000), max_share=0.5)
    assert (merged.parameters.tolist(), merged.age) == ([2], 500)


def test_age_weighted_takes_updates_one_by_one() -> None:
    merged = merge("age-weighted", voice("i", [0], age=1), voice("k", [4], age=1), voice("l", [4], age=3))
    assert merged.parameters.tolist() == [pytest.approx(2 * 0.25 + 4 * 0.75)]
    assert merged.shares == {"i": 0.125, "k": 0.125, "l": 0.75}


def test_doubly_weighted_weighs_by_age_and_by_source() -> None:
    server = voice("s", [10], age=2, kind="server", source_weight=3.0)
    merged = merge("doubly-weighted", voice("i", [0], age=2), voice("k", [5], age=4), server)
    # weights 2, 4 and 3·2
    assert merged.parameters.tolist() == [pytest.approx((4 * 5 + 6 * 10) / 12)]
    assert merged.shares == pytest.approx({"i": 2 / 12, "k": 4 / 12, "s": 6 / 12})
    assert merged.age == 3


def test_doubly_weighted_without_a_server_is_the_gathered_age_weighted_mean() -> None:
    merged = merge("doubly-weighted", voice("i", [0], age=1), voice("k", [6], age=2))
    assert merged.parameters.tolist() == [4]


def test_while_nobody_has_trained_a_server_still_weighs_by_its_source() -> None:
    server = voice("s", [4], kind="server", source_weight=3.0)
    for name in ("age-weighted", "doubly-weighted"):
        assert merge(name, voice("i", [0]), server).parameters.tolist() == [3]


def test_the_exponent_of_the_age_weight_is_the_tasks_choice() -> None:
    merged = merge("doubly-weighted", voice("i", [0], age=1), voice("k", [10], age=3), p=2.0)
    assert merged.parameters.tolist() == [9]
    merged = merge("age-weighted", voice("i", [0], age=1), voice("k", [10], age=3), p=0.0)
    assert merged.parameters.tolist() == [5]


@pytest.mark.parametrize("name", ["age-weighted", "doubly-weighted"])
def test_an_old_crowd_still_tells_fresh_from_stale_by_how_far_ages_are_apart(name: str) -> None:
    fresh, stale = voice("i", [0], age=1_000_100), voice("k", [3], age=1_000_000)
    assert merge(name, fresh, stale).shares["k"] == pytest.approx(0.5, abs=1e-4)
    # A hundred steps behind is A behind: half the weight of the newest.
    assert merge(name, fresh, stale, A=100.0).parameters.tolist() == [pytest.approx(1.0)]
    assert merge(name, fresh, stale, A=100.0, p=2.0).shares["k"] == pytest.approx(1 / 5)


def test_average_is_the_plain_mean_and_a_server_counts_as_often_as_it_stands_for_members() -> None:
    merged = merge("average", voice("i", [0], age=5), voice("k", [3]), voice("l", [6], age=9, experience=70))
    assert merged.parameters.tolist() == [3]
    assert (merged.age, merged.experience) == (5, 23)
    assert merged.shares == pytest.approx({"i": 1 / 3, "k": 1 / 3, "l": 1 / 3})
    server = voice("s", [8], kind="server", source_weight=3.0)
    assert merge("average", voice("i", [0]), server).parameters.tolist() == [6]


def test_fedavg_weighs_by_data_set_sizes() -> None:
    local, first = voice("i", [0, 4], samples=100, buffers=[1]), voice("k", [6, 4], samples=200, buffers=[2])
    merged = merge("fedavg", local, first, voice("l", [9, 0], samples=300, buffers=[3]))
    assert merged.parameters.tolist() == [pytest.approx(6.5), pytest.approx(2.0)]
    assert merged.buffers.tolist() == [pytest.approx(14 / 6)]
    assert merged.shares == pytest.approx({"i": 1 / 6, "k": 1 / 3, "l": 1 / 2})


def test_fedavg_takes_nothing_from_who_has_no_samples() -> None:
    merged = merge("fedavg", voice("i", [1], age=2, samples=10), voice("k", [9], age=80, experience=7))
    assert merged.parameters.tolist() == [1]
    assert (merged.age, merged.experience) == (2, 0)


def test_random_mix_draws_one_proportion_for_each_update() -> None:
    beta, gamma = np.random.default_rng(7).random(2)
    merged = merge("random-mix", voice("i", [1, 0, 0]), voice("k", [0, 1, 0]), voice("l", [0, 0, 1]), seed=7)
    expected = [beta * gamma, (1 - beta) * gamma, 1 - gamma]
    assert merged.parameters.tolist() == pytest.approx(expected)
    assert list(merged.shares.values()) == pytest.approx(expected)


def test_random_mix_is_uniform_over_many_merges() -> None:
    taken = [merge("random-mix", voice("i", [0]), voice("k", [1]), seed=seed).shares["k"] for seed in range(400)]
    assert np.mean(taken) == pytest.approx(0.5, abs=0.05)
    assert np.var(taken) == pytest.approx(1 / 12, abs=0.02)


@pytest.mark.parametrize("name", ["age-weighted", "doubly-weighted"])
def test_one_peer_is_held_to_its_largest_share_and_a_server_is_not(name: str) -> None:
    local, liar = voice("i", [0], age=1), voice("k", [1], age=10**9)
    assert merge(name, local, liar, max_share=0.5).shares["k"] == pytest.approx(0.5)
    server = voice("s", [1], age=10**9, kind="server", source_weight=4.0)
    assert merge(name, local, server, max_share=0.5).shares["s"] > 0.99


@pytest.mark.parametrize("name", ["fedavg", "cos-sim-dfl", "chisme"])
def test_who_claims_the_most_samples_is_held_to_the_largest_share(name: str) -> None:
    local = voice("i", [1], samples=10, experience=10, base=[0])
    liar = voice("k", [2], samples=2**53, experience=2**53)
    assert merge(name, local, liar).shares["k"] > 0.99
    assert merge(name, local, liar, max_share=0.5).shares["k"] == pytest.approx(0.5)


def test_random_mix_is_held_to_the_largest_share() -> None:
    shares = [merge("random-mix", voice("i", [0]), voice("k", [1]), seed=s, max_share=0.5).shares for s in range(30)]
    assert max(share["k"] for share in shares) == pytest.approx(0.5)


@given(
    weights=st.lists(st.floats(0, 1e12), min_size=1, max_size=8),
    bounded=st.lists(st.booleans(), min_size=8, max_size=8),
    max_share=st.floats(0.01, 1),
)
@example(weights=[1.0, 5e-324], bounded=[True, *[False] * 7], max_share=0.5)  # the smallest number there is
def test_shares_sum_to_one_and_no_bounded_one_exceeds_its_limit(
    weights: list[float], bounded: list[bool], max_share: float
) -> None:
    shares = bounded_shares(weights, bounded[: len(weights)], max_share)
    assert sum(shares) == pytest.approx(1.0)
    limit = max(max_share, 1 / len(weights))
    others_weigh = any(w > 0 and not b for w, b in zip(weights, bounded, strict=False))
    if others_weigh:
        assert all(share <= limit + 1e-9 for share, is_bounded in zip(shares, bounded, strict=False) if is_bounded)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_a_weighted_sum_agrees_with_float64_whatever_the_size(size: int) -> None:
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(size).astype(np.float32) for _ in range(4)]
    shares = [0.1, 0.2, 0.3, 0.4]
    reference = sum(s * v.astype(np.float64) for s, v in zip(shares, vectors, strict=True))
    np.testing.assert_allclose(weighted_sum(vectors, shares), reference, atol=1e-6)
