"""Tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Table:
    """A title, the columns' headings, and rows of text."""

    title: str
    head: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join([f"### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def decimals(value: float, places: int = 2) -> str:
    """A number with so many places, or a dash for one that is not finite."""
    return f"{value:.{places}f}" if math.isfinite(value) else "–"


def write_report(tables: Iterable[Table], path: Path) -> None:
    """Write tables to a file, one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(str, tables)), encoding="utf-8")
