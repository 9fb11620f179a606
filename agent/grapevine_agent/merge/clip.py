"""`clip`: a guard around any strategy that keeps one update from carrying the model away.

The distance of an update from the local model is clipped to a multiple of the median of the
distances seen recently: an honest peer is seldom much further away than the others, and a poisoned
update has to be to do harm in one merge.

An update's base is held within the same distance, and its delta is what lies between the two. Held
alone, parameters would not be enough: a base far away with a delta that leads back has parameters
like everybody's, and a strategy that takes bases and deltas apart would be carried away by it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from grapevine_agent.merge.apart import apart
from grapevine_agent.merge.geometry import block_of, blocks, is_longer, squared_distance, store
from grapevine_agent.merge.voices import Voice
from grapevine_proto.messages import Vector

MIN_HISTORY = 3  # below it there is no telling what is usual
SAME = 1e-6  # of a model's length: merging equal models moves them by a tenth of it


@dataclass
class Clip:
    """Clips to `factor` × the median of the last `len(recent)` distances; a factor of 0 clips nothing."""

    factor: float
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    last: float = 0.0  # the distance of the last update as it came, unless it was equal but for rounding

    def apply(self, local: Voice, received: Voice) -> Voice:
        """`received`, moved towards `local` where it is too far away.

        Its parameters' distance is remembered as clipped; a base is judged by the same limit and not remembered.
        """
        self.last = 0.0
        if self.factor <= 0:
            return received
        limit = self.factor * median(self.recent) if len(self.recent) >= MIN_HISTORY else math.inf
        distance = math.sqrt(squared_distance(local.parameters, received.parameters))
        # Models that are equal but for rounding say nothing about how far apart models usually are. Were they counted,
        # members that agree could never again be told anything by one who comes late.
        if is_longer(distance, SAME, local.parameters):
            self.recent.append(min(distance, limit))
            self.last = distance
        parameters = _within(limit, distance, local.parameters, received.parameters)
        base = received.base
        if base is not None and math.isfinite(limit):
            distance = math.sqrt(squared_distance(local.parameters, base))
            base = _within(limit, distance, local.parameters, base)
        if parameters is received.parameters and base is received.base:
            return received
        return replace(received, parameters=parameters, base=base)


def _within(limit: float, distance: float, centre: Vector, vector: Vector) -> Vector:
    """`vector`, or the point at `limit` on the way to it from `centre` if its `distance` is more than that."""
    if distance <= limit:
        return vector
    moved = np.empty_like(vector)
    scratch = block_of(vector.size)
    with apart():
        for span in blocks(0, vector.size):
            step = np.subtract(vector[span], centre[span], out=scratch[: span.stop - span.start], dtype=np.float64)
            step *= limit / distance
            step += centre[span]
            store(step, moved, span)
    return moved
