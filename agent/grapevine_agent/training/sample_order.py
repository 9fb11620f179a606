"""In which order a device's samples are trained on, and where in it the device is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class SampleOrder:
    """Batches of exactly `batch_size` samples, or of all when there are fewer; a new order each epoch.

    What an epoch leaves over, fewer samples than a batch, is left out of it.

    Args:
        num_samples: 1 or more.
        batch_size: 1 or more, as the training plan has it.
        seed: Of the orders.
    """

    def __init__(self, num_samples: int, batch_size: int, *, seed: int) -> None:
        self._num_samples = num_samples
        self.batch_size = min(batch_size, num_samples)  # of every batch
        self._rng = np.random.default_rng(seed)
        self._order = np.empty(0, np.int64)
        self._start = 0

    def next_batch(self) -> NDArray[np.int64]:
        """Numbers of samples, int64 [batch_size]; not to be changed."""
        if self._start + self.batch_size > len(self._order):
            self._order, self._start = self._rng.permutation(self._num_samples), 0
        self._start += self.batch_size
        return self._order[self._start - self.batch_size : self._start]

    def state(self) -> dict[str, Any]:
        """All that the batches to come depend on, as plain values."""
        return {"rng": self._rng.bit_generator.state, "order": self._order.copy(), "start": self._start}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave for as many samples."""
        self._rng.bit_generator.state = state["rng"]
        self._order, self._start = np.array(state["order"], np.int64), int(state["start"])
