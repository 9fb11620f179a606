"""The tables in Markdown, made of what is kept of the runs: medians over seeds, and ranges."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

from grapevine_lab.no_cliff.cases import ARRANGEMENTS, FOR_SPEED, TASKS
from grapevine_lab.no_cliff.falls import SHARE_OF_FINAL, Fall, Reached
from grapevine_lab.no_cliff.runs import Found
from grapevine_lab.papers.report import Table

MEAN_FALL, AGENT_FALL = 0.5, 2.0  # points, at most: the targets
COSTS = ("rounds", "seconds", "megabytes")

Runs = Mapping[tuple[str, str], Sequence[Found]]  # (task, arrangement) ▶ its seeds


def tables(found: Iterable[Found]) -> list[Table]:
    """All that there is to say of some runs; a table of which no row is there is left out."""
    runs = _gathered(found)
    return [table for table in (fall_table(runs), course_table(runs), speed_table(runs)) if table.rows]


def fall_table(runs: Runs) -> Table:
    """A row an event of a task: the fall of the mean, and of the agent that fell most."""
    head = (
        "task",
        "server",
        "around",
        "seeds",
        "fall of the mean (points)",
        "of one agent (points)",
        "within the targets",
    )
    table = Table("falls around loss and return", head)
    for (task, arrangement), seeds in runs.items():
        for falls in zip(*(each.falls() for each in seeds), strict=True):
            means, agents = [each.mean for each in falls], [each.agent for each in falls]
            met = sum(map(is_met, falls))
            told = [TASKS[task].told, ARRANGEMENTS[arrangement].told, falls[0].event, str(len(seeds))]
            table.rows.append([*told, _range(means), _range(agents), f"{met} of {len(seeds)}"])
    return table


def course_table(runs: Runs) -> Table:
    """A row an arrangement: the mean accuracy, with the worst agent's, at each sixth of the run."""
    parts = 6
    head = ("task", "arrangement", *(f"{k}/{parts}" for k in range(1, parts + 1)))
    table = Table("mean accuracy of the released models on the way, with the least of any agent and seed", head)
    for (task, arrangement), seeds in runs.items():
        cells = []
        for k in range(1, parts + 1):
            columns = [[agent[k * len(agent) // parts - 1] for agent in each.metric] for each in seeds]
            mean = sum(sum(column) / len(column) for column in columns) / len(columns)
            cells.append(f"{mean:.3f} ({min(min(column) for column in columns):.2f})")
        table.rows.append([TASKS[task].told, ARRANGEMENTS[arrangement].told, *cells])
    return table


def speed_table(runs: Runs) -> Table:
    """A row an arrangement: what it took to 95 % of the best final accuracy, each seed by its own."""
    head = (
        "task",
        "arrangement",
        "seeds",
        "final accuracy",
        "rounds",
        "virtual seconds",
        "MB of all agents",
        "between agents",
    )
    table = Table(f"to {100 * SHARE_OF_FINAL:.0f} % of the best final accuracy", head)
    for task in TASKS:
        for arrangement, costs in costs_of(runs, task).items():
            seeds = runs[task, arrangement]
            finals = [each.final for each in seeds]
            between = median_low(each.megabytes_between_members for each in seeds)
            cells = [_range([getattr(each, name) for each in costs], 1) for name in COSTS]
            told = [TASKS[task].told, ARRANGEMENTS[arrangement].told, str(len(seeds)), _range(finals, 3)]
            table.rows.append([*told, *cells, f"{between:.1f}"])
    return table


def costs_of(runs: Runs, task: str) -> dict[str, list[Reached]]:
    """What it took, by arrangement, in the seeds for which there is more than one of `FOR_SPEED` to compare."""
    by_seed: dict[int, dict[str, Found]] = defaultdict(dict)
    for arrangement in FOR_SPEED:
        for each in runs.get((task, arrangement), ()):
            by_seed[each.asked.seed][arrangement] = each
    costs: dict[str, list[Reached]] = defaultdict(list)
    for _, ways in sorted(by_seed.items()):
        if len(ways) > 1:
            target = SHARE_OF_FINAL * max(each.final for each in ways.values())
            for arrangement, each in ways.items():
                costs[arrangement].append(each.reached(target))
    return dict(costs)


def is_met(fall: Fall) -> bool:
    """Whether a fall is within the targets."""
    return fall.mean <= MEAN_FALL and fall.agent <= AGENT_FALL


def _gathered(found: Iterable[Found]) -> Runs:
    runs: dict[tuple[str, str], list[Found]] = {(task, each): [] for task in TASKS for each in ARRANGEMENTS}
    for each in found:
        runs[each.asked.task, each.asked.arrangement].append(each)
    return {key: sorted(seeds, key=lambda each: each.asked.seed) for key, seeds in runs.items() if seeds}


def _range(values: Sequence[float], places: int = 2) -> str:
    """The median, and the least and the greatest in brackets."""
    low, middle, high = (_number(each, places) for each in (min(values), median_low(values), max(values)))
    return f"{middle} ({low} to {high})"


def _number(value: float, places: int) -> str:
    return f"{value:.{places}f}" if math.isfinite(value) else "never"
