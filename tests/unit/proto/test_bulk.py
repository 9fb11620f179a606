from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.proto.samples import EVERY_BODY, KEY, ME, OTHER, TASK, message
from tests.unit.proto.test_codec import same

from grapevine_proto import bodies, bulk, topics, wire_pb2
from grapevine_proto import messages as m
from grapevine_proto.bulk import CHUNK_BYTES, INLINE_CHUNKS, Piece
from grapevine_proto.codec import SealedApart, complete, open_envelope, seal, seal_apart
from grapevine_proto.errors import WireError
from grapevine_proto.parts import Parts
from grapevine_proto.signing import signed_bytes
from grapevine_proto.topics import ChunkTopic, InboxTopic, Topic

LARGE_BODIES = [(topic, body) for topic, body in EVERY_BODY if bodies.num_bytes(body)]
INBOX = InboxTopic(OTHER, ME)


def _apart(body: m.Body, topic: Topic = INBOX) -> SealedApart:
    return seal_apart(message(body), topic, KEY)


def _blob(num_bytes: int) -> m.Blob:
    content = np.random.default_rng(num_bytes).bytes(num_bytes)
    return m.Blob(task=TASK, digest=hashlib.sha256(content).hexdigest(), content=content)


@pytest.mark.parametrize(("topic", "body"), LARGE_BODIES, ids=lambda value: type(value).__name__)
def test_a_message_in_two_is_the_same_message(topic: Topic, body: m.Body) -> None:
    sent = message(body, receiver_session=5, expires_at_ms=1_800_000_000_000)
    sealed = seal_apart(sent, topic, KEY)
    notice = open_envelope(sealed.payload, topic, retained=True)
    assert isinstance(notice.message.body, m.Apart)
    assert notice.message.body.kind is type(body)
    assert notice.bulk == sealed.bulk
    whole = complete(notice, memoryview(bytes(sealed.content)))
    assert same(whole.message, sent)
    assert whole.bulk is None


def test_every_body_with_large_fields_can_travel_apart() -> None:
    assert {type(body) for _, body in LARGE_BODIES} == {m.ModelUpdate, m.ServerModel, m.ReleasedModel, m.Blob}


def test_the_same_bytes_have_the_same_digest_whoever_sends_them() -> None:
    blob = _blob(3 * CHUNK_BYTES + 1)
    one, other = _apart(blob), seal_apart(message(blob, receiver_session=7), INBOX, KEY)
    assert one.payload != other.payload
    assert one.bulk == other.bulk
    assert one.bulk.transfer == one.bulk.digest.hex()[:20]


@pytest.mark.parametrize("num_bytes", [1, CHUNK_BYTES, CHUNK_BYTES + 1, INLINE_CHUNKS * CHUNK_BYTES + 1])
def test_each_chunk_can_be_checked(num_bytes: int) -> None:
    blob = _blob(num_bytes)
    sealed = _apart(blob)
    index = bulk.index_of(sealed.content)
    assert bulk.is_index(sealed.bulk.digest, index)
    assert sealed.bulk.index == (index if sealed.bulk.num_chunks <= INLINE_CHUNKS else b"")
    assert len(sealed.payload) < 4_000
    for chunk in range(sealed.bulk.num_chunks):
        start, end = bulk.span_of(chunk, num_bytes)
        assert bulk.is_chunk(index, chunk, blob.content[start:end])
        assert not bulk.is_chunk(index, chunk, blob.content[start:end] + b"x")
    assert end == num_bytes


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_what_lies_between_two_offsets_of_parts(parts: list[bytes], start: int, end: int) -> None:
    assert b"".join(Parts(parts).between(start, end)) == b"".join(parts)[start:end]


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=100), st.integers(1, 40))
def test_pieces_are_the_whole(content: bytes, at_most: int) -> None:
    pieces = list(bulk.pieces_of(Parts([content]), 0, len(content), index=False, at_most=at_most))
    assert b"".join(bytes(piece.content) for piece in pieces) == content
    assert max(len(piece.content) for piece in pieces) <= at_most
    for piece in pieces:
        assert bulk.read_piece(bulk.write_piece(piece)) == piece
    assert bulk.write_piece(Piece(False, 2**31, b"x" * CHUNK_BYTES)).__len__() < CHUNK_BYTES + 20


def _forged(change: object, body: m.Body | None = None) -> bytes:
    """A notice whose author signed something else than `seal_apart` makes."""
    sealed = _apart(body or _blob(2 * CHUNK_BYTES))
    envelope = wire_pb2.Envelope.FromString(sealed.payload)
    wire = wire_pb2.Message.FromString(envelope.message)
    change(wire)  # type: ignore[operator]
    envelope.message = wire.SerializeToString()
    envelope.signature = KEY.sign(signed_bytes(INBOX.below_root(), envelope.message))
    return envelope.SerializeToString()


def _set(name: str, value: object) -> object:
    def change(wire: wire_pb2.Message) -> None:
        field = getattr(wire.bulk, name)
        if isinstance(value, list):
            del field[:]
            field.extend(value)
        else:
            setattr(wire.bulk, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("num_bytes", 0), "too-big"),
        (_set("num_bytes", bulk.LARGEST_BULK + 1), "too-big"),
        (_set("num_bytes", 2**64 - 1), "too-big"),
        (_set("digest", b"short"), "malformed"),
        (_set("digest", bytes(32)), "digest"),
        (_set("index", b"x" * 64), "digest"),
        (_set("index", b"x"), "digest"),
        (_set("fields", []), "malformed"),
        (_set("fields", [1]), "malformed"),
        (_set("fields", [3, 3]), "malformed"),
        (_set("fields", list(range(5000))), "malformed"),
        (_set("lengths", [1]), "malformed"),
        (_set("lengths", [2 * CHUNK_BYTES, 0]), "malformed"),
        (lambda wire: setattr(wire.blob, "content", b"also here"), "malformed"),
        (lambda wire: setattr(wire.blob, "task", "No Task"), "malformed"),
        (lambda wire: wire.heartbeat.SetInParent(), "unknown-body"),
        (lambda wire: wire.ClearField("blob"), "unknown-body"),
    ],
)
def test_a_bulk_that_is_none_is_a_wire_error(change: object, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        open_envelope(_forged(change), INBOX)
    assert caught.value.reason == reason


def test_a_large_body_with_a_bulk_beside_it_is_refused() -> None:
    body = _blob(2 * CHUNK_BYTES)
    payload = _forged(lambda wire: wire.blob.CopyFrom(wire_pb2.Blob(task=TASK, content=bytes(400_000))), body)
    with pytest.raises(WireError, match="malformed"):
        open_envelope(payload, INBOX)


def test_an_update_whose_fields_are_none_together_is_a_wire_error() -> None:
    update = next(body for _, body in LARGE_BODIES if isinstance(body, m.ModelUpdate))
    wrong = replace(update, full=None, base=np.ones(3, np.float32), delta=None, base_digest=b"")
    notice = open_envelope(_apart(wrong).payload, INBOX)
    with pytest.raises(WireError, match="malformed"):
        complete(notice, memoryview(bytes(_apart(wrong).content)))


def test_requests_are_bounded() -> None:
    digest = bytes(32)
    asked = m.ChunkRequest(digest=digest, chunks=tuple(range(bulk.MAX_ASKED)))
    assert open_envelope(seal(message(asked), INBOX, KEY), INBOX).message.body == asked
    for wrong in (replace(asked, chunks=tuple(range(bulk.MAX_ASKED + 1))), replace(asked, digest=b"x")):
        with pytest.raises(WireError):
            open_envelope(seal(message(wrong), INBOX, KEY), INBOX)


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("root/inbox/me/you/abc", ChunkTopic("me", "you", "abc")),
        ("root/inbox/me/you", None),
        ("root/inbox/me/you/ABC", None),
        ("root/inbox/me/you/a/b", None),
        ("other/inbox/me/you/abc", None),
        ("root/peer/me/you/abc", None),
    ],
)
def test_topics_of_chunks(name: str, topic: ChunkTopic | None) -> None:
    assert topics.parse_chunk("root", name) == topic
    if topic is not None:
        assert f"root/{topic.below_root()}" == name
        assert topics.writer_of(topic) == "you"
        with pytest.raises(WireError):
            topics.parse("root", name)


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a", bytes(9)])
def test_a_payload_that_is_no_chunk_is_a_wire_error(payload: bytes) -> None:
    with pytest.raises(WireError, match="malformed"):
        bulk.read_piece(payload)
