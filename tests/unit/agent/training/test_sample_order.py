"""Samples are seen once an epoch, and an order goes on where it was left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.training.sample_order import SampleOrder


def _take(order: SampleOrder, num_batches: int) -> NDArray[np.int64]:
    return np.array([order.next_batch() for _ in range(num_batches)])


def test_every_sample_is_seen_once_an_epoch() -> None:
    order = SampleOrder(48, 16, seed=0)
    first, second = _take(order, 3), _take(order, 3)
    for epoch in (first, second):
        assert sorted(epoch.ravel()) == list(range(48))
    assert not np.array_equal(first, second)


def test_what_does_not_fill_a_batch_is_left_out_of_the_epoch() -> None:
    batches = _take(SampleOrder(50, 16, seed=0), 6)
    for epoch in (batches[:3], batches[3:]):
        assert len(set(epoch.ravel())) == 48


def test_fewer_samples_than_a_batch_are_one_batch() -> None:
    assert sorted(SampleOrder(5, 16, seed=0).next_batch()) == list(range(5))


def test_a_restored_order_goes_on() -> None:
    order = SampleOrder(50, 16, seed=3)
    _take(order, 5)
    state = order.state()
    went_on = _take(order, 10)
    other = SampleOrder(50, 16, seed=4)
    other.restore(state)
    np.testing.assert_array_equal(_take(other, 10), went_on)
    other.restore(state)  # taking batches has not changed it
    np.testing.assert_array_equal(_take(other, 10), went_on)
