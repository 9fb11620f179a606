"""Distances between models: what is told in a hurry is what is so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grapevine_agent.merge.geometry import is_apart, is_longer, squared_distance, squared_length


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e25])
@pytest.mark.parametrize("share", [1e-6, 1e-2, 0.7])
@pytest.mark.parametrize("times", [0.0, 0.9, 0.9999, 1.0001, 1.1, 100.0])
def test_what_float32_tells_of_distances_is_what_float64_says(scale: float, share: float, times: float) -> None:
    rng = np.random.default_rng(3)
    one = (rng.standard_normal(20_000) * scale).astype(np.float32)
    other = one + (times * share * np.abs(one) * rng.choice([-1, 1], one.size)).astype(np.float32)
    is_far = squared_distance(other, one) > share * share * squared_length(one)
    assert is_apart(other, one, share) == is_far
    for length in (times * share * math.sqrt(squared_length(one)), math.sqrt(squared_distance(other, one))):
        assert is_longer(length, share, one) == (length > share * math.sqrt(squared_length(one)))
