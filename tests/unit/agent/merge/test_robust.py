"""`trimmed-mean`, `median` and `krum`: what a hostile minority cannot do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.unit.agent.merge.by_hand import merge, voice

from grapevine_agent.merge.order_statistics import ROW, sorted_blocks, sorting_network

HONEST = [voice("i", [1, 5], age=3), voice("k", [2, 4]), voice("l", [3, 3]), voice("m", [6, 2])]
LIAR = voice("x", [-1e6, 1e6], age=8)


@pytest.mark.parametrize("n", range(14))
def test_a_sorting_network_sorts_every_pattern(n: int) -> None:
    # The zero-one principle: what sorts all vectors of zeros and ones sorts everything.
    rows = [(np.arange(2**n) >> bit) & 1 for bit in range(n)]
    for low, high in sorting_network(n):
        assert low < high
        rows[low], rows[high] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
    assert all((low <= high).all() for low, high in pairwise(rows))


@pytest.mark.parametrize("size", [0, 1, ROW, 2 * ROW + 5])
def test_blocks_are_sorted_by_coordinate_and_the_models_left_alone(size: int) -> None:
    vectors = [np.random.default_rng(k).standard_normal(size).astype(np.float32) for k in range(5)]
    before = np.stack(vectors)
    found = np.zeros_like(before)
    for span, rows in sorted_blocks(vectors):
        found[:, span] = rows
    assert np.array_equal(found, np.sort(before, axis=0))
    assert np.array_equal(np.stack(vectors), before)


def test_the_trimmed_mean_drops_a_fifth_at_each_end() -> None:
    merged = merge("trimmed-mean", *HONEST, LIAR)
    assert merged.parameters.tolist() == pytest.approx([2, 4])  # of (1, 2, 3) and (5, 4, 3)
    assert merged.age == 2
    assert merged.shares == pytest.approx(dict.fromkeys("iklmx", 0.2))


def test_trimming_is_the_tasks_choice_and_is_rounded_down() -> None:
    assert merge("trimmed-mean", *HONEST, trim=0.49).parameters.tolist() == pytest.approx([2.5, 3.5])
    assert merge("trimmed-mean", *HONEST, trim=0.24).parameters.tolist() == pytest.approx([3, 3.5])  # nothing dropped
    crowd = [voice(str(k), [float(k**2)]) for k in range(100)]
    expected = np.mean([k**2 for k in range(29, 71)])  # 0.29·100 is a little less than 29 in floating point
    assert merge("trimmed-mean", *crowd, trim=0.29).parameters.tolist() == pytest.approx([expected])


def test_the_median_is_the_middle_value_or_the_mean_of_two() -> None:
    assert merge("median", *HONEST, LIAR).parameters.tolist() == [2, 4]
    assert merge("median", *HONEST).parameters.tolist() == [2.5, 3.5]
    assert merge("median", voice("i", [3e38]), voice("k", [3.2e38])).parameters.tolist() == pytest.approx([3.1e38])


@pytest.mark.parametrize("name", ["trimmed-mean", "median", "krum"])
def test_a_hostile_peer_does_not_set_the_buffers(name: str) -> None:
    honest = [voice(peer, [0.0], buffers=[1 + k / 10]) for k, peer in enumerate("iklm")]
    merged = merge(name, *honest, voice("x", [9.0], buffers=[1e9]))
    assert 1 <= merged.buffers[0] <= 1.3 + 1e-6


def test_krum_takes_the_model_among_close_neighbours_whole() -> None:
    crowd = [
        voice("i", [0, 0], age=5, buffers=[1]),
        voice("k", [1, 0], age=9, experience=90, buffers=[2]),
        voice("l", [1, 2], age=1, buffers=[3]),
        voice("m", [50, 50], buffers=[4]),
        voice("x", [-1e6, 0], age=10**6, buffers=[5]),
    ]
    # n − f − 2 = 2 nearest: i 1 + 5, k 1 + 4, l 4 + 5
    merged = merge("krum", *crowd)
    assert (merged.parameters.tolist(), merged.buffers.tolist()) == ([1, 0], [2])
    assert (merged.age, merged.experience, merged.shares) == (9, 90, {"k": 1.0})


def test_krum_keeps_ones_own_model_where_there_are_too_few_or_it_is_as_good() -> None:
    own, other, third, fourth = voice("z", [0]), voice("k", [1]), voice("l", [1]), voice("m", [0])
    assert merge("krum", own, other, third).parameters.tolist() == [0]  # n = 3 = f + 2
    assert merge("krum", own, other, third, f=0).parameters.tolist() == [1]  # one neighbour each
    assert merge("krum", own, other, third, fourth).shares == {"z": 1.0}  # four equals


def test_krum_expects_as_many_hostile_models_as_the_task_says() -> None:
    crowd = [voice("i", [0]), voice("k", [1]), voice("l", [2.5]), voice("x", [9]), voice("y", [9.5]), voice("z", [9.9])]
    assert merge("krum", *crowd, f=2).parameters.tolist() == [9.5]  # two neighbours: a clique of three wins
    assert merge("krum", *crowd, f=1).parameters.tolist() == [9]  # three neighbours: one is not in the clique
    assert merge("krum", *crowd[:5], f=2).parameters.tolist() == [9]  # one neighbour: the closest two
