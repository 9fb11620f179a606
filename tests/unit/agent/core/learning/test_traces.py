"""Traces: a model is told from another without being kept."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.traces import MOST_NUMBERS, has_moved, trace_of


def test_a_small_model_is_its_own_trace() -> None:
    model = np.arange(MOST_NUMBERS, dtype=np.float32)
    assert trace_of(model) is model
    other = model.copy()
    other[-1] *= 1.01
    assert has_moved(trace_of(model), other, 1e-5)
    assert not has_moved(trace_of(model), other, 1e-3)


@pytest.mark.parametrize("size", [MOST_NUMBERS + 1, 10 * MOST_NUMBERS, 1_000_003])
def test_of_a_large_one_a_sample_tells_the_same(size: int) -> None:
    rng = np.random.default_rng(size)
    model = rng.standard_normal(size, dtype=np.float32)
    trace = trace_of(model)
    assert trace.size <= MOST_NUMBERS
    assert trace.base is None  # the model can go
    for moved, share in ((2e-5, 1e-5), (0.5e-5, 1e-5), (2e-3, 1e-3), (0.5e-3, 1e-3)):
        after = model + np.float32(moved) * rng.standard_normal(size, dtype=np.float32)
        assert has_moved(trace, after, share) == (moved > share)
    assert not has_moved(trace, model.copy(), 1e-7)
