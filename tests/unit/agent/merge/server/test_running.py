"""Models that are folded in one by one come to the mean that they have together."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.merge.server.running import RunningMean, Said
from grapevine_proto.messages import Vector

SIZE = 70_000  # more than a block
BUFFERS = 3


def models(num: int) -> tuple[list[Vector], list[Vector]]:
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(SIZE, dtype=np.float32) for _ in range(num)]
    return vectors, [rng.standard_normal(BUFFERS, dtype=np.float32) for _ in range(num)]


def folded(vectors: list[Vector], buffers: list[Vector], weights: list[float], name: str = "peer") -> RunningMean:
    mean = RunningMean()
    for number, (vector, floats, weight) in enumerate(zip(vectors, buffers, weights, strict=True)):
        mean.add(Said(peer=f"{name}-{number}", weight=weight, parameters=vector, buffers=floats, age=10))
    return mean


def model_of(mean: RunningMean) -> tuple[Vector, Vector]:
    total, buffers, by = mean.part()
    return total / np.float32(by), buffers / np.float32(by)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0] * 6,
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [1e9, 1.0, 1e-9, 1.0, 1e9, 1e-3],  # one that is hardly heard must not blow the others up
        [1e-9, 1e9, 1e-9, 1e9, 1e-9, 1e9],
        [1e6, 1.0, 1.0, 1.0, 1.0, 1e6],
    ],
)
def test_what_is_folded_in_is_the_weighted_mean(weights: list[float]) -> None:
    vectors, buffers = models(len(weights))
    parameters, floats = model_of(folded(vectors, buffers, weights))
    np.testing.assert_allclose(parameters, np.average(vectors, axis=0, weights=weights), atol=2e-6)
    np.testing.assert_allclose(floats, np.average(buffers, axis=0, weights=weights), atol=2e-6)


def test_large_models_do_not_overflow_however_light_the_last_one_is() -> None:
    vectors = [np.full(SIZE, 1e30, np.float32), np.full(SIZE, -1e30, np.float32)] * 3
    buffers = [np.full(BUFFERS, 1e30, np.float32)] * 6
    parameters, floats = model_of(folded(vectors, buffers, [1024.0, 1e-6, 1e6, 1e-6, 3.0, 1e-9]))
    assert np.isfinite(parameters).all()
    np.testing.assert_allclose(floats, 1e30, rtol=1e-5)


def test_a_mean_that_is_taken_in_weighs_what_is_said() -> None:
    vectors, buffers = models(4)
    one, other = folded(vectors[:2], buffers[:2], [1.0, 5.0]), folded(vectors[2:], buffers[2:], [7.0, 2.0], "other")
    (own, _), (its, _) = model_of(one), model_of(other)
    one.take(other, 3.0, 1.0)
    np.testing.assert_allclose(model_of(one)[0], 0.25 * own + 0.75 * its, atol=2e-6)


def test_a_sum_that_was_cleared_begins_anew_in_the_same_memory() -> None:
    vectors, buffers = models(3)
    mean = folded(vectors, buffers, [1.0, 2.0, 3.0])
    memory = mean.part()[0]
    mean.clear()
    mean.add(Said(peer="peer", weight=9.0, parameters=vectors[2], buffers=buffers[2], age=10))
    assert mean.part()[0] is memory
    np.testing.assert_allclose(model_of(mean)[0], vectors[2], rtol=1e-6)
