"""Two agents learn on Mosquitto while strangers do their worst for a minute."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest
from tests.e2e.conftest import _no_mosquitto
from tests.e2e.household import Household, Member, Village, household, village, wait_for
from tests.e2e.test_wire import plain_client

from grapevine_broker import RunningBroker, start_broker
from grapevine_proto.codec import open_envelope
from grapevine_proto.topics import PeerTopic

pytestmark = [pytest.mark.timeout(360), pytest.mark.mosquitto, _no_mosquitto]

FLOOD_S = 60.0
SETTLED_ROUNDS = 60
READINGS = 20
LIMITS = "memory_mb = 700"
BLOWN_UP = """shape = []

[[data.pipeline]]
name = "resize"
height = 2048
width = 2048

[[data.pipeline]]
name = "resize"
height = 8
width = 8
"""


@pytest.fixture
def mosquitto() -> Iterator[RunningBroker]:
    with start_broker("mosquitto") as running:
        yield running


def sessions_of(members: list[Member], url: str, root: str) -> dict[str, int]:
    """The session that each says it is in: requests must name it."""
    found: dict[str, int] = {}
    with plain_client(url) as client:

        def hear(_client: object, _userdata: object, message: object) -> None:
            peer = message.topic.split("/")[-2]  # type: ignore[attr-defined]
            opened = open_envelope(bytes(message.payload), PeerTopic(peer, "state"))  # type: ignore[attr-defined]
            found[peer] = opened.message.session

        client.on_message = hear
        for member in members:
            client.subscribe(f"{root}/peer/{member.peer}/state", qos=1)
        wait_for(lambda: len(found) == len(members), why="each says that it is online")
    return found


def accuracy(town: Village) -> float:
    """The learners' mean, over some seconds."""
    readings = []
    for _ in range(READINGS):
        readings += [learner.task(town.task)["metric"] for learner in town.learners]
        time.sleep(0.5)
    return fmean(readings)


def manifest_file(home: Household, town: Village) -> Path:
    path = home.folder / "manifest"
    path.write_bytes(bytes.fromhex(town.engineer.request("manifest", task=town.task)["manifest"]))
    return path


def test_a_minute_of_strangers_costs_two_learners_nothing(mosquitto: RunningBroker, tmp_path: Path) -> None:
    url, root = mosquitto.url, "grapevine/v1"
    with household(tmp_path, url, root) as home:
        town = village(home, extra=LIMITS)
        town.join()
        # Approved, and of gigabytes while its samples are prepared.
        large = home.publish(town.engineer, home.built_task("blown up", ("shape = []\n", BLOWN_UP)))
        home.approve(large, *town.reviewers)
        wait_for(lambda: all(each.task(town.task)["round"] > SETTLED_ROUNDS for each in town.learners), within_s=120)
        before = accuracy(town)
        merges = [each.task(town.task)["merges"] for each in town.learners]
        memory_mb = [(each.status() or {})["memory_mb"] for each in town.learners]
        victims = sessions_of(town.learners, url, root)
        arguments = [url, root, town.task, str(manifest_file(home, town)), str(FLOOD_S), json.dumps(victims)]
        slowest_s = 0.0
        with subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.strangers", *arguments],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        ) as strangers:
            try:
                while strangers.poll() is None:
                    for learner in town.learners:
                        asked_s = time.monotonic()
                        assert learner.status() is not None, learner.log()
                        slowest_s = max(slowest_s, time.monotonic() - asked_s)
                    time.sleep(0.3)
                assert strangers.stdout is not None
                sent = json.loads(strangers.stdout.read())
            finally:
                strangers.kill()
        after = accuracy(town)
        assert sent["crowd"] >= 10_000
        assert sent["heavy"] == 96
        assert slowest_s < 1.0
        assert after > before - 0.01
        for learner, held, was_mb in zip(town.learners, merges, memory_mb, strict=True):
            status = learner.status()
            assert status is not None
            assert learner.task(town.task)["merges"] > held + 0.5 * FLOOD_S, "they went on hearing each other"
            assert status["memory_mb"] < was_mb + 60
            refused = learner.task(large)
            assert not refused["joined"]
            assert "to prepare its samples, profile allows 700" in refused["why"]
        # Killed and started again beside all that is stored and retained, an agent is back soon.
        town.learners[0].kill()
        asked_s = time.monotonic()
        town.learners[0].start()
        assert time.monotonic() - asked_s < 10
        wait_for(lambda: town.learners[0].task(town.task).get("joined"), within_s=20, why="it learns again")
