"""Distances and angles between models, and what else goes over the vectors block by block.

Everything here adds up in float64, whatever the vectors' size: a float32 sum over 25 million
numbers is not worth much, and float32 squares overflow at 2·10¹⁹. The buffers are small blocks, so
the memory needed is the vectors' own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.merge.apart import apart
from grapevine_proto.messages import Vector

# Float64 numbers: 64 KiB, so that a few blocks share a small board's cache. Not more than 10,000: beyond, OpenBLAS
# wakes its threads for a dot product, which takes longer than the product where cores are few and busy.
BLOCK64 = 1 << 13
LARGEST = float(np.finfo(np.float32).max)
PLAIN_SQUARE = 1e-30  # from here on a sum of float32 squares has lost nothing to speak of below the smallest number
PLAINLY = 1.01  # times as much, or as little: no rounding of sums in float32 comes near that


def blocks(start: int, stop: int, step: int = BLOCK64) -> Iterator[slice]:
    """Slices of at most `step` elements that cover [start, stop)."""
    for at in range(start, stop, step):
        yield slice(at, min(at + step, stop))


def block_of(size: int) -> NDArray[np.float64]:
    """Room for one block of a vector of `size` elements."""
    return np.empty(min(size, BLOCK64))


def store(block: NDArray[np.float64], vector: Vector, span: slice) -> None:
    """Write a float64 block, which is modified, into a float32 vector: what would overflow stops at the largest number.

    Finite models then never merge to infinity, nor to NaN in the merge after it.
    """
    np.clip(block, -LARGEST, LARGEST, out=block)
    vector[span] = block


def squared_distance(one: Vector, other: Vector) -> float:
    """‖one − other‖², of two float32 [p]. The same, to the bit, when they change places."""
    total = 0.0
    scratch = block_of(one.size)
    with apart():
        for span in blocks(0, one.size):
            step = np.subtract(one[span], other[span], out=scratch[: span.stop - span.start], dtype=np.float64)
            total += float(np.dot(step, step))
    return total


def squared_length(vector: Vector) -> float:
    """‖vector‖², of a float32 [p]."""
    total = 0.0
    scratch = block_of(vector.size)
    with apart():
        for span in blocks(0, vector.size):
            block = scratch[: span.stop - span.start]
            block[:] = vector[span]
            total += float(np.dot(block, block))
    return total


def is_apart(one: Vector, other: Vector, share: float) -> bool:
    """Whether ‖one − other‖ > share·‖other‖, of two float32 [p]; exactly so.

    Where it is plain, as mostly, sums in float32 tell, in a fifth of the time.
    """
    with apart():
        distance, length = _rough_square(one - other), _rough_square(other)
    if PLAIN_SQUARE < distance < math.inf and PLAIN_SQUARE < length < math.inf:
        limit = share * share * length
        if not limit / PLAINLY < distance < limit * PLAINLY:
            return distance > limit
    return squared_distance(one, other) > share * share * squared_length(other)


def is_longer(length: float, share: float, vector: Vector) -> bool:
    """Whether length > share·‖vector‖, of a float32 [p]; exactly so, as `is_apart`."""
    with apart():
        rough = _rough_square(vector)
    if PLAIN_SQUARE < rough < math.inf:
        limit = share * math.sqrt(rough)
        if not limit / PLAINLY < length < limit * PLAINLY:
            return length > limit
    return length > share * math.sqrt(squared_length(vector))


def _rough_square(vector: Vector) -> float:
    """‖vector‖² to a thousandth, summed in float32; inf or NaN where that does not hold it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.fsum(float(np.dot(block, block)) for block in (vector[span] for span in blocks(0, vector.size)))


def scaled_cosine(own: Vector, other: Vector, origin: Vector | None) -> float:
    """S' = (S + 1)/2 ∈ [0, 1], S the cosine of the angle between two models seen from `origin`.

    Chisme equations 5 to 7: Δ_ii = own − origin, Δ_ki = other − origin, all float32 [p]. Where one of
    them is zero, or there is no origin, nothing is known: S' = 1/2.
    """
    if origin is None:
        return 0.5
    dot = own_square = other_square = 0.0
    first, second = block_of(own.size), block_of(own.size)
    for span in blocks(0, own.size):
        size = span.stop - span.start
        step = np.subtract(own[span], origin[span], out=first[:size], dtype=np.float64)
        other_step = np.subtract(other[span], origin[span], out=second[:size], dtype=np.float64)
        dot += float(np.dot(step, other_step))
        own_square += float(np.dot(step, step))
        other_square += float(np.dot(other_step, other_step))
    norms = math.sqrt(own_square) * math.sqrt(other_square)
    if norms == 0.0:
        return 0.5
    return (min(1.0, max(-1.0, dot / norms)) + 1) / 2
