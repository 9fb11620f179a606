"""A newcomer on a broker that retains more than its queues hold: Mosquitto with the limits that it comes with."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.e2e.conftest import _no_mosquitto
from tests.e2e.household import household, wait_for
from tests.ports import free_port
from tests.swarm.digits import digits_manifest

from grapevine_broker.mosquitto import find_mosquitto
from grapevine_broker.probe import answers_mqtt
from grapevine_proto import topics
from grapevine_proto.codec import seal
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.messages import Body, Message, PeerAnnouncement, PeerState, TaskPublication
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import PeerTopic, TaskTopic, Topic

PEERS = 1_500  # an announcement and a state each: 3,000 records

pytestmark = [pytest.mark.mosquitto, _no_mosquitto, pytest.mark.timeout(240)]


@contextmanager
def mosquitto_as_it_comes(folder: Path) -> Iterator[int]:
    """The port of a Mosquitto with its own limits: 20 in flight to a client, and 1,000 that wait."""
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {'root' if os.geteuid() == 0 else ''}\n")
    process = subprocess.Popen([find_mosquitto(), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers_mqtt("127.0.0.1", port), why="Mosquitto answers")
        yield port
    finally:
        process.terminate()
        process.wait()


def retain_records(port: int, root: str) -> str:
    """Have the broker retain the presence of many peers, and then a task; its id."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    now_ms = time.time_ns() // 1_000_000

    def publish(key: SigningKey, topic: Topic, body: Body) -> mqtt.MQTTMessageInfo:
        message = Message(sender=key.peer_id, session=now_ms, sequence=now_ms, body=body, created_at_ms=now_ms)
        return client.publish(topics.build(root, topic), seal(message, topic, key), qos=1, retain=True)

    for _ in range(PEERS):
        key = SigningKey(secrets.token_bytes(32))
        publish(key, PeerTopic(key.peer_id, "announcement"), PeerAnnouncement(name="somebody"))
        publish(key, PeerTopic(key.peer_id, "state"), PeerState(online=True))
    engineer = SigningKey(secrets.token_bytes(32))
    manifest = encode_manifest(replace(digits_manifest(engineer.peer_id, created_at_ms=now_ms), name="The last one"))
    publication = TaskPublication(manifest=manifest)
    task = hashlib.sha256(manifest).hexdigest()
    publish(engineer, TaskTopic(engineer.peer_id, task, "manifest"), publication).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    return task


def test_a_newcomer_learns_of_the_task_and_of_all_peers(tmp_path: Path) -> None:
    root = f"test/{secrets.token_hex(4)}"
    with mosquitto_as_it_comes(tmp_path) as port:
        task = retain_records(port, root)
        with household(tmp_path, f"mqtt://127.0.0.1:{port}", root) as home:
            newcomer = home.add("newcomer")
            newcomer.start()
            began_s = time.monotonic()
            wait_for(lambda: newcomer.task(task), why="it hears of the task")
            heard_s = time.monotonic() - began_s
            wait_for(
                lambda: (newcomer.status() or {})["peers"]["known"] >= PEERS, why=f"all peers: {newcomer.status()}"
            )
            gives = wait_for(lambda: (newcomer.status() or {}).get("broker_gives"))
            assert gives is not None
            assert gives["wildcard"]
            assert gives["may_lack"]  # nobody knows that this one gives all at QoS 0
            assert heard_s < 10
