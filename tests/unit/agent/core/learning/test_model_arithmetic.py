"""The arithmetic of a model's state, block by block, is that of whole vectors to the bit."""

from __future__ import annotations

import numpy as np

from grapevine_agent.core.learning.model_state import COLD_START, ModelState
from grapevine_agent.merge.geometry import BLOCK64


def test_releasing_and_training_are_the_formulas_to_the_bit_and_modify_nothing() -> None:
    rng = np.random.default_rng(0)
    one, two, start, end = (rng.standard_normal(2 * BLOCK64 + 7, np.float32) for _ in range(4))
    small = [rng.standard_normal(3, np.float32) for _ in range(4)]
    before = [each.copy() for each in (one, two, start, end)]
    model = ModelState(parameters=one, buffers=small[0], released=two, released_buffers=small[1])
    model.release(0.95)
    beta = np.float32(1 / (1 + COLD_START))
    assert np.array_equal(model.released, beta * two + (1 - beta) * one)
    assert np.array_equal(model.released_buffers, beta * small[1] + (1 - beta) * small[0])
    model.add_training(start=start, end=end, start_buffers=small[2], end_buffers=small[3])
    assert np.array_equal(model.parameters, one + (end - start))
    assert np.array_equal(model.buffers, small[0] + (small[3] - small[2]))
    assert model.parameters.dtype == model.released.dtype == np.float32
    for now, then in zip((one, two, start, end), before, strict=True):
        assert np.array_equal(now, then)
