"""What a benchmark finds: figures with their targets, and the arithmetic behind them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["met", "missed", ""]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound that a figure should keep to."""

    limit: float
    at_most: bool  # else at least

    def is_met_by(self, value: float) -> bool:
        """Whether `value` is on the right side. NaN never is."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The median of what was measured, with its first and third quartile."""

    name: str  # of the benchmark
    what: str
    median: float
    quartiles: tuple[float, float]
    num: int  # of repetitions
    unit: str = ""  # none for a ratio
    target: Target | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the target is met; empty for a figure without one."""
        if self.target is None:
            return ""
        return "met" if self.target.is_met_by(self.median) else "missed"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A benchmark without figures, and why: this machine cannot run it, or (`failed`) it went wrong."""

    name: str
    reason: str
    failed: bool = False


Finding: TypeAlias = Figure | Skipped


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One run that gives the figures of one or more names."""

    names: tuple[str, ...]
    run: Callable[[Callable[[str], None]], Sequence[Finding]]  # is given a function that says what goes on
    missing: Callable[[], str]  # why this machine cannot run it; empty if it can


def figure(
    name: str, what: str, values: Sequence[float], *, unit: str = "", target: Target | None = None, scale: float = 1.0
) -> Figure:
    """The figure of repeated measurements, each multiplied by `scale`. Raises ValueError if there are none."""
    if not values:
        msg = f"{name}: nothing was measured"
        raise ValueError(msg)
    scaled = [value * scale for value in values]
    low, middle, high = quartiles(scaled)
    return Figure(name=name, what=what, median=middle, quartiles=(low, high), num=len(values), unit=unit, target=target)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, interpolated; of a single value, that value thrice."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def bandwidth_share(num_bytes: float, seconds: float, raw_bytes: float, raw_seconds: float) -> float:
    """How fast bytes were touched, as a share of how fast the raw limit touches them."""
    return (num_bytes / seconds) / (raw_bytes / raw_seconds)


def block_ratios(ours: Sequence[float], raw: Sequence[float], block: int) -> list[float]:
    """Median over median, for each block of consecutive repetitions that took turns.

    One repetition that something else disturbed does not count, and a machine that is slower for a
    while is slower for both. Raises ValueError unless both have the same whole number of blocks.
    """
    if not ours or len(ours) != len(raw) or len(ours) % block:
        msg = f"{len(ours)} and {len(raw)} repetitions are no whole number of blocks of {block}"
        raise ValueError(msg)
    starts = range(0, len(ours), block)
    return [statistics.median(ours[s : s + block]) / statistics.median(raw[s : s + block]) for s in starts]
