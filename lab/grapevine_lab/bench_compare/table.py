"""What was compared, as a table for people and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grapevine_lab.bench.figures import Skipped, quartiles
from grapevine_lab.bench.table import PLAIN_WIDTH, number
from grapevine_lab.bench_compare.turns import SIDES, Row

_STYLES = {"better": "green", "worse": "bold red", "": ""}


def print_table(found: Sequence[Row | Skipped], console: Console) -> None:
    """Print all rows: in colours on a terminal, as plain text anywhere else."""
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN)
    for title in ("benchmark", "figure"):
        table.add_column(title)
    for title in ("base", "now", "now / base", "quartiles", "n"):
        table.add_column(title, justify="right")
    for title in ("better is", "seen"):
        table.add_column(title)
    for each in found:
        style = _STYLES[each.seen] if isinstance(each, Row) else "red" if each.failed else "dim"
        table.add_row(*map(Text, cells(each)), style=style)  # a reason may hold what looks like markup
    console.print(table)


def cells(found: Row | Skipped) -> tuple[str, ...]:
    """The cells of one row."""
    if isinstance(found, Skipped):
        return (found.name, f"{'failed' if found.failed else 'skipped'}: {found.reason}", *[""] * 7)
    medians = [_with_unit(found.values[side], found.unit) for side in SIDES]
    ratio, spread = "–", "–"
    if ratios := found.ratios:
        low, middle, high = quartiles(ratios)
        ratio, spread = number(middle), f"{number(low)} … {number(high)}"
    return (found.name, found.what, *medians, ratio, spread, str(len(ratios)), found.better, found.seen)


def _with_unit(values: Sequence[float], unit: str) -> str:
    return f"{number(statistics.median(values))} {unit}".rstrip() if values else "–"


def as_json(found: Sequence[Row | Skipped]) -> list[dict[str, Any]]:
    """The rows as plain values, with the values of every turn."""
    return [_plain(each) for each in found]


def _plain(found: Row | Skipped) -> dict[str, Any]:
    if isinstance(found, Skipped):
        return {"name": found.name, "failed" if found.failed else "skipped": found.reason}
    return {
        "name": found.name,
        "what": found.what,
        "unit": found.unit,
        "better": found.better,
        "base": found.values["base"],
        "now": found.values["now"],
        "ratios": found.ratios,
        "seen": found.seen,
    }
