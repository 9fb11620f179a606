"""`python -m grapevine_lab.bench_simulator.our_run SCENARIO FOLDER`: `grapevine simulate` that tells of rounds.

It does all that the command does, from reading the scenario to tables and plots.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from grapevine_lab.bench_simulator.peer_code.learner import Harness
from grapevine_lab.simulator import run
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.progress import Progress
from grapevine_lab.simulator.results import run_all
from grapevine_lab.simulator.scenario import read_scenario


class RoundReporter(Progress):
    """Tells the harness when the slowest node has finished a round."""

    def __init__(self, scenario: str, harness: Harness) -> None:
        super().__init__(scenario)
        self._harness = harness
        self._num_told = 0

    def start(self, total_rounds: int, seeds: int, *, duration_s: float | None = None) -> None:
        """Begin."""
        super().start(total_rounds, seeds, duration_s=duration_s)
        self._harness.ready()

    def update(
        self,
        seed_index: int,
        round: int,  # noqa: A002 - as in a reading
        time_s: float,
        note: str = "",
        *,
        num_messages: int | None = None,
    ) -> None:
        """Tell how far it is."""
        super().update(seed_index, round, time_s, note, num_messages=num_messages)
        while self._num_told < round:
            self._num_told += 1
            self._harness.round_ended(self._num_told)


def main(scenario: Path, folder: Path) -> None:
    """Simulate the scenario, and leave its results in `folder`."""
    harness = Harness()
    run.LOOK_EVERY_S = 0.0  # a round's end is to be told when it comes
    plan = read_scenario(scenario)
    with RoundReporter(plan.name, harness) as progress:
        summary, _, _ = run_all(prepare(plan), 1, folder, progress, resume=False, stopping=lambda: False)
    for model in summary.models:
        if model.model == "working" and math.isfinite(model.metric.median):
            harness.learned(model.metric.median)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
