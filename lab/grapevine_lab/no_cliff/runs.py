"""One run: the course of the agents' released models and of their traffic, kept as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grapevine_lab.kept_tables import keep, kept
from grapevine_lab.no_cliff.cases import ARRANGEMENTS, SCENARIO, changes_of
from grapevine_lab.no_cliff.falls import Array, Fall, Reached, fall_at, reached
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.simulator.scenario import read_scenario


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One run that is wanted."""

    task: str
    arrangement: str
    seed: int
    rounds: int

    def path(self, folder: Path) -> Path:
        """Where its result is kept."""
        return folder / self.task / f"{self.arrangement}-{self.seed}.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of it: by agent and round, the released model's accuracy, virtual time, and bytes sent and received."""

    asked: Asked
    metric: list[list[float]]
    time_s: list[list[float]]
    traffic: list[list[float]]
    megabytes_between_members: float  # that went from member to member
    wall_s: float

    def falls(self) -> list[Fall]:
        """Around each event of the arrangement."""
        arrangement, metric = ARRANGEMENTS[self.asked.arrangement], np.array(self.metric)
        third = self.asked.rounds // 3
        rounds = [round(when * third) for when, _ in arrangement.events]
        return [
            fall_at(metric, event, at, rounds[k + 1] if arrangement.flaps and k + 1 < len(rounds) else 0)
            for k, ((_, event), at) in enumerate(zip(arrangement.events, rounds, strict=True))
        ]

    @property
    def final(self) -> float:
        """The agents' mean accuracy over the last five rounds."""
        return float(np.array(self.metric)[:, -5:].mean())

    def reached(self, target: float) -> Reached:
        """What it took to get to an accuracy."""
        return reached(np.array(self.metric), np.array(self.time_s), np.array(self.traffic), target)


def run_all(wanted: Iterable[Asked], folder: Path) -> Iterator[Found]:
    """Run what is not kept in the folder yet, and keep it. Raises ConfigError or TaskError for what cannot be run."""
    folder.mkdir(parents=True, exist_ok=True)
    for asked in wanted:
        found = read(asked, folder)
        if found is None:
            found = run_one(asked)
            keep(asked.path(folder), found)
        yield found


def run_one(asked: Asked) -> Found:
    """One run, from its start to its end."""
    began_s = time.monotonic()
    changes = changes_of(asked.task, asked.arrangement, asked.rounds)
    outcome = run_seed(prepare(read_scenario(SCENARIO, changes=changes)), asked.seed)
    readings, samples = outcome.measurements.readings, outcome.measurements.samples
    metric = by_agent(readings.column("node"), readings.column("round"), readings.column("metric"))
    nodes, rounds = samples.column("node"), samples.column("round")
    traffic = by_agent(nodes, rounds, samples.column("bytes_sent") + samples.column("bytes_received"))
    num_rounds = metric.shape[1]
    return Found(
        asked=asked,
        metric=metric.round(5).tolist(),
        time_s=by_agent(nodes, rounds, samples.column("time_s"))[:, :num_rounds].round(3).tolist(),
        traffic=traffic[:, :num_rounds].tolist(),
        megabytes_between_members=outcome.bytes_between_members / 1e6,
        wall_s=time.monotonic() - began_s,
    )


def by_agent(nodes: Array, rounds: Array, values: Array) -> Array:
    """Values as [agents, rounds], as far as every agent got."""
    num_rounds = min(int(rounds[nodes == node].max()) for node in np.unique(nodes)) + 1
    table = np.full((int(nodes.max()) + 1, num_rounds), np.nan)
    inside = rounds < num_rounds
    table[nodes[inside], rounds[inside]] = values[inside]
    return table


def read(asked: Asked, folder: Path) -> Found | None:
    """What is kept of a run; None where nothing is, or it was asked for otherwise. Raises ConfigError if damaged."""
    found = kept(asked.path(folder), lambda told: Found(**{**told, "asked": Asked(**told["asked"])}))
    return found if found is not None and found.asked == asked else None
