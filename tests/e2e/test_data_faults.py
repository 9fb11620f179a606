"""Whatever an owner's files hold, an agent goes on: it trains what it can, and says why it does not train the rest."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Household, Member, household
from tests.e2e.household import wait_for as wait_for_s

pytestmark = pytest.mark.timeout(600)

LINES = [
    "temperature,humidity,occupied,été",
    *(f"{20 + k % 5},{40 + k % 7},{'yes' if k % 2 else 'no'},é" for k in range(40)),
]
WITHIN_S = 150.0  # a look is followed by a pause

_TASK = """\
[task]
name = "occupancy"
description = "Is somebody in the room?"

[data]
kind = "climate-2"
num_classes = 2
classes = ["no", "yes"]
minimum_samples = 20
scale = 0.1
offset = 20.0

[data.features]
name = "climate"
dtype = "float32"
shape = [2]
columns = ["temperature", "humidity"]

[data.target]
name = "occupied"
dtype = "int64"
shape = []

[training]
batch_size = 8
round_interval_s = 0.5
"""

_MODEL = """\
\"\"\"Two numbers, two classes.\"\"\"

from torch import nn


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2))
"""

_CLIMATE = """
[[data]]
kind = "climate-2"
path = "climate.csv"
"""


wait_for = partial(wait_for_s, within_s=WITHIN_S)


@pytest.fixture
def climate_task(tmp_path: Path) -> Path:
    from grapevine_agent.merge.plan import check_merge_plan
    from grapevine_tasks.authoring.build import build_task

    folder = tmp_path / "occupancy"
    folder.mkdir()
    (folder / "task.toml").write_text(_TASK)
    (folder / "model.py").write_text(_MODEL)
    build_task(folder, check_merging=check_merge_plan)
    return folder


def _learner(home: Household) -> Member:
    """One with good digits, and with a file of climate that is to be written, or not."""
    learner = home.add("learner", digits=0, consent="auto")
    text = learner.config.read_text().replace("approvals = 2", "approvals = 0")
    learner.config.write_text(text + _CLIMATE)
    return learner


def _why(learner: Member, task: str) -> str:
    return str(learner.task(task).get("why", ""))


def test_a_broken_file_keeps_its_task_waiting_and_no_other_and_once_mended_it_joins(
    broker: SharedBroker, climate_task: Path, tmp_path: Path
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        engineer = home.add("engineer")
        engineer.start()
        digits, climate = home.publish(engineer, home.built_task("digits")), home.publish(engineer, climate_task)
        learner = _learner(home)
        file = learner.folder / "climate.csv"
        learner.start()  # the file is not there yet
        wait_for(lambda: "climate.csv" in _why(learner, climate), why="the file is missed")
        file.write_bytes("\n".join(LINES).encode("latin-1"))
        told = wait_for(lambda: 'write encoding = "latin-1"' in _why(learner, climate) and _why(learner, climate))
        assert "it is not UTF-8" in str(told)
        wait_for(lambda: learner.task(digits).get("age", 0) > 0, why="the good task is trained")

        file.write_text("\n".join([*LINES, "21,unavailable,no,é"]))
        wait_for(lambda: "row 41, column 'humidity': 'unavailable' is no number" in _why(learner, climate))
        checked = learner.ask("data", "check", "climate", "--task", str(climate_task), "--json", check=False)
        assert (checked.returncode, json.loads(checked.stdout)[0]["why"]) == (1, _why(learner, climate))

        file.write_text("\n".join(LINES))
        wait_for(lambda: learner.task(climate).get("age", 0) > 0, why="what was mended is trained")
        assert learner.process is not None
        service = psutil.Process(learner.process.pid)
        libraries = {Path(each.path).name for each in service.memory_maps()}
        assert not any("arrow" in name for name in libraries), "the service itself has loaded Arrow"
        failures = [line for line in learner.log().splitlines() if "Traceback" in line]
        assert not failures
        assert learner.stop() == 0
