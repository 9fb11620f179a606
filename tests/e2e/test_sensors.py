"""A device learns from its own sensors: they publish, it records, joins a task by itself, and trains."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Household, household, wait_for

from grapevine_agent.net.urls import BrokerUrl

pytestmark = pytest.mark.timeout(240)

NUM_NEEDED = 20

_TASK = f"""\
[task]
name = "occupancy"
description = "Is somebody in the room?"

[data]
kind = "climate-2"
num_classes = 2
minimum_samples = {NUM_NEEDED}
scale = 0.1
offset = 20.0

[data.features]
name = "climate"
dtype = "float32"
shape = [2]

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

_SOURCE = """
[[data]]
kind = "climate-2"
source = "mqtt"
topic = "{root}-sensors/+"
target = "$.occupied"
every_s = 1
reload_s = 5
[data.columns]
temperature = "$.temperature"
humidity = "$.air.humidity"
"""


@contextmanager
def sensors(url: str, topic: str) -> Iterator[None]:
    """Two sensors that publish four times a second, with rubbish among the readings."""
    at = BrokerUrl.parse(url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sensors", protocol=mqtt.MQTTv311)
    client.connect(at.host, at.port)
    client.loop_start()
    client.publish(f"{topic}/kitchen", b'{"temperature": 99, "air": {"humidity": 99}, "occupied": 1}', retain=True)
    stop = threading.Event()

    def publish() -> None:
        for k in itertools.count():
            for sensor in ("kitchen", "attic"):
                occupied = k // 8 % 2
                reading = {"temperature": 18 + 5 * occupied, "air": {"humidity": 40}, "occupied": occupied}
                client.publish(f"{topic}/{sensor}", json.dumps(reading))
            client.publish(f"{topic}/broken", b"\xff" * 20)
            if stop.wait(0.25):
                return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        client.publish(f"{topic}/kitchen", b"", retain=True).wait_for_publish(5)
        client.disconnect()
        client.loop_stop()


def _publish(home: Household) -> str:
    from grapevine_agent.merge.plan import check_merge_plan
    from grapevine_tasks.authoring.build import build_task

    folder = home.folder / "occupancy"
    folder.mkdir()
    (folder / "task.toml").write_text(_TASK)
    (folder / "model.py").write_text(_MODEL)
    build_task(folder, check_merging=check_merge_plan)
    engineer = home.add("engineer")
    engineer.start()
    return home.publish(engineer, folder)


def test_a_device_records_its_sensors_joins_by_itself_and_trains(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        task = _publish(home)
        learner = home.add("learner", consent="auto")
        config = learner.config.read_text().replace("approvals = 2", "approvals = 0")
        learner.config.write_text(config + _SOURCE.format(root=broker.root))
        learner.start()
        wait_for(lambda: "samples, the task needs" in learner.task(task).get("why", ""), why="it lacks samples")

        with sensors(broker.url, f"{broker.root}-sensors"):
            wait_for(lambda: learner.task(task).get("age", 0) > 0, within_s=120, why="it trains")
            wait_for(lambda: "the trainer starts anew" in learner.log(), why="what is new is loaded")
            wait_for(lambda: (learner.task(task).get("metric") or 0.0) > 0.8, within_s=60, why="it learns")
            status = learner.status()
            assert status is not None
            recorded = status["recorded"]
            assert recorded["recorded"] > NUM_NEEDED
            assert recorded["no JSON"] > 0

            learner.kill()  # without a goodbye
            time.sleep(0.5)
            (result,) = json.loads(learner.ask("data", "check", "--json").stdout)
            assert result["samples"] >= NUM_NEEDED
            assert set(result["classes"]) == {"0", "1"}
            assert all(column["max"] < 99 for column in result["columns"]), "the retained message was recorded"

            learner.start()
            age = wait_for(lambda: learner.task(task).get("age", 0), why="it goes on")
            wait_for(lambda: learner.task(task).get("age", 0) > age, why="it trains on")
        assert learner.stop() == 0
