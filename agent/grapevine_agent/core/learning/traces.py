"""Traces of models: enough of one to tell whether another has moved from it, without keeping the model itself.

A small model is its own trace. Of a large one every k-th number is kept, up to `MOST_NUMBERS`: 256 kB instead of the
100 MB of 25 million parameters. Training and merging move numbers all over a model, and the change of a sample that is
spread over it is that of the whole, to a per cent; which is exact enough for thresholds that are orders of magnitude.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from grapevine_agent.merge.geometry import is_apart
from grapevine_proto.messages import Vector

MOST_NUMBERS: Final = 65_536
Trace = np.ndarray[tuple[int], np.dtype[np.float32]]


def trace_of(vector: Vector) -> Trace:
    """What is kept of a float32 [n]: the vector itself, or a copy of every k-th number of it."""
    if vector.size <= MOST_NUMBERS:
        return vector
    step = -(-vector.size // MOST_NUMBERS)
    return np.ascontiguousarray(vector[:: step | 1])  # odd: the rows of a matrix are seldom as long


def has_moved(before: Trace, after: Vector, share: float) -> bool:
    """Whether a float32 [n] differs from what this is the trace of by more than a share of its length."""
    now = trace_of(after)
    if before is now:
        return False
    return is_apart(before, now, share)
