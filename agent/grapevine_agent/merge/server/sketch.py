"""Short vectors with nearly the angles and lengths of long ones: what is compared where the long ones find no room.

    s_j = Σ_{i ≡ j mod m} ε_i·v_i        ε_i = ±1, drawn once

The count sketch of Charikar, Chen and Farach-Colton, "Finding frequent items in data streams" (2002), with one row, and
with the bucket of a coordinate given by its place: E⟨s, s'⟩ = ⟨v, v'⟩ over the signs, and a cosine is off by about
1/√m, 0.016. m is a prime, so that the rows of a layer do not fall on each other. A vector no longer than m is its own
sketch.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from grapevine_proto.messages import Vector

SKETCH_SIZE: Final = 4_093  # m
ROWS: Final = 64  # of m numbers that are taken at a time


class Sketcher:
    """Makes sketches that can be compared with each other. Held: one byte a coordinate, the signs."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._signs: NDArray[np.int8] = np.empty(0, np.int8)
        if size > SKETCH_SIZE:
            self._signs = rng.integers(0, 2, size, np.int8)
            self._signs *= 2
            self._signs -= 1

    def __call__(self, vector: Vector) -> Vector:
        """A new float32 vector of at most m numbers."""
        if vector.size <= SKETCH_SIZE:
            return vector.copy()
        total = np.zeros(SKETCH_SIZE)
        step = ROWS * SKETCH_SIZE
        for start in range(0, vector.size, step):
            signed = np.multiply(vector[start : start + step], self._signs[start : start + step], dtype=np.float64)
            whole = signed.size - signed.size % SKETCH_SIZE
            total += signed[:whole].reshape(-1, SKETCH_SIZE).sum(axis=0)
            total[: signed.size - whole] += signed[whole:]
        return np.clip(total, -3e38, 3e38).astype(np.float32)
