"""Small scenarios for tests: TOML in, an outcome out."""

from __future__ import annotations

from pathlib import Path

from grapevine_lab.simulator.experiment import Prepared, prepare
from grapevine_lab.simulator.run import Outcome, run_seed
from grapevine_lab.simulator.scenario import Scenario, read_scenario

LEARNING = """
[scenario]
rounds = 12

[task]
name = "digits"

[task.training]
round_interval_s = 0.25
optimiser = { name = "sgd", learning_rate = 0.5 }

[data]
name = "digits"

[partition]
kind = "classes"
classes_per_node = 4

[nodes]
num = 5
workers = 1

[quick]
"nodes.num" = 3
"scenario.rounds" = 4
"""

PROTOCOL = """
[scenario]
rounds = 12

[task]
name = "digits"

[data]
name = "digits"

[nodes]
num = 8
trainer = "none"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


def scenario_of(folder: Path, text: str, *changes: str) -> Scenario:
    return read_scenario(written(folder, text), changes=changes)


def prepared_of(folder: Path, text: str, *changes: str) -> Prepared:
    return prepare(scenario_of(folder, text, *changes))


def outcome_of(folder: Path, text: str, *changes: str, seed: int = 0) -> Outcome:
    return run_seed(prepared_of(folder, text, *changes), seed)
