"""One run: a swarm with hostile members, what the honest ones come to, and what they refused; kept as JSON."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from grapevine_lab.kept_tables import keep, kept
from grapevine_lab.robust.attacks import ATTACKS
from grapevine_lab.robust.columns import COLUMNS, SCENARIO, changes_of
from grapevine_lab.simulator.experiment import Prepared, prepare
from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_proto.errors import ConfigError, GrapevineError

LAST_READINGS: Final = 5  # of each agent, of which the mean counts


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One run that is wanted."""

    column: str
    strategy: str
    attack: str
    seed: int
    rounds: int
    defences: bool = True  # whether updates are held against the crowd's before they are merged

    def path(self, folder: Path) -> Path:
        """Where its result is kept."""
        folder = folder if self.defences else folder / "without-defences"
        return folder / self.strategy / self.column / f"{self.attack}-{self.seed}.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of it. Accuracies are of the honest agents' released models, each the mean of its last readings."""

    asked: Asked
    mean: float
    worst: float
    updates: Mapping[str, Mapping[str, int]]  # that honest agents got: of whom ▶ "taken" or why refused ▶ how many
    wall_s: float

    def refused(self, whose: str) -> tuple[int, int]:
        """How many updates of the "hostile" or the "honest" were refused, and how many there were."""
        counts = self.updates.get(whose, {})
        total = sum(counts.values())
        return total - counts.get("taken", 0), total


def run_all(wanted: Iterable[Asked], folder: Path, *, processes: int = 1) -> Iterator[Found]:
    """Run what is not kept in the folder yet, and keep it; results come as they are there.

    Raises ConfigError for what cannot be run, with the reason.
    """
    missing = []
    folder.mkdir(parents=True, exist_ok=True)
    for asked in wanted:
        kept = read(asked, folder)
        if kept is not None:
            yield kept
        else:
            missing.append(asked)
    if processes == 1:
        results: Iterator[Found | str] = map(_run_or_say, missing)
        yield from (_kept(result, folder) for result in results)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for result in pool.imap_unordered(_run_or_say, missing):
            yield _kept(result, folder)


def run_one(asked: Asked) -> Found:
    """One run, from its start to its end. Raises ConfigError or TaskError."""
    began_s = time.monotonic()
    column, attack = COLUMNS[asked.column], ATTACKS[asked.attack]
    scenario = read_scenario(SCENARIO, changes=changes_of(column, asked.strategy, attack, asked.rounds))
    scenario = replace(scenario, nodes=replace(scenario.nodes, judge_updates=asked.defences))
    prepared = replace(_prepared(asked.column, asked.strategy, asked.rounds), scenario=scenario)
    outcome = run_seed(prepared, asked.seed)
    accuracies = last_accuracies(outcome.measurements)
    return Found(
        asked=asked,
        mean=float(np.mean(accuracies)),
        worst=float(np.min(accuracies)),
        updates=outcome.updates,
        wall_s=time.monotonic() - began_s,
    )


@lru_cache(maxsize=2)
def _prepared(column: str, strategy: str, rounds: int) -> Prepared:
    """Task and data set, which hang on no attack; some seconds of work."""
    changes = changes_of(COLUMNS[column], strategy, ATTACKS["none"], rounds)
    return prepare(read_scenario(SCENARIO, changes=changes))


def last_accuracies(measurements: Measurements) -> list[float]:
    """Each measured agent's mean over its last readings, by its number."""
    rows = measurements.readings
    nodes, metrics, rounds = rows.column("node"), rows.column("metric"), rows.column("round")
    found = []
    for node in np.unique(nodes):
        own = nodes == node
        order = np.argsort(rounds[own], kind="stable")
        found.append(float(metrics[own][order][-LAST_READINGS:].mean()))
    return found


def _run_or_say(asked: Asked) -> Found | str:
    """The result, or why there is none: not every error of ours passes between processes."""
    try:
        return run_one(asked)
    except GrapevineError as error:
        return f"{asked.column}, {asked.strategy}, {asked.attack}: {error}"


def _kept(result: Found | str, folder: Path) -> Found:
    if isinstance(result, str):
        raise ConfigError(result)
    keep(result.asked.path(folder), result)
    return result


def read(asked: Asked, folder: Path) -> Found | None:
    """What is kept of a run; None where nothing is, or it was asked for otherwise. Raises ConfigError if damaged."""
    found = kept(asked.path(folder), _found)
    return found if found is not None and found.asked == asked else None


def _found(told: dict[str, Any]) -> Found:
    found = Found(**{**told, "asked": Asked(**told["asked"])})
    found.refused("hostile")  # it has what is asked of it
    return found
