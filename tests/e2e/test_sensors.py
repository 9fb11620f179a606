"""A device learns from its own sensors: they publish, it records, joins a task by itself, and trains."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

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


_PLAIN_SOURCES = """
[[data]]
name = "rooms"
kind = "climate-2"
source = "mqtt"
target = {{ topic = "{root}-plain/+/presence", map = {{ home = 1, not_home = 0 }} }}
every_s = 1
reload_s = 5
[data.columns]
temperature = {{ topic = "{root}-plain/+/temperature" }}
humidity = {{ topic = "{root}-plain/+/humidity", scale = 0.1 }}

[[data]]
name = "stove"
kind = "stoves"
source = "mqtt"
topic = "{root}-plain/kitchen/stove"
[data.columns]
heat = "$.heat"
battery = "$.battery"
"""


Messages: TypeAlias = Callable[[int], list[tuple[str, bytes]]]


@contextmanager
def publishing(url: str, messages: Messages) -> Iterator[mqtt.Client]:
    """A client that publishes `messages(k)` four times a second, k counting up from 0."""
    at = BrokerUrl.parse(url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sensors", protocol=mqtt.MQTTv311)
    client.connect(at.host, at.port)
    client.loop_start()
    stop = threading.Event()

    def publish() -> None:
        for k in itertools.count():
            for topic, payload in messages(k):
                client.publish(topic, payload)
            if stop.wait(0.25):
                return

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield client
    finally:
        stop.set()
        thread.join()
        client.disconnect()
        client.loop_stop()


@contextmanager
def sensors(url: str, topic: str) -> Iterator[None]:
    """Two sensors that publish four times a second, with rubbish among the readings, and an old retained one."""

    def messages(k: int) -> list[tuple[str, bytes]]:
        occupied = k // 8 % 2
        reading = {"temperature": 18 + 5 * occupied, "air": {"humidity": 40}, "occupied": occupied}
        readings = [(f"{topic}/{sensor}", json.dumps(reading).encode()) for sensor in ("kitchen", "attic")]
        return [*readings, (f"{topic}/broken", b"\xff" * 20)]

    with publishing(url, lambda _: []) as client:
        old = b'{"temperature": 99, "air": {"humidity": 99}, "occupied": 1}'
        client.publish(f"{topic}/kitchen", old, retain=True).wait_for_publish(5)
    try:
        with publishing(url, messages):
            yield
    finally:
        with publishing(url, lambda _: []) as client:
            client.publish(f"{topic}/kitchen", b"", retain=True).wait_for_publish(5)


def plain_messages(topic: str) -> Messages:
    """Two rooms with a topic for each quantity, and a stove that never says how full its battery is."""

    def messages(k: int) -> list[tuple[str, bytes]]:
        is_home = k // 8 % 2
        stove = (f"{topic}/kitchen/stove", b'{"heat": 3}')
        quantities = {
            "temperature": f"{18 + 5 * is_home}.0",
            "humidity": "400",
            "presence": "home" if is_home else "not_home",
        }
        rooms = ("kitchen", "attic")
        return [
            stove,
            *((f"{topic}/{room}/{key}", text.encode()) for room in rooms for key, text in quantities.items()),
        ]

    return messages


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


def test_a_topic_for_each_quantity_becomes_rows_and_what_records_nothing_says_why(
    broker: SharedBroker, tmp_path: Path
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        task = _publish(home)
        learner = home.add("learner", consent="auto")
        config = learner.config.read_text().replace("approvals = 2", "approvals = 0")
        learner.config.write_text(config + _PLAIN_SOURCES.format(root=broker.root))
        learner.start()
        silent = f"rooms records nothing: temperature: no message on {broker.root}-plain/+/temperature"
        wait_for(lambda: silent in learner.task(task).get("why", ""), within_s=120, why="the task says what it lacks")

        def recorded(name: str) -> dict[str, Any]:
            status = learner.status()
            assert status is not None
            return next(each for each in status["sensors"] if each["name"] == name)

        with publishing(broker.url, plain_messages(f"{broker.root}-plain")):
            wait_for(lambda: learner.task(task).get("joined"), within_s=120, why="it has samples, and joins")
            assert recorded("rooms")["rows"] >= NUM_NEEDED
            assert recorded("rooms")["why"] == []

            assert recorded("stove")["rows"] == 0
            (why,) = recorded("stove")["why"]
            assert why.startswith("battery: no reading in ")
            assert why.endswith(f" messages on {broker.root}-plain/kitchen/stove ($.battery is not in it)")
            assert "stove records nothing:" in learner.ask("status").stdout

            rooms, stove = json.loads(learner.ask("data", "check", "--json").stdout)
            assert set(rooms["classes"]) == {"0", "1"}
            assert {column["name"]: column["max"] for column in rooms["columns"]} == {
                "temperature": 23.0,
                "humidity": 40.0,
            }
            assert len(rooms["series"]) == 2
            assert stove["silent"][0].startswith("battery: no reading in ")
        assert learner.stop() == 0
