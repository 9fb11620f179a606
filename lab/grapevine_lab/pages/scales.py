"""Where on an axis a number stands, which numbers are written beside it, and how much of a long line is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from grapevine_lab.pages.sections import Numbers

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
NUM_TICKS = 5
MOST_DECADES = 8  # with a tick each
ROUNDING = 1e-9
LARGEST = 1e300  # with what is beyond, or nearer to nothing, sums and quotients are no numbers any more
SMALLEST = 1e-300
FAR = 100.0  # lengths of the axis, beyond which is nowhere


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One axis, from `low` to `high`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    @classmethod
    def over(
        cls, values: Iterable[Numbers], *, is_log: bool = False, from_zero: bool = False, exact: bool = False
    ) -> Self:
        """For all finite ones of these values (on a logarithmic axis, all above 0).

        It begins and ends at a tick; `exact`: at the least and the greatest value.
        """
        parts = [np.asarray(each, np.float64).ravel() for each in values]
        numbers = np.concatenate([*parts, np.empty(0)])
        numbers = numbers[(np.abs(numbers) <= LARGEST) & ((numbers > SMALLEST) | (not is_log))]
        if not len(numbers):
            numbers = np.array([1.0, 10.0] if is_log else [0.0, 1.0])
        low, high = float(numbers.min()), float(numbers.max())
        if is_log:
            return cls._log(low, high)
        if from_zero:
            low, high = min(0.0, low), max(0.0, high)
        if high - low <= max(SMALLEST, ROUNDING * max(abs(low), abs(high))):
            margin = abs(high) / 2 if abs(high) > SMALLEST else 0.5
            low, high = (0.0 if from_zero else low - margin), high + margin
        step = _step(high - low)
        if not exact:
            low, high = math.floor(low / step + ROUNDING) * step, math.ceil(high / step - ROUNDING) * step
        first, last = math.ceil(low / step - ROUNDING), math.floor(high / step + ROUNDING)
        return cls(low=low, high=high, ticks=tuple(k * step for k in range(first, last + 1)))

    @classmethod
    def _log(cls, low: float, high: float) -> Self:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        last = max(last, first + 1)
        every = math.ceil((last - first) / MOST_DECADES)
        return cls(
            low=10.0**first, high=10.0**last, ticks=tuple(10.0**k for k in range(first, last + 1, every)), is_log=True
        )

    def share(self, values: Numbers) -> NDArray[np.float64]:
        """Where on the axis values [k] stand, from 0 at its beginning to 1 at its end [k]; NaN where nowhere."""
        numbers = np.asarray(values, np.float64)
        low, high = (math.log10(self.low), math.log10(self.high)) if self.is_log else (self.low, self.high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            shares = ((np.log10(numbers) if self.is_log else numbers) - low) / (high - low)
        return np.where(np.abs(shares) <= FAR, shares, np.nan)


def _step(extent: float) -> float:
    """Between two ticks: the least round number that leaves at most five."""
    rough = extent / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * step for step in STEPS if power * step >= rough * (1 - ROUNDING))


def tick_texts(ticks: Sequence[float], *, percent: bool) -> list[str]:
    """The numbers beside an axis, all with as many decimals as the step between them asks for."""
    numbers = [100 * tick for tick in ticks] if percent else list(ticks)
    unit = " %" if percent else ""
    if len(numbers) > 1 and numbers[0] > 0 and numbers[-1] / numbers[0] >= 10 ** (len(numbers) - 1) * (1 - ROUNDING):
        return [f"{number:g}{unit}" for number in numbers]  # decades
    step = min((b - a for a, b in pairwise(numbers)), default=1.0)
    decimals = max(0, math.ceil(-math.log10(step) - ROUNDING)) if step > 0 else 0
    if decimals and not math.isclose(step * 10**decimals, round(step * 10**decimals), rel_tol=1e-6):
        decimals += 1  # 0.25
    elif not decimals and not math.isclose(step, round(step), rel_tol=1e-6):
        decimals = 1  # 2.5
    return [f"{number + 0.0:,.{decimals}f}".replace("-", "−") + unit for number in numbers]


def thinned(xs: NDArray[Any], ys: NDArray[Any], num_points: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of a long line [k] the first, least, greatest and last point of each of so many stretches that few are left.

    On a screen with as many dots nothing of it is missing (Jugel et al., *M4*, 2014).
    """
    if len(xs) <= num_points:
        return xs, ys
    kept: list[int] = []
    for part in np.array_split(np.arange(len(xs)), max(1, num_points // 4)):
        there = part[np.isfinite(ys[part])]
        ends = [part[0], part[-1]]
        extremes = [there[np.argmin(ys[there])], there[np.argmax(ys[there])]] if len(there) else []
        kept += sorted({int(i) for i in (*ends, *extremes)})
    return xs[kept], ys[kept]
