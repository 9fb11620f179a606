"""What many nodes refer to lies in shared memory once, aligned, and as it was."""

from __future__ import annotations

import os

import numpy as np
from tests.unit.lab.simulator.training.crowds import crowd, net

from grapevine_lab.simulator.training.crowd import distinct_tests
from grapevine_lab.simulator.training.jobs import Commons
from grapevine_lab.simulator.training.shared_arrays import Plan, create, open_arrays
from grapevine_lab.simulator.training.sharing import identity, share
from grapevine_proto.manifest import TrainingPlan


def test_arrays_are_seen_by_whoever_opens_the_memory() -> None:
    plan = Plan.of([((3, 2), np.dtype(np.float32)), ((0, 4), np.dtype(np.float32)), ((5,), np.dtype(np.int64))])
    fd = create(plan)
    one, other = open_arrays(fd, plan), open_arrays(fd, plan)
    os.close(fd)
    one[0][:], one[2][:] = 1.5, np.arange(5)
    np.testing.assert_array_equal(other[0], np.full((3, 2), 1.5, np.float32))
    np.testing.assert_array_equal(other[2], np.arange(5))
    assert other[1].shape == (0, 4)
    assert all(place.offset % 64 == 0 for place in plan.places)


def test_what_several_nodes_have_is_there_once() -> None:
    samples = crowd((12,), 4, num_test=50)
    samples = [*samples, samples[0]]
    commons = Commons(
        program=net("mlp").program,
        plan=TrainingPlan(),
        x=[own.x for own in samples],
        y=[own.y for own in samples],
        x_test=[samples[0].x_test],
        y_test=[samples[0].y_test],
        moments=np.zeros((5, 2, 7), np.float32),
    )
    shared = share(commons, "plain", num_slots=3, slot_shape=(2, 7))
    os.close(shared.fd)
    assert len(shared.setup.arrays.places) == 4 + 4 + 2 + 1 + 3
    assert shared.setup.x[4] == shared.setup.x[0]
    for mine, theirs in zip(commons.x, shared.commons.x, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [slot.shape for slot in shared.slots] == [(2, 7)] * 3
    assert not shared.commons.moments.any()


def test_equal_memory_is_one_test_set_and_equal_numbers_are_not() -> None:
    whole = np.zeros((10, 3), np.float32)
    y = np.zeros(10, np.int64)
    parts = [whole[:5], whole[:5], whole[5:], whole[:5].copy()]
    of_nodes, owners = distinct_tests(parts, [y[:5], y[:5], y[5:], y[:5]])
    assert of_nodes == [0, 0, 1, 2]
    assert owners == [0, 2, 3]
    assert identity(whole[:5]) == identity(whole[:5])
    assert identity(whole[::2]) != identity(whole[:5])
