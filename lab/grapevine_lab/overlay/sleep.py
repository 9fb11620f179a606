"""What it is worth that devices say when they sleep: accuracy, and messages to peers that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.availability import is_sleeper
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.run import Outcome, run_seed
from grapevine_lab.simulator.scenario import Scenario, read_scenario

SCENARIO: Final = "sleepers"
LAST: Final = 0.2  # of the time: accuracies are means over it
AVAILABILITY: Final[Mapping[str, Sequence[str]]] = {
    "nobody sleeps": ("availability.kind='always'",),
    "half of them sleep, and say so": (),
    "half of them lose their connection at the same times": ("availability.announced=false",),
}


@dataclass(frozen=True, kw_only=True)
class Asleep:
    """Means over all runs: accuracy of released models, and messages of one device to another one in an hour."""

    of_sleepers: float
    of_others: float
    sends: float
    in_vain: float


def measure_sleep(changes: Sequence[str], *, seeds: Iterable[int], quick: bool = False) -> Asleep:
    """Run the scenario with changes. Where nobody sleeps, the sleepers are those that would."""
    path = find_scenario(SCENARIO)
    who = read_scenario(path, quick=quick)
    scenario = read_scenario(path, quick=quick, changes=changes)
    prepared = prepare(scenario)
    found = [_look(run_seed(prepared, seed), who) for seed in seeds]
    of_sleepers, of_others, sends, in_vain = np.mean(found, axis=0)
    return Asleep(of_sleepers=of_sleepers, of_others=of_others, sends=sends, in_vain=in_vain)


def _look(outcome: Outcome, who: Scenario) -> tuple[float, float, float, float]:
    readings = outcome.measurements.readings
    late = readings.column("time_s") >= (1 - LAST) * outcome.virtual_s
    metric = readings.column("metric")
    sleeps = np.array([is_sleeper(who.availability, int(node)) for node in readings.column("node")])
    hours = outcome.virtual_s / 3600 * who.nodes.num
    return (
        float(metric[late & sleeps].mean()),
        float(metric[late & ~sleeps].mean()),
        outcome.num_to_one / hours,
        outcome.num_in_vain / hours,
    )
