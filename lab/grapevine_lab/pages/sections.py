"""What a page can hold. All of it is plain values, and all text may come from anybody."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = Sequence[float] | NDArray[np.floating[Any]] | NDArray[np.integer[Any]]
Cell: TypeAlias = str | float | bool | None

_NUMBER = re.compile(r"[+\-−–≥≤(.]*\d|–$")  # how a number begins; or a dash
NONE = "–"  # for what was not measured or never happened


def shown(value: Cell) -> str:
    """A cell as text.

    Four significant digits, thousands set apart; a dash for None and what is not finite; yes and NO.
    """
    match value:
        case str():
            return value
        case bool():
            return "yes" if value else "NO"
        case None:
            return NONE
        case int():
            return f"{value:,}"
        case _ if not math.isfinite(value):
            return NONE
        case _:
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@dataclass(frozen=True)
class Heading:
    """Begins a part of the page, and stands in the list of parts at its head."""

    text: str


@dataclass(frozen=True)
class Text:
    """Paragraphs, with a blank line between two of them."""

    text: str


@dataclass(frozen=True)
class Figures:
    """The few numbers that say most, large: what → value."""

    values: Mapping[str, Cell]


@dataclass(frozen=True)
class Checks:
    """What was to be shown, or had to hold, and whether it did; None: it could not be told."""

    items: Sequence[tuple[str, bool | None]]


@dataclass(frozen=True)
class Table:
    """Rows under headings. A column of numbers is set to the right; the first cell of a row names it.

    `words` are columns that are none of numbers, whatever they look like. `last_is_total`: the last row stands apart.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    last_is_total: bool = False
    words: Sequence[int] = ()

    def is_number(self, column: int) -> bool:
        """Whether all that stands in a column begins as a number does."""
        if column in self.words:
            return False
        cells = [row[column] for row in self.rows]
        texts = [shown(cell) for cell in cells if cell is not None and cell != "" and not isinstance(cell, bool)]
        return bool(texts) and all(_NUMBER.match(text) for text in texts)


@dataclass(frozen=True)
class Series:
    """A line, and a band around it: numbers [k]. What is not finite is left out, with a gap in the line.

    `thin` lines stand behind the others. With `like` a line has the colour of the series of that name, and no place of
    its own in the legend. `colour` is a place in the page's palette; else it is the next one's turn.
    """

    name: str
    xs: Numbers
    ys: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    dashed: bool = False
    thin: bool = False
    like: str = ""
    colour: int | None = None


@dataclass(frozen=True)
class Chart:
    """Lines in one pair of axes; `x` and `y` say what these are. The first series is drawn on top.

    `marks` are moments (x, label), `spans` stretches of the x axis (from, to, label). `percent`: values are shares of
    1. `wide`: over the whole width of the page.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    marks: Sequence[tuple[float, str]] = ()
    spans: Sequence[tuple[float, float, str]] = ()
    caption: str = ""
    percent: bool = False
    log_y: bool = False
    from_zero: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Details:
    """Something to look up, folded in: a file, a command; set in type of one width."""

    title: str
    text: str
    is_open: bool = False


Section: TypeAlias = Heading | Text | Figures | Checks | Table | Chart | Details


@dataclass(frozen=True)
class Page:
    """A whole page. `kind` stands above the title, `lead` below it; `made` is when, and of what version, at the end."""

    title: str
    sections: Sequence[Section]
    kind: str = ""
    lead: str = ""
    made: str = ""
    language: str = field(default="en", kw_only=True)
