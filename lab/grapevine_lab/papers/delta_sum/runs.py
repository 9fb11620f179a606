"""Runs settings, one after the other, each in a folder of its own, and reads what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grapevine_lab.papers.delta_sum.plan import Setting
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.measurements import MODELS, Measurements
from grapevine_lab.simulator.progress import Progress
from grapevine_lab.simulator.results import run_all
from grapevine_lab.simulator.scenario import read_scenario


@dataclass(frozen=True, kw_only=True)
class Found:
    """One run, over."""

    setting: Setting
    measurements: Measurements

    def final(self, model: str = "merged") -> tuple[float, float, float]:
        """Accuracy in the last measured round: the median over nodes, the least and the greatest."""
        values = self.at(self.last_round, model)
        return float(np.median(values)), float(values.min()), float(values.max())

    def at(self, round_: int, model: str) -> np.ndarray:
        """The nodes' accuracies [n] in a round."""
        readings = self.measurements.readings
        chosen = (readings.column("round") == round_) & (readings.column("model") == MODELS.index(model))
        values: np.ndarray = readings.column("metric")[chosen]
        return values

    @property
    def last_round(self) -> int:
        """The last round that every node was measured in."""
        return self.setting.size.rounds + self.setting.size.merging_rounds


def run(setting: Setting, out: Path, *, stopping: Callable[[], bool] = lambda: False) -> Found:
    """Run a setting, or go on with it, or read what it left when it was over."""
    scenario = read_scenario(find_scenario("delta-sum"), changes=setting.changes())
    folder = out / setting.name
    with Progress(setting.name) as progress:
        run_all(prepare(scenario), 1, folder, progress, resume=True, stopping=stopping)
    from grapevine_lab.simulator.tables import read_tables  # noqa: PLC0415 - pyarrow is slow to import

    return Found(setting=setting, measurements=read_tables(folder))
