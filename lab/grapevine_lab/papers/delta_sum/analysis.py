"""What the paper claims of its figures, computed from runs: drops, and whether they grow with n or with log n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fit:
    """Least squares of accuracy over n and over ln n: the slope of each, and what each leaves over (RMS)."""

    linear_slope: float
    linear_rms: float
    log_slope: float
    log_rms: float

    @property
    def better(self) -> str:
        """Which of the two leaves less over."""
        return "logarithmic" if self.log_rms < self.linear_rms else "linear"


def fit(nodes: NDArray[np.float64], accuracies: NDArray[np.float64]) -> Fit:
    """Fit both. Raises ValueError below three sizes: two points lie on any line."""
    if len(nodes) < 3:
        raise ValueError(f"{len(nodes)} sizes decide nothing: three are the least")
    linear = _least_squares(nodes, accuracies)
    logarithmic = _least_squares(np.log(nodes), accuracies)
    return Fit(*linear, *logarithmic)


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    slope, start = np.polyfit(x, y, 1)
    return float(slope), float(np.sqrt(np.mean((y - start - slope * x) ** 2)))


def smaller_by(drop: float, reference: float) -> float:
    """How much smaller a drop is than another one, as a share of that; the paper's 58 %."""
    return 1 - drop / reference if reference else float("nan")
