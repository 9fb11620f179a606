"""Curves whose length is bounded: the longer they run, the further apart their points are."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any, Final, TypeAlias

Point: TypeAlias = list[Any]  # its time in milliseconds first

OF_A_PEER: Final = 240
OF_A_TASK: Final = 480


class Curve:
    """Points in the order of their times, at most `most`.

    When it is full every second point goes, and points closer together than the rest are left out from then on. What
    is new since the last `told` is what a page appends; after a thinning it is given all of them.
    """

    __slots__ = ("_gap_ms", "_is_thinned", "_most", "_num_told", "points")

    def __init__(self, most: int) -> None:
        self.points: list[Point] = []
        self._most = most
        self._gap_ms = 0.0
        self._num_told = 0
        self._is_thinned = False

    def add(self, point: Point) -> bool:
        """Take one point, unless it is older than the last or too close to it. Whether it was taken."""
        points = self.points
        if points and point[0] < points[-1][0] + self._gap_ms:
            return False
        if points and point[0] == points[-1][0]:
            return False
        points.append(point)
        if len(points) > self._most:
            self.points = points[::2]
            # Not the mean: one long silence among them would leave out all that follows, until it was as long again.
            self._gap_ms = median(later[0] - point[0] for point, later in pairwise(self.points))
            self._num_told, self._is_thinned = 0, True
        return True

    def shift(self, step_ms: int) -> None:
        """The clock was set: all of it is told anew, with other times."""
        self.points = [[point[0] + step_ms, *point[1:]] for point in self.points]
        self._num_told, self._is_thinned = 0, True

    @property
    def has_news(self) -> bool:
        """Whether something was not told yet."""
        return self._is_thinned or self._num_told < len(self.points)

    def told(self) -> tuple[list[Point], list[Point] | None]:
        """What is to be appended, and the whole curve instead if it was thinned out; afterwards nothing is news."""
        whole = self.points[:] if self._is_thinned else None
        new = [] if whole is not None else self.points[self._num_told :]
        self._num_told, self._is_thinned = len(self.points), False
        return new, whole


def spread_of(values: list[float]) -> list[float]:
    """Mean, 10th and 90th percentile, least, most and number of some values, at least one."""
    ordered, num = sorted(values), len(values)
    low, high = ordered[round(0.1 * (num - 1))], ordered[round(0.9 * (num - 1))]
    return [sum(ordered) / num, low, high, ordered[0], ordered[-1], num]
