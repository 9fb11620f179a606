"""What is behind weighs less: the discount by hand, and its share in every strategy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.merge.by_hand import CONVEX, GATHERED, voice

from grapevine_agent.merge import STRATEGIES, Context, Merged, Voice
from grapevine_agent.merge.stale import freshness, is_stale, merge_by_freshness

PAIRWISE = sorted(set(STRATEGIES) - set(GATHERED))
OWN = voice("me", [0.0, 0.0], age=900, base=[-1.0, 0.0], experience=100, samples=100, buffers=[1.0])
THEIRS = voice("ada", [2.0, 1.0], age=100, base=[1.0, 1.0], experience=50, samples=100, buffers=[3.0])


def merged(name: str, *received: Voice) -> Merged:
    strategy = STRATEGIES[name]
    context = Context(
        constants=strategy.with_defaults({}), experiences={"me": 100}, spans=[slice(0, 2)], rng=np.random.default_rng(1)
    )
    return merge_by_freshness(strategy, local=OWN, received=received, context=context)


def stale(of: Voice, part: float) -> Voice:
    return replace(of, freshness=part)


@pytest.mark.parametrize(
    ("behind", "stale_after", "expected"),
    [
        (10**9, 0, 1.0),  # never
        (-50, 100, 1.0),
        (100, 100, 1.0),
        (200, 100, 1 / math.sqrt(2)),
        (400, 100, 0.5),
        (10_000, 100, 0.1),
    ],
)
def test_the_discount_by_hand(behind: int, stale_after: int, expected: float) -> None:
    assert freshness(behind, stale_after) == pytest.approx(expected)
    assert is_stale(behind, stale_after) == (expected < 1)


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.integers(0, 10**9))
def test_who_is_further_behind_never_weighs_more(one: int, other: int, stale_after: int) -> None:
    near, far = sorted((one, other))
    assert 0 < freshness(far, stale_after) <= freshness(near, stale_after) <= 1


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_what_is_fresh_is_merged_to_the_bit_as_without(name: str) -> None:
    strategy = STRATEGIES[name]
    context = Context(
        constants=strategy.with_defaults({}), experiences={"me": 100}, spans=[slice(0, 2)], rng=np.random.default_rng(1)
    )
    plain, with_it = strategy.merge(local=OWN, received=[THEIRS], context=context), merged(name, THEIRS)
    assert (plain.parameters == with_it.parameters).all()
    assert plain.shares == with_it.shares


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("part", [0.5, 0.1])
def test_a_pairwise_strategy_goes_a_part_of_the_way(name: str, part: float) -> None:
    whole, less = merged(name, THEIRS), merged(name, stale(THEIRS, part))
    assert whole.shares["ada"] > 0
    assert less.shares["ada"] == pytest.approx(part * whole.shares["ada"])
    assert less.parameters == pytest.approx(part * whole.parameters)
    assert less.buffers == pytest.approx(1 + part * (whole.buffers - 1))
    assert less.age == pytest.approx(900 + part * (whole.age - 900), abs=1)


@pytest.mark.parametrize("name", ["average", "fedavg", "doubly-weighted"])
def test_a_gathered_share_is_multiplied_and_the_rest_is_ones_own(name: str) -> None:
    fresh = voice("ben", [4.0, 0.0], age=800, samples=100, experience=90, buffers=[2.0])
    whole, less = merged(name, THEIRS, fresh), merged(name, stale(THEIRS, 0.5), fresh)
    assert less.shares["ada"] == pytest.approx(0.5 * whole.shares["ada"])
    assert less.shares["ben"] == pytest.approx(whole.shares["ben"])
    assert sum(less.shares.values()) == pytest.approx(1)
    mixed = less.shares["ada"] * THEIRS.parameters + less.shares["ben"] * fresh.parameters
    assert less.parameters == pytest.approx(mixed)
    ages = less.shares["me"] * 900 + less.shares["ada"] * 100 + less.shares["ben"] * 800
    assert less.age == pytest.approx(ages, abs=1)


def test_of_summed_changes_a_part_of_the_change_is_taken() -> None:
    own = replace(OWN, base=OWN.parameters)  # nothing learned here
    strategy = STRATEGIES["delta-sum"]
    context = Context(constants=strategy.with_defaults({}), epoch=10**6)  # λ = 0.35, held in [1/2, 1]: 1/2
    theirs = voice("ada", [1.0, 0.0], age=100, base=[0.0, 0.0], buffers=[1.0])
    for part, expected in ((1.0, 0.5), (0.5, 0.25)):
        found = merge_by_freshness(strategy, local=own, received=[stale(theirs, part)], context=context)
        assert found.parameters == pytest.approx([expected, 0.0])


@pytest.mark.parametrize("name", CONVEX)
def test_a_stale_voice_never_carries_the_model_further_than_a_fresh_one_could(name: str) -> None:
    away = [voice(f"p{k}", [10.0, 10.0], age=1, samples=100, experience=9, buffers=[2.0]) for k in range(4)]
    found = merged(name, *[stale(each, 0.3) for each in away[: 1 if name in PAIRWISE else 4]])
    assert (found.parameters <= 0.3 * 10 + 1e-5).all()
    assert (found.parameters >= 0).all()
