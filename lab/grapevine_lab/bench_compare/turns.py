"""Readings of two builds that take turns, and what they say about each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from grapevine_lab.bench.figures import Skipped

Side: TypeAlias = Literal["base", "now"]
Better: TypeAlias = Literal["lower", "higher", ""]  # which of two values; empty if neither

SIDES: Final[tuple[Side, Side]] = ("base", "now")
ENOUGH_TURNS: Final = 5  # of each: chance alone keeps their values apart once in 126 times


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One figure of one turn."""

    name: str  # of the benchmark, or the command
    what: str
    unit: str
    better: Better
    value: float


@dataclass(kw_only=True)
class Row:
    """One figure of both builds, a value of each turn."""

    name: str
    what: str
    unit: str
    better: Better
    values: dict[Side, list[float]] = field(default_factory=lambda: {"base": [], "now": []})

    @property
    def ratios(self) -> list[float]:
        """Now over base, of each turn; none where one of them lacks the figure, or had nothing."""
        base, now = self.values["base"], self.values["now"]
        if len(base) != len(now) or not all(base):
            return []
        return [after / before for before, after in zip(base, now, strict=True)]

    @property
    def seen(self) -> Literal["better", "worse", ""]:
        """Whether every value of one build is better than every value of the other, in enough turns; empty if not.

        Turns that all say the same are not enough: of two builds of the same code, five of five do once in 16 times.
        """
        base, now = self.values["base"], self.values["now"]
        if not self.better or min(len(base), len(now)) < ENOUGH_TURNS:
            return ""
        if max(now) < min(base):
            return "better" if self.better == "lower" else "worse"
        if min(now) > max(base):
            return "better" if self.better == "higher" else "worse"
        return ""


Take: TypeAlias = Callable[[Side], Sequence[Reading | Skipped]]


def in_turns(take: Take, num_turns: int, *, warm_up: bool = False) -> list[Row | Skipped]:
    """Take readings of both builds in turns, each first in every other one.

    Where one of them gives nothing but reasons, these are all that is found. `warm_up`: a turn before, which does not
    count.
    """
    rows: dict[tuple[str, str], Row] = {}
    for turn in range(-1 if warm_up else 0, num_turns):
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            taken = take(side)
            readings = [each for each in taken if isinstance(each, Reading)]
            if not readings:
                return [each for each in taken if isinstance(each, Skipped)]
            for each in readings if turn >= 0 else ():
                fresh = Row(name=each.name, what=each.what, unit=each.unit, better=each.better)
                row = rows.setdefault((each.name, each.what), fresh)
                row.values[side].append(each.value)
                if side == "now":  # a target may have come since
                    row.better = each.better
    return list(rows.values())
