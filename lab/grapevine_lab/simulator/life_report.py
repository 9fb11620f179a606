"""What is told of a long run: its invariants as a table, its days and sizes as CSV, and one plot of the year."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from grapevine_lab.pages import Cell, Table
from grapevine_lab.pages.sections import shown
from grapevine_lab.simulator.invariants import Invariant, as_json, invariants_of
from grapevine_lab.simulator.ledger import Day, Ledger
from grapevine_lab.simulator.plots import Curve, Panel, draw_grid
from grapevine_lab.simulator.sizes import BOUNDED, WHOLE

LIFE_FILE = "life.json"
DAY_COLUMNS = tuple(Day.__dataclass_fields__)
SIZE_COLUMNS = ("day", "name", "most", "allowed", "mean")
SHOWN_SIZES = ("records", "members", "replays", "tasks", "claims", "versions", "outbox")


@dataclass(frozen=True, kw_only=True)
class LifeReport:
    """See the module's docstring. Plain values, so that a finished seed can be read again."""

    invariants: tuple[Invariant, ...]
    days: tuple[tuple[float, ...], ...]  # day, then `DAY_COLUMNS`
    sizes: tuple[tuple[int, str, int, int, float], ...]  # `SIZE_COLUMNS`

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """Made of a run that is over."""
        return cls(
            invariants=invariants_of(ledger),
            days=tuple((number, *vars(day).values()) for number, day in sorted(ledger.days.items())),
            sizes=tuple(ledger.sizes),
        )

    @property
    def broken(self) -> tuple[Invariant, ...]:
        """The invariants that did not hold."""
        return tuple(each for each in self.invariants if each.holds is False)

    def write(self, folder: Path) -> None:
        """Leave it in a seed's folder."""
        _write_csv(folder / "life-days.csv", ("day", *DAY_COLUMNS), self.days)
        _write_csv(folder / "life-sizes.csv", SIZE_COLUMNS, self.sizes)
        content = {"invariants": as_json(self.invariants), "days": self.days, "sizes": self.sizes}
        (folder / LIFE_FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What `write` left; None where there is none."""
        if not (folder / LIFE_FILE).exists():
            return None
        content: dict[str, Any] = json.loads((folder / LIFE_FILE).read_text(encoding="utf-8"))
        return cls(
            invariants=tuple(Invariant(**each) for each in content["invariants"]),
            days=tuple(tuple(row) for row in content["days"]),
            sizes=tuple((row[0], row[1], row[2], row[3], row[4]) for row in content["sizes"]),
        )


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def invariant_table(report: LifeReport, seed: int) -> Table:
    """What had to hold, for a terminal or a page."""
    rows: list[list[Cell]] = []
    for each in report.invariants:
        unit = f" {each.unit}" if each.unit else ""
        holds: Cell = "too short to tell" if each.holds is None else each.holds
        rows.append([each.name, f"{shown(each.bound)}{unit}", f"{shown(each.found)}{unit}", holds, each.note])
    return Table(["invariant", "bound", "found", "holds", ""], rows, caption=f"invariants, seed {seed}")


def draw_life(report: LifeReport, path: Path, *, title: str) -> None:
    """One page: `life_panels` below each other."""
    draw_grid([[panel] for panel in life_panels(report)], path, title=title)


def life_panels(report: LifeReport) -> tuple[Panel, ...]:
    """Who knows whom, ghosts, the fullest device against its bounds, and the mean one's bytes."""
    days = [row[0] for row in report.days]
    of = {name: [row[k] for row in report.days] for k, name in enumerate(("day", *DAY_COLUMNS))}
    sizes = {name: [row for row in report.sizes if row[1] == name] for name in (*BOUNDED, WHOLE)}
    label = "virtual day"
    return (
        Panel(
            curves={
                "pairs of members unknown to each other": _line(days, _shares(of["strangers"], of["pairs"])),
                "updates to devices that are not there": _line(days, _shares(of["ghosts"], of["sends"])),
                "saves of unchanged models": _line(days, _shares(of["same_saves"], of["saves"])),
            },
            title="each day",
            x_label=label,
            percent=True,
            from_zero=True,
        ),
        Panel(
            curves={
                name: _line([row[0] for row in sizes[name]], [row[2] / row[3] for row in sizes[name]])
                for name in SHOWN_SIZES
            },
            title="the fullest device, of what is allowed",
            x_label=label,
            percent=True,
            from_zero=True,
        ),
        Panel(
            curves={
                "on disk": _line([row[0] for row in sizes["stored"]], [row[4] / 1e3 for row in sizes["stored"]]),
                "the core, pickled": _line([row[0] for row in sizes[WHOLE]], [row[4] / 1e3 for row in sizes[WHOLE]]),
            },
            title="the mean device",
            x_label=label,
            y_label="kB",
            from_zero=True,
        ),
    )


def _line(x: Sequence[float], y: Sequence[float]) -> Curve:
    values = np.asarray(y, np.float64)
    return Curve(x=np.asarray(x, np.float64), median=values, low=values, high=values)


def _shares(parts: Sequence[float], wholes: Sequence[float]) -> list[float]:
    return [part / whole if whole else 0.0 for part, whole in zip(parts, wholes, strict=True)]
