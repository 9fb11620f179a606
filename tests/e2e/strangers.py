"""A crowd of strangers that floods a broker, as a process of its own: everything signed, nothing trusted.

    python -m tests.e2e.strangers URL ROOT TASK MANIFEST SECONDS

MANIFEST is a file with an honest manifest, whose program the strangers borrow; TASK the id of the task that is
learned meanwhile. Everything is made and signed before the first message goes, then sent evenly over the time:

- *chains*: four strangers, 96 manifests each, every one naming the one before it as its parent;
- *runs out*: one author whose manifests live for two seconds, one after another;
- *heavy*: 96 manifests of over 200 kB of one stranger;
- *crowd*: thousands of invented peers that announce themselves as members of the task and say that they are online;
- *beggars*: requests for the task's initial weights, from invented peers, again and again.

It prints one line of JSON: how many messages of each kind it sent, and how many bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from grapevine_proto import messages as m
from grapevine_proto.codec import seal
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest, encode_manifest, task_id
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic

NUM_CHAINS, CHAIN_LENGTH = 4, 96
NUM_HEAVY, HEAVY_BYTES = 96, 200_000
NUM_BRIEF, BRIEF_MS = 480, 2_000
NUM_INVENTED = 7_000
NUM_BEGGARS, REQUESTS_EACH = 10, 60
DAY_MS = 24 * 3600 * 1000

Sent = tuple[str, str, bytes, bool]  # kind, topic below the root, payload, retained


def sealed(kind: str, key: SigningKey, topic: Topic, body: m.Body, sequence: int, **head: int) -> Sent:
    message = m.Message(sender=key.peer_id, session=1, sequence=sequence, body=body, **head)
    return kind, topic.below_root(), seal(message, topic, key), isinstance(body, m.RECORDS)


def published(
    kind: str, key: SigningKey, manifest: TaskManifest, sequence: int, expires_at_ms: int
) -> tuple[str, Sent]:
    content = encode_manifest(manifest)
    task = task_id(content)
    body = m.TaskPublication(manifest=content)
    sent = sealed(kind, key, TaskTopic(key.peer_id, task, "manifest"), body, sequence, expires_at_ms=expires_at_ms)
    return task, sent


def chains(manifest: TaskManifest, now_ms: int) -> Iterator[Sent]:
    keys = [SigningKey.generate() for _ in range(NUM_CHAINS)]
    parents = [""] * NUM_CHAINS
    for version in range(1, CHAIN_LENGTH + 1):
        for index, key in enumerate(keys):
            link = replace(
                manifest, publisher=key.peer_id, version=version, parent=parents[index], name=f"chain {index}"
            )
            parents[index], sent = published("chains", key, link, now_ms + version, now_ms + DAY_MS)
            yield sent


def brief(manifest: TaskManifest, now_ms: int, seconds: float) -> Iterator[Sent]:
    key = SigningKey.generate()
    for number in range(NUM_BRIEF):
        until_ms = now_ms + int(1000 * seconds * number / NUM_BRIEF) + BRIEF_MS
        short = replace(manifest, publisher=key.peer_id, name=f"brief {number}")
        yield published("runs out", key, short, now_ms + number, until_ms)[1]


def heavy(manifest: TaskManifest, now_ms: int) -> Iterator[Sent]:
    key = SigningKey.generate()
    graph = manifest.program.train
    size = len(encode_manifest(manifest))
    nodes = graph.nodes * (1 + HEAVY_BYTES * len(graph.nodes) // (size * len(graph.nodes)) * 2)
    program = replace(manifest.program, train=replace(graph, nodes=nodes))
    for number in range(NUM_HEAVY):
        big = replace(manifest, publisher=key.peer_id, name=f"heavy {number}", program=program)
        yield published("heavy", key, big, now_ms + number, now_ms + DAY_MS)[1]


def crowd(task: str, now_ms: int) -> Iterator[Sent]:
    for _ in range(NUM_INVENTED):
        key = SigningKey.generate()
        said = m.PeerAnnouncement(name="a friend", profile="generic", cores=4, memory_mb=4000, tasks=(task,))
        yield sealed("crowd", key, PeerTopic(key.peer_id, "announcement"), said, now_ms, expires_at_ms=now_ms + DAY_MS)
        yield sealed("crowd", key, PeerTopic(key.peer_id, "state"), m.PeerState(online=True), now_ms + 1)


def beggars(task: str, digest: str, victims: dict[str, int]) -> Iterator[Sent]:
    keys = [SigningKey.generate() for _ in range(NUM_BEGGARS)]
    for number in range(REQUESTS_EACH):
        for key in keys:
            for victim, session in victims.items():
                topic = InboxTopic(victim, key.peer_id)
                request = m.BlobRequest(task=task, digest=digest)
                yield sealed("beggars", key, topic, request, number + 1, receiver_session=session)


def spread(*streams: list[Sent]) -> list[Sent]:
    """All of them, each spread evenly over the whole time."""
    placed = [(index / len(stream), sent) for stream in streams for index, sent in enumerate(stream)]
    return [sent for _, sent in sorted(placed, key=lambda each: each[0])]


def flood(url: str, root: str, task: str, content: bytes, seconds: float, victims: dict[str, int]) -> dict[str, int]:
    """Send it all; how many messages of each kind were sent, and the bytes."""
    now_ms = int(time.time() * 1000)
    manifest = replace(decode_manifest(content), expires_at_ms=0)
    everything = spread(
        list(chains(manifest, now_ms)),
        list(brief(manifest, int(time.time() * 1000) + 10_000, seconds)),
        list(heavy(manifest, now_ms)),
        list(crowd(task, now_ms)),
        list(beggars(task, manifest.initial_weights.digest, victims)),
    )
    host, port = url.removeprefix("mqtt://").split("?")[0].split(":")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.max_inflight_messages_set(100)
    client.connect(host, int(port))
    client.loop_start()
    counts: Counter[str] = Counter()
    start_s = time.monotonic()
    for index, (kind, topic, payload, retain) in enumerate(everything):
        wait_s = start_s + seconds * index / len(everything) - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        told = client.publish(f"{root}/{topic}", payload, qos=1, retain=retain)
        if index % 500 == 499:
            told.wait_for_publish(10)
        counts[kind] += 1
        counts["bytes"] += len(payload)
    told.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    return dict(counts)


if __name__ == "__main__":
    url, root, task, path, seconds, victims = sys.argv[1:]
    sent = flood(url, root, task, Path(path).read_bytes(), float(seconds), json.loads(victims))
    print(json.dumps(sent))  # noqa: T201 - it is what the test reads
