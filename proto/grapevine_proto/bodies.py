"""Conversions between the bodies in `messages` and their protobuf forms: one entry a body.

`serialise` is total: our own dataclasses are well formed. `read` believes nothing: every count, text,
id and vector is checked here, so that no other code has to ask whether a number is finite or a list
is short.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from grapevine_proto import application_bodies, reading, short_names
from grapevine_proto import messages as m
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.bulk import MAX_ASKED, Bulk, check_digest, read_bulk
from grapevine_proto.errors import WireError
from grapevine_proto.figures import (
    WHICH,
    read_figure,
    read_metrics,
    read_released,
    read_which,
    write_figure,
    write_metrics,
    write_released,
)
from grapevine_proto.large_fields import WithLarge, head, set_apart
from grapevine_proto.location import Location
from grapevine_proto.parts import LARGE
from grapevine_proto.topics import GroupTopic, InboxTopic, TaskTopic, Topic

_MODEL = ("full", "buffers")

EncodedBody: TypeAlias = tuple[int, memoryview]  # the number of a body's field in the message, and its bytes


def serialise(body: m.Body) -> tuple[int, bytes]:
    """The number of the body's field in the message, and the field's bytes."""
    number, parts = serialise_in_parts(body)
    return number, b"".join(parts)


def serialise_in_parts(body: m.Body) -> tuple[int, list[bytes | memoryview]]:
    """The same in parts: what is large is left where it is."""
    conversion = _BY_TYPE[type(body)]
    if num_bytes(body) < LARGE:
        return conversion.number, [conversion.write(body).SerializeToString(deterministic=True)]
    number, rest, large = serialise_apart(body)
    parts: list[bytes | memoryview] = [rest]
    for field, view in large.items():
        parts += [head(field, len(view)), view]
    return number, parts


def serialise_apart(body: m.Body) -> tuple[int, bytes, dict[int, memoryview]]:
    """The number of the body's field, the body without its large fields, and these by their numbers, ascending."""
    conversion = _BY_TYPE[type(body)]
    large = {name: reading.view_of(getattr(body, name)) for name in conversion.large}
    nothing: dict[str, Any] = {name: _nothing(getattr(body, name)) for name in large}
    rest = conversion.write(replace(body, **nothing)).SerializeToString(deterministic=True)
    fields = {conversion.numbers[name]: view for name, view in large.items() if view}
    return conversion.number, rest, dict(sorted(fields.items()))


def num_bytes(body: m.Body) -> int:
    """What the large fields of a body take, if it has any."""
    conversion = _BY_TYPE.get(type(body))
    return sum(len(reading.view_of(getattr(body, name))) for name in conversion.large) if conversion else 0


def _nothing(value: m.Written | bytes | memoryview | None) -> m.Written | bytes | None:
    """In the place of a value that is written elsewhere. How it is written is still said here."""
    if isinstance(value, m.Encoded):
        return m.Encoded(value.encoding, b"")
    return np.empty(0, np.float32) if isinstance(value, np.ndarray) else None if value is None else b""


def read(wire: pb.Message) -> m.Body:
    """The body of a message. Raises `WireError` for anything that is not within its bounds."""
    field = wire.WhichOneof("body")
    conversion = _BY_FIELD.get(field or "")
    if conversion is None:
        raise WireError("unknown-body", "this version does not know the body")
    body: m.Body = conversion.read(getattr(wire, conversion.field))
    return body


def read_large(number: int, encoded: memoryview) -> m.Body:
    """The body in the field of this number. Vectors, and a blob's content, are views. Raises `WireError`."""
    conversion = _BY_NUMBER[number]
    kind = type(getattr(pb.Message(), conversion.field))
    rest, found = set_apart(encoded, conversion.numbers.values())
    names = {each: name for name, each in conversion.numbers.items()}
    wire = reading.parsed(kind, rest, f"a {conversion.field}")
    body: m.Body = conversion.read(WithLarge(wire, {names[each]: view for each, view in found.items()}))
    return body


def read_apart(wire: pb.Message) -> tuple[m.Apart, Bulk]:
    """The body of a message whose large fields travel apart, and what it says of them. Raises `WireError`."""
    conversion = _BY_FIELD.get(wire.WhichOneof("body") or "")
    if conversion is None or not conversion.large:
        raise WireError("unknown-body", "a bulk, and no body that could have one")
    bulk = read_bulk(wire.bulk, conversion.numbers.values())
    body = getattr(wire, conversion.field)
    if any(getattr(body, name) for name in conversion.large):
        raise WireError("malformed", f"a {conversion.field} with fields in its message and others in a bulk")
    task = reading.identifier(body.task, "task")
    kind: Any = conversion.type
    return m.Apart(kind=kind, task=task, rest=body.SerializeToString()), bulk


def complete(apart: m.Apart, fields: Mapping[int, memoryview]) -> m.Body:
    """The body, now that its large fields are here. Raises `WireError`."""
    conversion = _BY_TYPE[apart.kind]
    kind = type(getattr(pb.Message(), conversion.field))
    wire = reading.parsed(kind, apart.rest, f"a {conversion.field}")
    names = {number: name for name, number in conversion.numbers.items()}
    body: m.Body = conversion.read(WithLarge(wire, {names[number]: view for number, view in fields.items()}))
    return body


def preview(apart: m.Apart, bulk: Bulk) -> m.Body:
    """The body before its large fields are here: in the place of each are four bytes that mean nothing.

    What is true of it is which of them there are, how they are written, and all the rest. Raises `WireError`.
    """
    return complete(apart, dict.fromkeys(bulk.fields, memoryview(bytes(4))))


def belongs_on(body: m.Body, topic: Topic) -> bool:
    """Whether `body` may be said on `topic`: the right leaf, and of the task that the topic names.

    A manifest is of the task that its SHA-256 names. A tombstone names none: its topic, which is
    signed, says what it retracts.
    """
    kind = body.kind if isinstance(body, m.Apart) else type(body)
    if isinstance(topic, GroupTopic):
        return kind is m.ModelUpdate and getattr(body, "task", "") == topic.task
    if _BY_TYPE[kind].leaf != ("inbox" if isinstance(topic, InboxTopic) else topic.leaf):
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
        case m.Apart(task=task):
            return task == topic.task
    return False


# --- records --------------------------------------------------------------------------------------


def _few(items: Sequence[Any], most: int, what: str) -> Sequence[Any]:
    """The items, unread. Raises `WireError` if there are too many: what is said here is kept of every peer."""
    if len(items) > most:
        raise WireError("out-of-range", f"{len(items)} {what}, at most {most}")
    return items


def _write_announcement(body: m.PeerAnnouncement) -> pb.PeerAnnouncement:
    return pb.PeerAnnouncement(
        name=body.name,
        profile=body.profile,
        cores=body.cores,
        memory_mb=body.memory_mb,
        data_kinds=body.data_kinds,
        tasks=body.tasks,
        brokers=body.brokers,
        lacks=body.lacks,
        records=body.records,
        gateway=body.gateway,
        site=body.site,
        location=_write_location(body.location),
        carries=body.carries,
        labels=[pb.Label(key=key, value=value) for key, value in body.labels],
        traits=body.traits,
        offers=body.offers,
        running=body.running,
    )


def _write_location(location: Location | None) -> pb.Location | None:
    return pb.Location(latitude=location.latitude, longitude=location.longitude) if location is not None else None


def _read_announcement(wire: pb.PeerAnnouncement) -> m.PeerAnnouncement:
    return m.PeerAnnouncement(
        name=reading.text(wire.name, "name"),
        profile=reading.text(wire.profile, "profile"),
        cores=wire.cores,
        memory_mb=wire.memory_mb,
        data_kinds=reading.each_of(
            _few(wire.data_kinds, m.MAX_KINDS, "data kinds"), lambda kind: reading.text(kind, "data kind"), "data kinds"
        ),
        tasks=reading.each_of(
            _few(wire.tasks, m.MAX_TASKS, "tasks"), lambda task: reading.identifier(task, "task"), "tasks"
        ),
        brokers=reading.each_of(
            _few(wire.brokers, m.MAX_BROKERS, "brokers"), lambda url: reading.text(url, "broker"), "brokers"
        ),
        lacks=wire.lacks,
        records=wire.records,
        gateway=wire.gateway,
        site=reading.text(wire.site, "site"),
        location=_read_location(wire.location) if wire.HasField("location") else None,
        carries=wire.carries,
        labels=application_bodies.read_labels(wire.labels),
        traits=application_bodies.read_traits(wire.traits),
        offers=application_bodies.read_offers(wire.offers, "offers"),
        running=application_bodies.read_offers(wire.running, "running"),
    )


def _read_location(wire: pb.Location) -> Location:
    if abs(wire.latitude) > m.MOST_LATITUDE or abs(wire.longitude) > m.MOST_LONGITUDE:
        raise WireError("out-of-range", f"({wire.latitude}, {wire.longitude}) hundredths of a degree are nowhere")
    return Location(latitude=wire.latitude, longitude=wire.longitude)


def _write_publication(body: m.TaskPublication) -> pb.TaskPublication:
    if body.retracted:
        return pb.TaskPublication(retraction=pb.Retraction(reason=body.reason))
    return pb.TaskPublication(manifest=body.manifest)


def _read_publication(wire: pb.TaskPublication) -> m.TaskPublication:
    match wire.WhichOneof("statement"):
        case "manifest":
            return m.TaskPublication(manifest=wire.manifest)
        case "retraction":
            return m.TaskPublication(retracted=True, reason=reading.text(wire.retraction.reason, "reason"))
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
        task=reading.identifier(wire.task, "task"),
        # Who says both has withdrawn: to refuse the record would keep the approval before it alive.
        approved=wire.approved and not wire.withdrawn,
        reason=reading.text(wire.reason, "reason"),
        valid_until_ms=reading.count(wire.valid_until_ms, "valid_until_ms"),
        withdrawn=wire.withdrawn,
    )


def _write_advert(body: m.ServerAdvert) -> pb.ServerAdvert:
    return pb.ServerAdvert(
        task=body.task,
        online=body.online,
        model_version=body.model_version,
        contributors=body.contributors,
        heartbeat_s=body.heartbeat_s,
        group=body.group,
        takes_shared=body.takes_shared,
    )


def _read_advert(wire: pb.ServerAdvert) -> m.ServerAdvert:
    heartbeat_s = reading.real(wire.heartbeat_s, "heartbeat_s", 0.0)
    if heartbeat_s > 86_400:
        raise WireError("out-of-range", f"heartbeat_s = {heartbeat_s}, at most a day")
    return m.ServerAdvert(
        task=reading.identifier(wire.task, "task"),
        online=wire.online,
        model_version=reading.count(wire.model_version, "model_version"),
        contributors=reading.each_of(
            wire.contributors, lambda peer: reading.identifier(peer, "contributor"), "contributors"
        ),
        heartbeat_s=heartbeat_s,
        group=reading.identifier(wire.group, "group") if wire.group else "",
        takes_shared=wire.takes_shared,
    )


# --- passing messages -----------------------------------------------------------------------------


def _write_heartbeat(body: m.Heartbeat) -> pb.Heartbeat:
    return pb.Heartbeat(
        progress=[
            pb.TaskProgress(task=p.task, version=p.version, age=p.age, best=write_figure(p.best)) for p in body.progress
        ],
        incarnation=body.incarnation,
        quiet_s=body.quiet_s,
    )


def _read_heartbeat(wire: pb.Heartbeat) -> m.Heartbeat:
    return m.Heartbeat(
        progress=reading.each_of(
            _few(wire.progress, m.MAX_TASKS, "tasks"),
            lambda p: m.TaskProgress(
                task=reading.identifier(p.task, "task"),
                version=reading.count(p.version, "version"),
                age=reading.count(p.age, "age"),
                best=read_figure(p, "best"),
            ),
            "tasks",
        ),
        incarnation=reading.count(wire.incarnation, "incarnation"),
        quiet_s=reading.finite(reading.real(wire.quiet_s, "quiet_s", 0.0), "quiet_s"),
    )


def _write_update(body: m.ModelUpdate) -> pb.ModelUpdate:
    return pb.ModelUpdate(
        task=body.task,
        window=body.window,
        version=body.version,
        age=body.age,
        experience=body.experience,
        samples=body.samples,
        full=reading.bytes_of(body.full),
        base=reading.bytes_of(body.base),
        delta=reading.bytes_of(body.delta),
        base_digest=body.base_digest,
        server_version=body.server_version,
        buffers=reading.bytes_of(body.buffers),
        contributions=reading.wire_contributions(body.contributions),
        encoding=reading.wire_encoding(body.delta if body.full is None else body.full),
        base_encoding=reading.wire_encoding(body.base),
        buffers_encoding=reading.wire_encoding(body.buffers),
        is_answer=body.is_answer,
        wants_receipt=body.wants_receipt,
        server_versions=reading.wire_contributions(body.server_versions) if body.server_versions else None,
    )


def _read_update(wire: pb.ModelUpdate) -> m.ModelUpdate:
    full, delta, base = (reading.optional_written(wire, name) for name in ("full", "delta", "base"))
    if (full is None) == (delta is None):
        raise WireError("malformed", "an update carries either the full model or a delta")
    if delta is not None and base is None and len(wire.base_digest) != 32:
        raise WireError("malformed", "a delta without its base, and without the base's SHA-256")
    if full is not None and (base is not None or wire.base_digest):
        raise WireError("malformed", "a full model does not come with a base")
    return m.ModelUpdate(
        task=reading.identifier(wire.task, "task"),
        window=reading.count(wire.window, "window"),
        version=reading.count(wire.version, "version"),
        age=reading.count(wire.age, "age"),
        experience=reading.count(wire.experience, "experience"),
        samples=reading.count(wire.samples, "samples"),
        full=full,
        base=base,
        delta=delta,
        base_digest=wire.base_digest,
        server_version=reading.count(wire.server_version, "server_version"),
        buffers=reading.written(wire, "buffers"),
        contributions=reading.contributions(wire.contributions),
        is_answer=wire.is_answer,
        wants_receipt=wire.wants_receipt,
        server_versions=reading.contributions(wire.server_versions),
    )


def _write_receipt(body: m.BaseReceipt) -> pb.BaseReceipt:
    return pb.BaseReceipt(task=body.task, base_digest=body.base_digest)


def _read_receipt(wire: pb.BaseReceipt) -> m.BaseReceipt:
    if len(wire.base_digest) not in (0, 32):
        raise WireError("malformed", f"a base's SHA-256 has 32 bytes, not {len(wire.base_digest)}")
    return m.BaseReceipt(task=reading.identifier(wire.task, "task"), base_digest=wire.base_digest)


def _write_chunk_request(body: m.ChunkRequest) -> pb.ChunkRequest:
    return pb.ChunkRequest(digest=body.digest, index=body.index, chunks=body.chunks)


def _read_chunk_request(wire: pb.ChunkRequest) -> m.ChunkRequest:
    if len(wire.chunks) > MAX_ASKED:
        raise WireError("out-of-range", f"{len(wire.chunks)} chunks in one request, at most {MAX_ASKED}")
    return m.ChunkRequest(digest=check_digest(wire.digest), index=wire.index, chunks=tuple(dict.fromkeys(wire.chunks)))


def _read_chunk_refusal(wire: pb.ChunkRefusal) -> m.ChunkRefusal:
    return m.ChunkRefusal(digest=check_digest(wire.digest), reason=reading.text(wire.reason, "reason"))


def _read_probe_request(wire: pb.ProbeRequest) -> m.ProbeRequest:
    return m.ProbeRequest(
        nonce=reading.count(wire.nonce, "nonce"),
        peer=reading.identifier(wire.peer, "peer"),
        session=reading.count(wire.session, "session"),
        suspected=reading.count(wire.suspected, "suspected"),
    )


def _write_probe_answer(body: m.ProbeAnswer) -> pb.ProbeAnswer:
    return pb.ProbeAnswer(
        nonce=body.nonce, peer=body.peer, session=body.session, incarnation=body.incarnation, hops=body.hops
    )


def _read_probe_answer(wire: pb.ProbeAnswer) -> m.ProbeAnswer:
    if wire.hops > m.MOST_HOPS:
        raise WireError("out-of-range", f"{wire.hops} hops of a probe, at most {m.MOST_HOPS}")
    return m.ProbeAnswer(
        nonce=reading.count(wire.nonce, "nonce"),
        peer=reading.identifier(wire.peer, "peer") if wire.peer else "",
        session=reading.count(wire.session, "session"),
        incarnation=reading.count(wire.incarnation, "incarnation"),
        hops=wire.hops,
    )


def _write_server_model(body: m.ServerModel) -> pb.ServerModel:
    return pb.ServerModel(
        task=body.task,
        model_version=body.model_version,
        age=body.age,
        full=reading.bytes_of(body.full),
        buffers=reading.bytes_of(body.buffers),
        contributions=reading.wire_contributions(body.contributions),
        members=body.members,
        cluster=body.cluster,
        encoding=reading.wire_encoding(body.full),
        buffers_encoding=reading.wire_encoding(body.buffers),
    )


def _read_server_model(wire: pb.ServerModel) -> m.ServerModel:
    return m.ServerModel(
        task=reading.identifier(wire.task, "task"),
        model_version=reading.count(wire.model_version, "model_version"),
        age=reading.count(wire.age, "age"),
        full=reading.written(wire, "full"),
        buffers=reading.written(wire, "buffers"),
        contributions=reading.contributions(wire.contributions),
        members=reading.each_of(wire.members, lambda peer: reading.identifier(peer, "member"), "members"),
        cluster=wire.cluster,
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
    large: tuple[str, ...] = ()  # its fields of bytes that may be large

    @cached_property
    def number(self) -> int:
        """Of its field in Message."""
        return int(pb.Message.DESCRIPTOR.fields_by_name[self.field].number)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Of its fields that may be large."""
        fields = getattr(pb.Message(), self.field).DESCRIPTOR.fields_by_name
        return {name: int(fields[name].number) for name in self.large}


_CONVERSIONS = (
    _Conversion(m.PeerAnnouncement, "announcement", "announcement", _write_announcement, _read_announcement),
    _Conversion(
        m.PeerState,
        "state",
        "state",
        lambda body: pb.PeerState(
            online=body.online,
            connection=body.connection,
            goodbye=body.goodbye and not body.online,
            asleep_until_ms=body.asleep_until_ms if body.goodbye and not body.online else 0,
        ),
        lambda wire: m.PeerState(
            online=wire.online,
            connection=wire.connection,
            goodbye=wire.goodbye and not wire.online,
            asleep_until_ms=max(0, wire.asleep_until_ms) if wire.goodbye and not wire.online else 0,
        ),
    ),
    _Conversion(m.TaskPublication, "publication", "manifest", _write_publication, _read_publication),
    _Conversion(m.Review, "review", "review", _write_review, _read_review),
    _Conversion(
        m.ApplicationPublication,
        "application",
        "app",
        application_bodies.write_publication,
        application_bodies.read_publication,
    ),
    _Conversion(m.ServerAdvert, "server_advert", "server", _write_advert, _read_advert),
    _Conversion(m.Heartbeat, "heartbeat", "heartbeat", _write_heartbeat, _read_heartbeat),
    _Conversion(m.ModelUpdate, "update", "inbox", _write_update, _read_update, ("full", "base", "delta", "buffers")),
    _Conversion(m.ServerModel, "server_model", "model", _write_server_model, _read_server_model, _MODEL),
    _Conversion(m.Metrics, "metrics", "metrics", write_metrics, read_metrics),
    _Conversion(
        m.BlobRequest,
        "blob_request",
        "inbox",
        lambda body: pb.BlobRequest(task=body.task, digest=body.digest),
        lambda wire: m.BlobRequest(task=reading.identifier(wire.task, "task"), digest=reading.digest(wire.digest)),
    ),
    _Conversion(
        m.Blob,
        "blob",
        "inbox",
        lambda body: pb.Blob(task=body.task, digest=body.digest, content=body.content),
        lambda wire: m.Blob(
            task=reading.identifier(wire.task, "task"), digest=reading.digest(wire.digest), content=bytes(wire.content)
        ),
        ("content",),
    ),
    _Conversion(
        m.ModelRequest,
        "model_request",
        "inbox",
        lambda body: pb.ModelRequest(task=body.task, cluster=body.cluster, which=WHICH[body.which]),
        lambda wire: m.ModelRequest(
            task=reading.identifier(wire.task, "task"), cluster=wire.cluster, which=read_which(wire.which)
        ),
    ),
    _Conversion(m.ReleasedModel, "released_model", "inbox", write_released, read_released, _MODEL),
    _Conversion(m.BaseReceipt, "base_receipt", "inbox", _write_receipt, _read_receipt),
    _Conversion(
        m.UpdateReceipt,
        "update_receipt",
        "inbox",
        lambda body: pb.UpdateReceipt(task=body.task, version=body.version),
        lambda wire: m.UpdateReceipt(
            task=reading.identifier(wire.task, "task"), version=reading.count(wire.version, "version")
        ),
    ),
    _Conversion(m.ChunkRequest, "chunk_request", "inbox", _write_chunk_request, _read_chunk_request),
    _Conversion(
        m.ChunkRefusal,
        "chunk_refusal",
        "inbox",
        lambda body: pb.ChunkRefusal(digest=body.digest, reason=body.reason),
        _read_chunk_refusal,
    ),
    _Conversion(
        m.Probe,
        "probe",
        "inbox",
        lambda body: pb.Probe(nonce=body.nonce, suspected=body.suspected),
        lambda wire: m.Probe(
            nonce=reading.count(wire.nonce, "nonce"), suspected=reading.count(wire.suspected, "suspected")
        ),
    ),
    _Conversion(
        m.ProbeRequest,
        "probe_request",
        "inbox",
        lambda body: pb.ProbeRequest(nonce=body.nonce, peer=body.peer, session=body.session, suspected=body.suspected),
        _read_probe_request,
    ),
    _Conversion(m.ProbeAnswer, "probe_answer", "inbox", _write_probe_answer, _read_probe_answer),
    _Conversion(m.RecordDigests, "record_digests", "inbox", short_names.write_digests, short_names.read_digests),
    _Conversion(m.RecordRequest, "record_request", "inbox", short_names.write_request, short_names.read_request),
    _Conversion(m.RecordBatch, "record_batch", "inbox", short_names.write_batch, short_names.read_batch),
)
_BY_TYPE = {conversion.type: conversion for conversion in _CONVERSIONS}
_BY_FIELD = {conversion.field: conversion for conversion in _CONVERSIONS}
_BY_NUMBER = {conversion.number: conversion for conversion in _CONVERSIONS}
NUMBERS = frozenset(_BY_NUMBER)  # of the bodies' fields in a message
