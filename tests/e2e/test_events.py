"""What a real agent tells of itself, with the real command, on a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Member, household, village, wait_for

from grapevine_agent.cli import EXIT_NO_SERVICE
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, build

pytestmark = pytest.mark.timeout(240)


@contextmanager
def listening(member: Member, *options: str) -> Iterator[tuple[list[dict[str, Any]], subprocess.Popen[str]]]:
    """`grapevine events --json`, in a process of its own, and what it has printed so far."""
    heard: list[dict[str, Any]] = []
    command = [sys.executable, "-m", "grapevine_agent", "events", "--json", "--config", str(member.config), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        reading = threading.Thread(target=lambda: heard.extend(map(json.loads, lines)))
        reading.start()
        try:
            yield heard, process
        finally:
            process.kill()
            reading.join()


def publish_rubbish(url: str, topic: str) -> None:
    parts = urlsplit(url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(parts.hostname or "", parts.port or 1883)
    client.loop_start()
    client.publish(topic, b"this is no envelope", qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_whoever_listens_to_an_agent_hears_the_story_of_a_task(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        town = village(home)
        learner, other = town.learners
        with listening(learner, "--after", "0") as (heard, listener):

            def kinds() -> list[str]:
                return [each["event"] for each in list(heard)]

            def of(kind: str) -> list[dict[str, Any]]:
                return [each for each in list(heard) if each["event"] == kind]

            town.join()
            wanted = {"trained", "merged", "sent", "received", "measured"}
            wait_for(lambda: wanted <= set(kinds()), why="it learns with the other one")
            order = [kinds().index(kind) for kind in ("broker-changed", "joining", "joined", "trained", "measured")]
            assert order == sorted(order)
            assert kinds().index("reviewed") < kinds().index("joining")
            assert {each["peer"] for each in list(heard)} == {learner.peer}
            numbers = [each["number"] for each in list(heard)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert [each["standing"] for each in of("judged")][-1] == "approved"
            assert {each["reviewer"] for each in of("reviewed")} == {each.peer for each in town.reviewers}
            assert of("joined")[0]["role"] == "member"
            updates = [each for each in [*of("sent"), *of("received")] if each["what"] == "update"]
            assert {each.get("receiver", each.get("sender")) for each in updates} == {other.peer}
            assert of("merged")[0]["shares"][other.peer] > 0
            assert {each["task"] for each in list(heard) if each.get("task")} == {town.task}
            log = learner.log()
            assert all(each["text"] in log for each in [*of("joining"), *of("joined"), *of("broker-changed")])

            stranger = SigningKey.generate().peer_id
            publish_rubbish(broker.url, build(broker.root, InboxTopic(learner.peer, stranger)))
            wait_for(lambda: any(each["sender"] == stranger for each in of("rejected")), why="it is rejected")
            reason = next(each["reason"] for each in of("rejected") if each["sender"] == stranger)
            status = learner.status()
            assert status is not None
            assert status["rejected"][reason] >= 1
            assert status["events"]["counts"]["merged"] >= len(of("merged")) > 0

            lines = learner.ask("events", "--kind", "merged", "--task", "digits", "--after", "0", "--for", "1").stdout
            assert lines
            assert all(" merged " in line and "digits" in line for line in lines.splitlines())
            wrong = learner.ask("events", "--kind", "megred", check=False)
            assert (wrong.returncode, "did you mean 'merged'?" in wrong.stderr) == (2, True)

            other.kill()
            wait_for(lambda: [e for e in of("peer-changed") if e["other"] == other.peer and e["state"] != "alive"])
            assert learner.stop() == 0
            assert listener.wait(20) == EXIT_NO_SERVICE
            assert listener.stderr is not None
            assert "the agent has ended" in listener.stderr.read()
