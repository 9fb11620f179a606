"""What an owner says of tasks and applications to everybody: signed records, as effects."""

from __future__ import annotations

import hashlib

from grapevine_agent.core.effects import Effect, Publish, SaveBlob
from grapevine_agent.merge.apart import apart
from grapevine_proto.manifest_codec import task_id
from grapevine_proto.messages import ApplicationPublication, Review, TaskPublication
from grapevine_proto.topics import AppTopic, TaskTopic


def publication(peer: str, manifest: bytes, weights: bytes, expires_at_ms: int) -> tuple[str, list[Effect]]:
    """A task of `peer`'s with its initial weights: its id, and the effects that publish it."""
    task = task_id(manifest)
    with apart():
        digest = hashlib.sha256(weights).hexdigest()
    body = TaskPublication(manifest=manifest)
    topic = TaskTopic(peer, task, "manifest")
    return task, [
        SaveBlob(digest=digest, content=weights),
        Publish(topic=topic, body=body, retain=True, expires_at_ms=expires_at_ms),
    ]


def retraction(peer: str, task: str, reason: str) -> Effect:
    """A tombstone for a task of `peer`'s own."""
    return Publish(
        topic=TaskTopic(peer, task, "manifest"), body=TaskPublication(retracted=True, reason=reason), retain=True
    )


def application(peer: str, name: str, spec: bytes) -> Effect:
    """An application of `peer`'s, or its next version."""
    return Publish(topic=AppTopic(peer, name), body=ApplicationPublication(spec=spec), retain=True)


def deletion(peer: str, name: str, reason: str, expires_at_ms: int) -> Effect:
    """The end of an application of `peer`'s own, until it is applied again."""
    body = ApplicationPublication(deleted=True, reason=reason)
    return Publish(topic=AppTopic(peer, name), body=body, retain=True, expires_at_ms=expires_at_ms)


def verdict(peer: str, review: Review, expires_at_ms: int) -> Effect:
    """What `peer` makes of a task or an application, or that it takes back what it said."""
    topic = TaskTopic(peer, review.task, "review")
    return Publish(topic=topic, body=review, retain=True, expires_at_ms=expires_at_ms)
