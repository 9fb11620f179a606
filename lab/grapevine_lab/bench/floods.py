"""What strangers may say of tasks until it hurts: manifests in any shape, and reviews of them.

A shape is how manifests name each other as parents. Reviews are of known or unknown tasks, by strangers or by whom an
agent trusts. Whether a message is signed is its maker's choice: `heard` makes what a core takes, as if it had been
verified, `sealed` the bytes that go through a broker or lie in a database.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from grapevine_proto import manifest_pb2
from grapevine_proto import messages as m
from grapevine_proto.codec import Received, seal
from grapevine_proto.manifest import (
    DataContract,
    FeatureSpec,
    MergePlan,
    Optimiser,
    TaskManifest,
    TrainingPlan,
    WeightsRef,
)
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import TaskTopic

CREATED_MS = 1_750_000_000_000
CLASSES, PIXELS = 3, 4
NODE = Node(operator=Operator.RESHAPE, arguments=(Ref(3), (1,) * 6))  # 40 bytes; it stands unused in a large program
NODES_OF_LARGE = 5_800  # make a manifest of 220 kB

Parent = Callable[[int], int]  # of the task with this number, the number of its parent; negative: none

SHAPES: dict[str, Parent] = {
    "alone": lambda _number: -1,
    "chain": lambda number: number - 1,
    "star": lambda number: 0 if number else -1,
    "comb": lambda number: number - (number % 3 or 3),
    "tree": lambda number: (number - 1) // 2,
}


def program(num_unused_nodes: int = 0) -> Program:
    """A linear classifier of four pixels, with as many nodes that nothing uses."""
    layer = Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(1), Ref(2)))
    graph = Graph(nodes=(layer,), output=3)
    return Program(
        inputs=(InputSpec(name="input", shape=(PIXELS,)),),
        parameters=(TensorSpec(name="weight", shape=(CLASSES, PIXELS)), TensorSpec(name="bias", shape=(CLASSES,))),
        train=replace(graph, nodes=(layer, *(NODE,) * num_unused_nodes)),
        eval=graph,
    )


def manifest(publisher: str, *, num_unused_nodes: int = 0, **fields: object) -> TaskManifest:
    """A task; `fields` are those of `TaskManifest`."""
    task = TaskManifest(
        name="flood",
        publisher=publisher,
        program=program(num_unused_nodes),
        initial_weights=WeightsRef(digest="ab" * 32, num_bytes=100),
        data=DataContract(
            kind="pixels",
            features=FeatureSpec(name="image", dtype="float32", shape=(PIXELS,)),
            target=FeatureSpec(name="digit", dtype="int64", shape=()),
            num_classes=CLASSES,
        ),
        training=TrainingPlan(optimiser=Optimiser()),
        merging=MergePlan(),
        created_at_ms=CREATED_MS,
    )
    return replace(task, **fields)  # type: ignore[arg-type]


def manifests(
    shape: str, number: int, publisher: Callable[[int], str], **fields: Any
) -> Iterator[tuple[str, str, bytes]]:
    """So many tasks in a shape: publisher, id and bytes of each. The first is the first of its line."""
    ids: list[str] = []
    for index in range(number):
        parent = SHAPES[shape](index)
        version = index + 1
        lineage: dict[str, Any] = {"version": version, "parent": ids[parent] if parent >= 0 else ""}
        encoded = encode_manifest(manifest(publisher(index), name=f"flood {index}", **lineage, **fields))
        ids.append(task_id(encoded))
        yield publisher(index), ids[-1], encoded


def large_manifests(number: int, publisher: Callable[[int], str]) -> Iterator[tuple[str, str, bytes]]:
    """So many tasks of some 220 kB each, nearly all of it program: publisher, id and bytes."""
    wire = manifest_pb2.TaskManifest.FromString(encode_manifest(manifest("nobody", num_unused_nodes=NODES_OF_LARGE)))
    for index in range(number):
        wire.name, wire.publisher = f"flood {index}", publisher(index)
        encoded = wire.SerializeToString(deterministic=True)
        yield wire.publisher, task_id(encoded), encoded


def key(number: int) -> SigningKey:
    """A stranger's key."""
    return SigningKey(hashlib.sha256(f"stranger {number}".encode()).digest())


_sequences = itertools.count(CREATED_MS)


def message(sender: str, body: m.Body, *, expires_at_ms: int = 0, created_at_ms: int = CREATED_MS) -> m.Message:
    """A message of a sender's, newer than any before it."""
    return m.Message(
        sender=sender,
        session=1,
        sequence=next(_sequences),
        body=body,
        created_at_ms=created_at_ms,
        expires_at_ms=expires_at_ms,
    )


def heard(topic: TaskTopic, body: m.Body, *, expires_at_ms: int = 0, created_at_ms: int = CREATED_MS) -> Received:
    """A record as a core takes it. Nobody signed it."""
    said = message(topic.peer, body, expires_at_ms=expires_at_ms, created_at_ms=created_at_ms)
    size = body.manifest if isinstance(body, m.TaskPublication) else b""
    return Received(message=said, topic=topic, envelope=said.sequence.to_bytes(8, "big") + bytes(100) + size)


def sealed(key: SigningKey, topic: TaskTopic, body: m.Body, *, expires_at_ms: int = 0) -> bytes:
    """The same, signed by its author."""
    return seal(message(key.peer_id, body, expires_at_ms=expires_at_ms), topic, key)


def published(publisher: str, task: str, encoded: bytes, *, expires_at_ms: int = 0) -> Received:
    """A manifest as a core takes it."""
    topic = TaskTopic(publisher, task, "manifest")
    return heard(topic, m.TaskPublication(manifest=encoded), expires_at_ms=expires_at_ms)


def reviewed(
    reviewer: str, task: str, *, approved: bool = True, until_ms: int = 0, created_at_ms: int = CREATED_MS
) -> Received:
    """A verdict as a core takes it."""
    body = m.Review(task=task, approved=approved, valid_until_ms=until_ms)
    topic = TaskTopic(reviewer, task, "review")
    return heard(topic, body, expires_at_ms=until_ms, created_at_ms=created_at_ms)
