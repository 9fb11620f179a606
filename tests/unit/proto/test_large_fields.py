"""What is large is neither copied nor read otherwise than what is small."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.proto.samples import EVERY_BODY, KEY, ME, OTHER, TASK, message
from tests.unit.proto.test_codec import same

from grapevine_proto import bodies, codec, wire_pb2
from grapevine_proto import messages as m
from grapevine_proto.codec import open_envelope, seal, seal_in_parts
from grapevine_proto.errors import WireError
from grapevine_proto.large_fields import MOST_FIELDS, head, set_apart, varint
from grapevine_proto.parts import LARGE, PIECE, Parts
from grapevine_proto.topics import InboxTopic, Topic

INBOX = InboxTopic(OTHER, ME)
RNG = np.random.default_rng(0)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "LARGE", 0)
    monkeypatch.setattr(bodies, "LARGE", 0)


def update(size: int = LARGE) -> m.ModelUpdate:
    base, delta = RNG.standard_normal(size, np.float32), RNG.standard_normal(size, np.float32)
    return m.ModelUpdate(
        task=TASK,
        window=1,
        version=2,
        age=3,
        experience=4,
        samples=5,
        base=base,
        delta=delta,
        base_digest=bytes(32),
        buffers=np.ones(3, np.float32),
        contributions={OTHER: 6},
    )


@pytest.mark.parametrize(("topic", "body"), EVERY_BODY, ids=lambda value: type(value).__name__)
def test_every_message_is_the_same_whichever_way_it_is_read(
    topic: Topic, body: m.Body, everything_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = message(body, receiver_session=5, expires_at_ms=1_800_000_000_000)
    payload = seal(sent, topic, KEY)
    assert same(open_envelope(payload, topic).message, sent)
    assert same(open_envelope(memoryview(bytearray(payload)), topic).message, sent)
    monkeypatch.undo()
    assert same(open_envelope(payload, topic).message, sent)  # protobuf alone reads it, too
    small = seal(sent, topic, KEY)
    monkeypatch.setattr(codec, "LARGE", 0)
    assert same(open_envelope(small, topic).message, sent)


@pytest.mark.parametrize(("topic", "body"), EVERY_BODY, ids=lambda value: type(value).__name__)
def test_truncated_at_any_byte_it_is_a_wire_error(topic: Topic, body: m.Body, everything_is_large: None) -> None:
    payload = seal(message(body), topic, KEY)
    for length in range(len(payload)):
        with pytest.raises(WireError):
            open_envelope(payload[:length], topic)


@pytest.mark.parametrize(("topic", "body"), EVERY_BODY, ids=lambda value: type(value).__name__)
def test_no_bit_can_be_flipped_unnoticed(topic: Topic, body: m.Body, everything_is_large: None) -> None:
    payload = seal(message(body), topic, KEY)
    sent = open_envelope(payload, topic).message
    for position in range(len(payload)):
        flipped = bytearray(payload)
        flipped[position] ^= 1 << position % 8
        try:
            received = open_envelope(bytes(flipped), topic).message
        except WireError:
            continue
        assert same(received, sent)  # the hop counter is not signed


def test_a_large_models_vectors_stay_where_they_are_both_ways() -> None:
    body = update()
    assert body.delta is not None
    parts = seal_in_parts(message(body), INBOX, KEY)
    leaving = [part for part in parts if len(part) == body.delta.nbytes]
    assert len(leaving) == 2
    assert any(np.shares_memory(np.frombuffer(part, np.float32), body.delta) for part in leaving)
    arrived = bytearray(bytes(parts))
    received = open_envelope(memoryview(arrived), INBOX).message.body
    assert isinstance(received, m.ModelUpdate)
    assert received.delta is not None
    assert np.shares_memory(received.delta, np.frombuffer(arrived, np.uint8))
    assert not m.plain(received.delta).flags.writeable
    assert same(received, body)


def test_records_keep_their_bytes_and_a_view_of_a_passing_message_is_not_held() -> None:
    for topic, body in EVERY_BODY:
        payload = seal(message(body), topic, KEY)
        received = open_envelope(memoryview(payload), topic)
        assert received.envelope == (payload if received.is_record else b"")


def test_who_says_a_large_thing_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = bytes(seal(message(m.Heartbeat()), INBOX, KEY))
    monkeypatch.setattr(codec, "LARGE", 0)
    with pytest.raises(WireError, match="twice"):
        open_envelope(payload + payload, INBOX)
    two = wire_pb2.Message(heartbeat=wire_pb2.Heartbeat()).SerializeToString()
    two += wire_pb2.Message(blob=wire_pb2.Blob(task=TASK)).SerializeToString()
    signature = KEY.sign_message(INBOX.below_root(), two)
    envelope = wire_pb2.Envelope(public_key=KEY.public_key, message=two, signature=signature)
    with pytest.raises(WireError, match="2 bodies"):
        open_envelope(envelope.SerializeToString(), INBOX)


def test_a_body_of_a_later_version_is_unknown_and_no_error_of_ours(everything_is_large: None) -> None:
    later = wire_pb2.Message(version=1, sender=ME).SerializeToString() + head(500, 3) + b"new"
    signature = KEY.sign_message(INBOX.below_root(), later)
    envelope = wire_pb2.Envelope(public_key=KEY.public_key, message=later, signature=signature)
    with pytest.raises(WireError, match="unknown-body"):
        open_envelope(envelope.SerializeToString(), INBOX)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (head(1, 5) + b"four", "longer than its message"),
        (varint(1 << 3 | 3), "wire type 3"),
        (varint(1 << 3 | 7), "wire type 7"),
        (b"\x80" * 20, "without an end"),
        (b"\x08\x80", "without an end"),
        (head(2, 0) * (MOST_FIELDS + 1), "more than"),
        (head(1, 1) + b"a" + head(1, 1) + b"b", "twice"),
    ],
)
def test_what_is_no_message_is_a_wire_error(wire: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        set_apart(memoryview(wire), (1,))


def test_what_is_not_set_apart_is_left_in_order() -> None:
    fields = [varint(3 << 3) + varint(300), head(1, 4) + b"wide", varint(2 << 3 | 5) + b"four", head(4, 1) + b"x"]
    fields.append(
        varint(5 << 3 | 1) + b"eight..." + varint(1 << 3) + varint(7)
    )  # field 1 as a number: not what was meant
    rest, found = set_apart(memoryview(b"".join(fields)), (1,))
    assert rest == b"".join(fields[:1] + fields[2:])
    assert {number: bytes(view) for number, view in found.items()} == {1: b"wide"}


# --- parts ----------------------------------------------------------------------------------------


def test_parts_are_given_piece_by_piece_until_their_end() -> None:
    content = RNG.bytes(3 * PIECE + 5)
    parts = Parts((content[:10], b"", content[10 : PIECE + 20], memoryview(content)[PIECE + 20 :]))
    assert len(parts) == len(content)
    assert bytes(parts) == content
    for step in (PIECE, 1000):
        at, pieces = 0, []
        while at < len(parts):
            piece = parts[at:][:step]
            assert 0 < len(piece) <= PIECE
            pieces.append(piece)
            at += len(piece)
        assert b"".join(pieces) == content
    assert len(parts[len(parts) :]) == 0
    assert len(Parts(())) == 0
