"""`delta-sum`: the mean of bases and the sum of deltas."""

from __future__ import annotations

import pytest
from tests.unit.agent.merge.by_hand import merge, voice

from grapevine_agent.merge import Merged

# Bases 0, 3, 6 (mean 3); deltas 1, 2, −6 in the first coordinate, 1 each in the second.
LOCAL = voice("i", [1, 1], base=[0, 0], samples=10, age=4, buffers=[3])
FIRST = voice("k", [5, 1], base=[3, 0], samples=20, age=9, buffers=[6])
SECOND = voice("l", [0, 1], base=[6, 0], samples=60, age=5, buffers=[0])


def exact(*, epoch: int = 0, **constants: float) -> Merged:
    return merge("delta-sum", LOCAL, FIRST, SECOND, epoch=epoch, constants={"bounded": 0.0, **constants})


def test_bases_are_averaged_and_deltas_summed() -> None:
    merged = exact()
    assert merged.parameters.tolist() == pytest.approx([3 + 0.15 * -3, 0.15 * 3])
    assert merged.buffers.tolist() == pytest.approx([3])
    assert merged.age == 6
    assert merged.shares == pytest.approx({"i": 1 / 3, "k": 1 / 3, "l": 1 / 3})


@pytest.mark.parametrize(("epoch", "factor"), [(0, 0.15), (100, 0.25), (200, 0.35), (5000, 0.35)])
def test_the_learning_factor_grows_with_local_epochs_up_to_c(epoch: int, factor: float) -> None:
    assert exact(epoch=epoch).parameters[1] == pytest.approx(factor * 3)


def test_a_b_and_c_are_the_tasks_choice() -> None:
    assert exact(epoch=10, A=0.05, B=100.0, C=0.6).parameters[1] == pytest.approx(0.15 * 3)
    assert exact(epoch=100, A=0.05, B=100.0, C=0.6).parameters[1] == pytest.approx(0.6 * 3)


def test_bounds_keep_the_factor_between_a_mean_and_twice_that() -> None:
    crowd = [voice(str(k), [1], base=[0]) for k in range(20)]
    assert merge("delta-sum", *crowd[:3]).parameters.tolist() == pytest.approx([1.0])  # λ = .15, 1/n = ⅓
    assert merge("delta-sum", *crowd, epoch=200).parameters.tolist() == pytest.approx([2.0])  # λ = .35, 2/n = .1
    assert merge("delta-sum", *crowd[:5], epoch=100).parameters.tolist() == pytest.approx([5 * 0.25])  # neither
    assert merge("delta-sum", *crowd, epoch=200, bounded=0).parameters.tolist() == pytest.approx([20 * 0.35])


def test_deltas_may_weigh_by_samples() -> None:
    merged = exact(weigh_by_samples=1)
    # k̄ = 30: a third, two thirds and twice
    assert merged.parameters.tolist() == pytest.approx([3 + 0.15 * (1 / 3 + 2 * 2 / 3 - 2 * 6), 0.15 * 3])


def test_without_samples_anywhere_deltas_weigh_the_same() -> None:
    crowd = [voice("i", [1], base=[0]), voice("k", [2], base=[0])]
    assert merge("delta-sum", *crowd, weigh_by_samples=1, bounded=0).parameters.tolist() == pytest.approx([0.15 * 3])


def test_one_peers_claim_of_samples_is_held_to_the_largest_share() -> None:
    crowd = [voice("i", [0], base=[0], samples=1), voice("k", [1], base=[0], samples=2**53)]
    free = merge("delta-sum", *crowd, weigh_by_samples=1, bounded=0)
    held = merge("delta-sum", *crowd, weigh_by_samples=1, bounded=0, max_share=0.5)
    assert free.parameters.tolist() == pytest.approx([2 * 0.15])
    assert held.parameters.tolist() == pytest.approx([0.15])


@pytest.mark.parametrize("bounded", [0.0, 1.0])
def test_models_without_a_base_are_averaged_as_in_convergence_rounds(bounded: float) -> None:
    merged = merge("delta-sum", voice("i", [1]), voice("k", [5]), voice("l", [6]), epoch=200, bounded=bounded)
    assert merged.parameters.tolist() == pytest.approx([4.0])


def test_a_sum_that_diverges_stops_at_the_largest_number() -> None:
    crowd = [voice(str(k), [3e38], base=[0]) for k in range(9)]
    assert merge("delta-sum", *crowd, epoch=200, bounded=0).parameters.tolist() == [pytest.approx(3.4028235e38)]


def test_a_server_is_one_voice_until_it_has_faded() -> None:
    strong, faded = (voice("s", [4], kind="server", source_weight=weight) for weight in (7.0, 0.9))
    for name in ("delta-sum", "variance-corrected", "trimmed-mean", "median"):
        assert merge(name, voice("i", [0]), strong).parameters.tolist() == [2], name
        assert merge(name, voice("i", [0]), faded).parameters.tolist() == [0], name
