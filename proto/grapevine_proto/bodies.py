"""Conversions between the bodies in `messages` and their protobuf forms: one entry a body.

`serialise` is total: our own dataclasses are well formed. `read` believes nothing: every count, text,
id and vector is checked here, so that no other code has to ask whether a number is finite or a list
is short.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from grapevine_proto import messages as m
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.topics import InboxTopic, TaskTopic, Topic, is_id

MAX_CLAIM = 2**53  # beyond it a float64 no longer counts by ones, and no honest counter gets there
MAX_TEXT = 500  # characters of a name or a reason
MAX_LIST = 1_000  # tasks, contributors, brokers
SERVER_STATES = ("unknown", "reachable", "suspect", "lost")

Item = TypeVar("Item")
Converted = TypeVar("Converted")


def serialise(body: m.Body) -> tuple[int, bytes]:
    """The number of the body's field in the message, and the field's bytes."""
    conversion = _BY_TYPE[type(body)]
    content: bytes = conversion.write(body).SerializeToString(deterministic=True)
    return pb.Message.DESCRIPTOR.fields_by_name[conversion.field].number, content


def read(wire: pb.Message) -> m.Body:
    """The body of a message. Raises `WireError` for anything that is not within its bounds."""
    field = wire.WhichOneof("body")
    conversion = _BY_FIELD.get(field or "")
    if conversion is None:
        raise WireError("unknown-body", "this version does not know the body")
    body: m.Body = conversion.read(getattr(wire, conversion.field))
    return body


def belongs_on(body: m.Body, topic: Topic) -> bool:
    """Whether `body` may be said on `topic`: the right leaf, and of the task that the topic names.

    A manifest is of the task that its SHA-256 names. A tombstone names none: its topic, which is
    signed, says what it retracts.
    """
    leaf = "inbox" if isinstance(topic, InboxTopic) else topic.leaf
    if _BY_TYPE[type(body)].leaf != leaf:
        return False
    if not isinstance(topic, TaskTopic):
        return True
    match body:
        case m.TaskPublication(retracted=True):
            return True
        case m.TaskPublication(manifest=manifest):
            return hashlib.sha256(manifest).hexdigest() == topic.task
        case m.Review(task=task) | m.ServerAdvert(task=task) | m.ServerModel(task=task) | m.Metrics(task=task):
            return task == topic.task
    return False


# --- reading with suspicion -----------------------------------------------------------------------


def _count(value: int, what: str) -> int:
    if not 0 <= value <= MAX_CLAIM:
        raise WireError("out-of-range", f"{what} = {value}, at most 2**53 is believed")
    return value


def _real(value: float, what: str, low: float = -math.inf) -> float:
    if math.isnan(value) or value < low:
        raise WireError("out-of-range", f"{what} = {value}")
    return value


def _text(value: str, what: str) -> str:
    if len(value) > MAX_TEXT:
        raise WireError("out-of-range", f"{what} has {len(value)} characters, at most {MAX_TEXT}")
    return value


def _id(value: str, what: str) -> str:
    if not is_id(value):
        raise WireError("malformed", f"{what} {value[:64]!r} is not an id")
    return value


def _digest(value: str) -> str:
    if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
        raise WireError("malformed", f"{value[:64]!r} is not a SHA-256 in lower-case hex")
    return value


def _all(items: Iterable[Item], convert: Callable[[Item], Converted], what: str) -> tuple[Converted, ...]:
    sized = list(items)
    if len(sized) > MAX_LIST:
        raise WireError("out-of-range", f"{len(sized)} {what}, at most {MAX_LIST}")
    return tuple(convert(item) for item in sized)


def _vector(content: bytes, what: str) -> m.Vector:
    """A read-only float32 view of the bytes: models are not copied on the way in."""
    if len(content) % 4:
        raise WireError("malformed", f"{what} has {len(content)} bytes: no whole number of float32")
    return np.frombuffer(content, dtype="<f4")


def _optional_vector(content: bytes, what: str) -> m.Vector | None:
    return _vector(content, what) if content else None


def _bytes_of(vector: m.Vector | None) -> bytes:
    return b"" if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()


def _contributions(wire: pb.Contributions) -> dict[str, int]:
    peers, versions = list(wire.peers), list(wire.versions)
    if len(peers) != len(versions):
        raise WireError("malformed", f"{len(peers)} contributors with {len(versions)} versions")
    if len(peers) > MAX_LIST:
        raise WireError("out-of-range", f"{len(peers)} contributors, at most {MAX_LIST}")
    if not all(map(is_id, peers)):
        raise WireError("malformed", "a contributor is no peer id")
    if max(versions, default=0) > MAX_CLAIM:
        raise WireError("out-of-range", f"version {max(versions)}")
    return dict(zip(peers, versions, strict=True))


def _wire_contributions(contributions: Mapping[str, int]) -> pb.Contributions:
    return pb.Contributions(peers=contributions.keys(), versions=contributions.values())


# --- records --------------------------------------------------------------------------------------


def _write_announcement(body: m.PeerAnnouncement) -> pb.PeerAnnouncement:
    return pb.PeerAnnouncement(
        name=body.name,
        profile=body.profile,
        cores=body.cores,
        memory_mb=body.memory_mb,
        data_kinds=body.data_kinds,
        tasks=body.tasks,
        brokers=body.brokers,
    )


def _read_announcement(wire: pb.PeerAnnouncement) -> m.PeerAnnouncement:
    return m.PeerAnnouncement(
        name=_text(wire.name, "name"),
        profile=_text(wire.profile, "profile"),
        cores=wire.cores,
        memory_mb=wire.memory_mb,
        data_kinds=_all(wire.data_kinds, lambda kind: _text(kind, "data kind"), "data kinds"),
        tasks=_all(wire.tasks, lambda task: _id(task, "task"), "tasks"),
        brokers=_all(wire.brokers, lambda url: _text(url, "broker"), "brokers"),
    )


def _write_publication(body: m.TaskPublication) -> pb.TaskPublication:
    if body.retracted:
        return pb.TaskPublication(retraction=pb.Retraction(reason=body.reason))
    return pb.TaskPublication(manifest=body.manifest)


def _read_publication(wire: pb.TaskPublication) -> m.TaskPublication:
    match wire.WhichOneof("statement"):
        case "manifest":
            return m.TaskPublication(manifest=wire.manifest)
        case "retraction":
            return m.TaskPublication(retracted=True, reason=_text(wire.retraction.reason, "reason"))
    raise WireError("malformed", "a publication without a manifest or a retraction")


def _write_review(body: m.Review) -> pb.Review:
    return pb.Review(
        task=body.task,
        approved=body.approved and not body.withdrawn,
        reason=body.reason,
        valid_until_ms=body.valid_until_ms,
        withdrawn=body.withdrawn,
    )


def _read_review(wire: pb.Review) -> m.Review:
    return m.Review(
        task=_id(wire.task, "task"),
        # Who says both has withdrawn: to refuse the record would keep the approval before it alive.
        approved=wire.approved and not wire.withdrawn,
        reason=_text(wire.reason, "reason"),
        valid_until_ms=_count(wire.valid_until_ms, "valid_until_ms"),
        withdrawn=wire.withdrawn,
    )


def _write_advert(body: m.ServerAdvert) -> pb.ServerAdvert:
    return pb.ServerAdvert(
        task=body.task,
        online=body.online,
        model_version=body.model_version,
        contributors=body.contributors,
        heartbeat_s=body.heartbeat_s,
    )


def _read_advert(wire: pb.ServerAdvert) -> m.ServerAdvert:
    heartbeat_s = _real(wire.heartbeat_s, "heartbeat_s", 0.0)
    if heartbeat_s > 86_400:
        raise WireError("out-of-range", f"heartbeat_s = {heartbeat_s}, at most a day")
    return m.ServerAdvert(
        task=_id(wire.task, "task"),
        online=wire.online,
        model_version=_count(wire.model_version, "model_version"),
        contributors=_all(wire.contributors, lambda peer: _id(peer, "contributor"), "contributors"),
        heartbeat_s=heartbeat_s,
    )


# --- passing messages -----------------------------------------------------------------------------


def _write_heartbeat(body: m.Heartbeat) -> pb.Heartbeat:
    return pb.Heartbeat(progress=[pb.TaskProgress(task=p.task, version=p.version, age=p.age) for p in body.progress])


def _read_heartbeat(wire: pb.Heartbeat) -> m.Heartbeat:
    return m.Heartbeat(
        progress=_all(
            wire.progress,
            lambda p: m.TaskProgress(
                task=_id(p.task, "task"), version=_count(p.version, "version"), age=_count(p.age, "age")
            ),
            "tasks",
        )
    )


def _write_update(body: m.ModelUpdate) -> pb.ModelUpdate:
    return pb.ModelUpdate(
        task=body.task,
        window=body.window,
        version=body.version,
        age=body.age,
        experience=body.experience,
        samples=body.samples,
        full=_bytes_of(body.full),
        base=_bytes_of(body.base),
        delta=_bytes_of(body.delta),
        base_digest=body.base_digest,
        server_version=body.server_version,
        buffers=_bytes_of(body.buffers),
        contributions=_wire_contributions(body.contributions),
    )


def _read_update(wire: pb.ModelUpdate) -> m.ModelUpdate:
    full, delta = _optional_vector(wire.full, "full"), _optional_vector(wire.delta, "delta")
    base = _optional_vector(wire.base, "base")
    if (full is None) == (delta is None):
        raise WireError("malformed", "an update carries either the full model or a delta")
    if delta is not None and base is None and len(wire.base_digest) != 32:
        raise WireError("malformed", "a delta without its base, and without the base's SHA-256")
    if full is not None and (base is not None or wire.base_digest):
        raise WireError("malformed", "a full model does not come with a base")
    return m.ModelUpdate(
        task=_id(wire.task, "task"),
        window=_count(wire.window, "window"),
        version=_count(wire.version, "version"),
        age=_count(wire.age, "age"),
        experience=_count(wire.experience, "experience"),
        samples=_count(wire.samples, "samples"),
        full=full,
        base=base,
        delta=delta,
        base_digest=wire.base_digest,
        server_version=_count(wire.server_version, "server_version"),
        buffers=_vector(wire.buffers, "buffers"),
        contributions=_contributions(wire.contributions),
    )


def _write_server_model(body: m.ServerModel) -> pb.ServerModel:
    return pb.ServerModel(
        task=body.task,
        model_version=body.model_version,
        age=body.age,
        full=_bytes_of(body.full),
        buffers=_bytes_of(body.buffers),
        contributions=_wire_contributions(body.contributions),
        members=body.members,
        cluster=body.cluster,
    )


def _read_server_model(wire: pb.ServerModel) -> m.ServerModel:
    return m.ServerModel(
        task=_id(wire.task, "task"),
        model_version=_count(wire.model_version, "model_version"),
        age=_count(wire.age, "age"),
        full=_vector(wire.full, "full"),
        buffers=_vector(wire.buffers, "buffers"),
        contributions=_contributions(wire.contributions),
        members=_all(wire.members, lambda peer: _id(peer, "member"), "members"),
        cluster=wire.cluster,
    )


def _write_metrics(body: m.Metrics) -> pb.Metrics:
    return pb.Metrics(
        task=body.task,
        round=body.round,
        age=body.age,
        loss=body.loss,
        metric=body.metric,
        num_evaluated=body.num_evaluated,
        staleness=body.staleness,
        energy_j=body.energy_j,
        server=body.server,
        num_peers=body.num_peers,
        shares=[pb.Share(peer=s.peer, share=s.share) for s in body.shares],
    )


def _read_metrics(wire: pb.Metrics) -> m.Metrics:
    if wire.server not in SERVER_STATES:
        raise WireError("malformed", f"server is {wire.server[:40]!r}, not one of {', '.join(SERVER_STATES)}")
    return m.Metrics(
        task=_id(wire.task, "task"),
        round=_count(wire.round, "round"),
        age=_count(wire.age, "age"),
        loss=_real(wire.loss, "loss"),
        metric=_real(wire.metric, "metric"),
        num_evaluated=_count(wire.num_evaluated, "num_evaluated"),
        staleness=_real(wire.staleness, "staleness", 0.0),
        energy_j=_real(wire.energy_j, "energy_j", 0.0),
        server=wire.server,
        num_peers=wire.num_peers,
        shares=_all(wire.shares, lambda s: m.Share(peer=_id(s.peer, "peer"), share=_real(s.share, "share")), "shares"),
    )


# --- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Conversion:
    """How one body travels. `write` and `read` are typed where they are defined."""

    type: type[m.Body]
    field: str  # in Message's oneof
    leaf: str  # the last level of its topic
    write: Callable[[Any], Any]
    read: Callable[[Any], m.Body]


_CONVERSIONS = (
    _Conversion(m.PeerAnnouncement, "announcement", "announcement", _write_announcement, _read_announcement),
    _Conversion(
        m.PeerState,
        "state",
        "state",
        lambda body: pb.PeerState(online=body.online),
        lambda wire: m.PeerState(online=wire.online),
    ),
    _Conversion(m.TaskPublication, "publication", "manifest", _write_publication, _read_publication),
    _Conversion(m.Review, "review", "review", _write_review, _read_review),
    _Conversion(m.ServerAdvert, "server_advert", "server", _write_advert, _read_advert),
    _Conversion(m.Heartbeat, "heartbeat", "heartbeat", _write_heartbeat, _read_heartbeat),
    _Conversion(m.ModelUpdate, "update", "inbox", _write_update, _read_update),
    _Conversion(m.ServerModel, "server_model", "model", _write_server_model, _read_server_model),
    _Conversion(m.Metrics, "metrics", "metrics", _write_metrics, _read_metrics),
    _Conversion(
        m.BlobRequest,
        "blob_request",
        "inbox",
        lambda body: pb.BlobRequest(task=body.task, digest=body.digest),
        lambda wire: m.BlobRequest(task=_id(wire.task, "task"), digest=_digest(wire.digest)),
    ),
    _Conversion(
        m.Blob,
        "blob",
        "inbox",
        lambda body: pb.Blob(task=body.task, digest=body.digest, content=body.content),
        lambda wire: m.Blob(task=_id(wire.task, "task"), digest=_digest(wire.digest), content=wire.content),
    ),
)
_BY_TYPE = {conversion.type: conversion for conversion in _CONVERSIONS}
_BY_FIELD = {conversion.field: conversion for conversion in _CONVERSIONS}
