"""What holds for every strategy, whatever the models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.agent.merge.by_hand import CONVEX, GATHERED, merge, voice

from grapevine_agent.merge import STRATEGIES, Voice
from grapevine_proto.messages import Vector

SIZE = 4
few = settings(max_examples=40)  # of each property, for each of a dozen strategies
vectors = st.lists(st.floats(-100, 100, width=32), min_size=SIZE, max_size=SIZE)
counts = st.integers(0, 10_000)


@dataclass(frozen=True)
class Crowd:
    local: Voice
    received: list[Voice]

    @property
    def voices(self) -> list[Voice]:
        return [self.local, *self.received]


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    voices = [
        voice(
            f"peer {k}",
            draw(vectors),
            draw(counts),
            buffers=draw(st.lists(st.floats(2**-10, 2**10, width=32), min_size=2, max_size=2)),
            base=draw(st.none() | vectors),
            experience=draw(counts),
            samples=draw(counts),
        )
        for k in range(draw(st.integers(1, 7)))
    ]
    return Crowd(voices[0], voices[1:])


def copies(voices: list[Voice]) -> list[Voice]:
    return [
        replace(
            v,
            parameters=v.parameters.copy(),
            buffers=v.buffers.copy(),
            base=None if v.base is None else v.base.copy(),
        )
        for v in voices
    ]


def same(one: Vector | None, other: Vector | None) -> bool:
    return (one is None and other is None) or np.array_equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_received_leaves_the_model_as_it_is(name: str) -> None:
    local = voice("i", [1, 2], 5, base=[0, 0], experience=7, buffers=[3], samples=9)
    merged = merge(name, local, epoch=300)
    assert (merged.parameters.tolist(), merged.buffers.tolist()) == ([1, 2], [3])
    assert (merged.age, merged.experience) == (5, 7)
    assert merged.shares == ({} if name == "chisme" else {"i": 1.0})


@pytest.mark.parametrize("name", sorted(set(CONVEX) - {"chisme", "krum", "random-mix", "follow-server"}))
def test_untrained_models_weigh_the_same(name: str) -> None:
    merged = merge(name, voice("i", [0], buffers=[1]), voice("k", [4], buffers=[3]))
    assert (merged.parameters.tolist(), merged.buffers.tolist()) == ([2], [2])


@pytest.mark.parametrize("name", STRATEGIES)
@few
@given(values=vectors, ages=st.lists(counts, min_size=1, max_size=6), trained=st.booleans())
def test_equal_models_merge_to_that_model(name: str, values: list[float], ages: list[int], trained: bool) -> None:
    voices = [
        voice(str(k), values, age, samples=age, experience=age, buffers=[0.5], base=values if trained else None)
        for k, age in enumerate(ages)
    ]
    merged = merge(name, *voices, max_share=0.5)
    np.testing.assert_allclose(merged.parameters, np.array(values, np.float32), rtol=1e-6, atol=1e-12)
    assert merged.buffers.tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("name", STRATEGIES)
@few
@given(crowd=crowds(), epoch=st.integers(0, 500))
def test_a_merge_is_finite_float32_and_modifies_nothing(name: str, crowd: Crowd, epoch: int) -> None:
    before = copies(crowd.voices)
    merged = merge(name, *crowd.voices, max_share=0.5, epoch=epoch, spans=(slice(0, 3), slice(3, SIZE)))
    for vector, size in ((merged.parameters, SIZE), (merged.buffers, 2)):
        assert vector.dtype == np.float32
        assert vector.shape == (size,)
        assert np.isfinite(vector).all()
    assert 0 <= merged.age <= max(v.age for v in crowd.voices)
    assert 0 <= merged.experience <= max(v.experience for v in crowd.voices)
    for now, then in zip(crowd.voices, before, strict=True):
        assert same(now.parameters, then.parameters)
        assert same(now.buffers, then.buffers)
        assert same(now.base, then.base)


@pytest.mark.parametrize("name", STRATEGIES)
@few
@given(crowd=crowds())
def test_the_same_arguments_give_the_same_result(name: str, crowd: Crowd) -> None:
    one, other = merge(name, *crowd.voices), merge(name, *crowd.voices)
    assert same(one.parameters, other.parameters)
    assert same(one.buffers, other.buffers)
    assert one.shares == other.shares


@pytest.mark.parametrize("name", CONVEX)
@few
@given(crowd=crowds())
def test_a_convex_rule_stays_in_the_hull_of_the_models(name: str, crowd: Crowd) -> None:
    merged = merge(name, *crowd.voices, max_share=0.5)
    stacked = np.stack([v.parameters for v in crowd.voices])
    slack = 1e-5 * np.abs(stacked).max()
    assert (merged.parameters >= stacked.min(0) - slack).all()
    assert (merged.parameters <= stacked.max(0) + slack).all()


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"chisme"}))
@few
@given(crowd=crowds())
def test_shares_sum_to_one(name: str, crowd: Crowd) -> None:
    shares = merge(name, *crowd.voices, max_share=0.5).shares
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(0 <= share <= 1 for share in shares.values())


@pytest.mark.parametrize("name", GATHERED)
@few
@given(crowd=crowds(), order=st.randoms(use_true_random=False))
def test_a_gathered_rule_does_not_depend_on_order(name: str, crowd: Crowd, order: Random) -> None:
    shuffled = list(crowd.received)
    order.shuffle(shuffled)
    one, other = merge(name, *crowd.voices), merge(name, crowd.local, *shuffled)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-4, atol=1e-3)
    assert one.shares == pytest.approx(other.shares)


@pytest.mark.parametrize("name", STRATEGIES)
@few
@given(crowd=crowds(), epoch=st.integers(0, 500))
def test_variances_among_the_buffers_stay_between_those_of_the_models(name: str, crowd: Crowd, epoch: int) -> None:
    merged = merge(name, *crowd.voices, epoch=epoch, constants={"bounded": 0.0} if name == "delta-sum" else {})
    stacked = np.stack([v.buffers for v in crowd.voices])
    assert (merged.buffers >= stacked.min(0) * (1 - 1e-5)).all()
    assert (merged.buffers <= stacked.max(0) * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_running_variances_of_a_resnet_18_stay_positive_over_many_merges(name: str) -> None:
    rng = np.random.default_rng(3)
    widths = [64] * 5 + [128] * 5 + [256] * 5 + [512] * 5  # its 20 batch normalisations

    def variances() -> list[float]:
        # From channels that are nearly dead to lively ones.
        return list(np.concatenate([10 ** rng.uniform(-8, 2, width) for width in widths]))

    local = voice("i", [0.0], 1, buffers=variances(), base=[0.0], samples=5, experience=5)
    for _ in range(20):
        received = [
            voice(peer, [rng.normal()], 2, buffers=variances(), base=[rng.normal()], samples=9, experience=9)
            for peer in "klmn"
        ]
        merged = merge(name, local, *received, epoch=200, max_share=0.5)
        assert (merged.buffers > 0).all()
        local = replace(local, parameters=merged.parameters, buffers=merged.buffers)


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_a_strategy_says_of_itself(name: str) -> None:
    strategy = STRATEGIES[name]
    assert strategy.source
    assert strategy.memory.endswith("p")
    assert strategy.needs_base == (name == "delta-sum")
    assert strategy.pairwise == (name in {"age-weighted", "random-mix", "chisme"})
    for constant in strategy.constants.values():
        assert constant.low <= constant.default <= constant.high
        assert constant.meaning
