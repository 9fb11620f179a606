"""Samples are seen once an epoch, and an order goes on where it was left."""

from __future__ import annotations

import numpy as np

from grapevine_agent.training.sample_order import SampleOrder


def test_every_sample_is_seen_once_an_epoch() -> None:
    order = SampleOrder(48, 16, seed=0)
    first, second = order.take(3), order.take(3)
    for epoch in (first, second):
        assert sorted(epoch.ravel()) == list(range(48))
    assert not np.array_equal(first, second)


def test_what_does_not_fill_a_batch_is_left_out_of_the_epoch() -> None:
    order = SampleOrder(50, 16, seed=0)
    batches = order.take(4)
    assert len(set(batches[:3].ravel())) == 48
    assert batches.shape == (4, 16)


def test_fewer_samples_than_a_batch_are_one_batch() -> None:
    assert sorted(SampleOrder(5, 16, seed=0).take(1)[0]) == list(range(5))


def test_batches_do_not_depend_on_how_many_are_taken_at_once() -> None:
    one_by_one = SampleOrder(50, 16, seed=3)
    together = SampleOrder(50, 16, seed=3).take(10)
    np.testing.assert_array_equal(np.concatenate([one_by_one.take(1) for _ in range(10)]), together)


def test_a_restored_order_goes_on() -> None:
    order = SampleOrder(50, 16, seed=3)
    order.take(5)
    state = order.state()
    went_on = order.take(10)
    other = SampleOrder(50, 16, seed=4)
    other.restore(state)
    np.testing.assert_array_equal(other.take(10), went_on)
    other.restore(state)  # taking batches has not changed it
    np.testing.assert_array_equal(other.take(10), went_on)
