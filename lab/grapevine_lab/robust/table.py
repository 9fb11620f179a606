"""The tables in Markdown, made of what is kept of the runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grapevine_lab.papers.report import Table
from grapevine_lab.robust.attacks import ATTACKS, REFERENCES
from grapevine_lab.robust.columns import COLUMNS
from grapevine_lab.robust.runs import Found

Cells = Mapping[tuple[str, str], Sequence[Found]]  # (attack, column) ▶ its seeds
DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All seeds of one attack on one task together."""

    mean: float
    worst: float  # agent of any seed
    to_reference: tuple[float, ...]  # points of accuracy to each of `REFERENCES`, over the seeds that both have; or nan


def accuracy_table(found: Iterable[Found], strategy: str) -> Table:
    """A row an attack; of each task the accuracy with the worst agent's, and the points to `REFERENCES`."""

    def cells(of: Cells, attack: str, column: str) -> list[str]:
        seeds = of.get((attack, column))
        if not seeds:
            return [DASH] * 3
        cell = _cell(of, attack, column)
        return [f"{cell.mean:.3f} ({cell.worst:.3f})", *map(_points, cell.to_reference)]

    heads = ("{task}", *(f"to {name}" for name in REFERENCES))
    return _table(found, strategy, heads, cells, "accuracy of honest agents (the worst), points to silent and none")


def refusal_table(found: Iterable[Found], strategy: str) -> Table:
    """A row an attack; of each task the share of the hostile members' and of the honest ones' updates refused."""

    def cells(of: Cells, attack: str, column: str) -> list[str]:
        seeds = of.get((attack, column), ())
        return [_share(seeds, whose) for whose in ("hostile", "honest")]

    return _table(found, strategy, ("{task}: hostile", "honest"), cells, "updates that honest agents refused")


def _table(
    found: Iterable[Found],
    strategy: str,
    heads: Sequence[str],
    cells: Callable[[Cells, str, str], list[str]],
    what: str,
) -> Table:
    of = _gathered(found, strategy)
    columns = [name for name in COLUMNS if any(column == name for _, column in of)]
    head = [each.format(task=COLUMNS[column].told) for column in columns for each in heads]
    table = Table(f"{strategy}: {what}", ("attack", *head))
    for attack in ATTACKS:
        if any((attack, column) in of for column in columns):
            row = [cell for column in columns for cell in cells(of, attack, column)]
            table.rows.append([ATTACKS[attack].told, *row])
    return table


def _gathered(found: Iterable[Found], strategy: str) -> Cells:
    of: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for each in found:
        if each.asked.strategy == strategy:
            of[each.asked.attack, each.asked.column].append(each)
    return of


def _cell(of: Cells, attack: str, column: str) -> Cell:
    seeds = of[attack, column]
    return Cell(
        mean=float(np.mean([each.mean for each in seeds])),
        worst=min(each.worst for each in seeds),
        to_reference=tuple(
            float("nan") if attack == reference else points_between(seeds, of.get((reference, column), ()))
            for reference in REFERENCES
        ),
    )


def points_between(seeds: Iterable[Found], reference: Iterable[Found]) -> float:
    """Points of accuracy from a reference, the mean over the seeds that both have; nan where there are none."""
    means = {each.asked.seed: each.mean for each in reference}
    apart = [100 * (each.mean - means[each.asked.seed]) for each in seeds if each.asked.seed in means]
    return float(np.mean(apart)) if apart else float("nan")


def _points(points: float) -> str:
    return DASH if np.isnan(points) else f"{points:+.1f}".replace("-", "−")


def _share(seeds: Iterable[Found], whose: str) -> str:
    counts = [each.refused(whose) for each in seeds]
    refused, total = sum(number for number, _ in counts), sum(number for _, number in counts)
    return f"{100 * refused / total:.1f} %" if total else DASH
