from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.proto.samples import BUFFERS, EVERY_BODY, KEY, ME, OTHER, TASK, VECTOR, message

from grapevine_proto import bodies, wire_pb2
from grapevine_proto import messages as m
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.errors import WireError
from grapevine_proto.signing import SigningKey, signed_bytes
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic


def same(one: object, other: object) -> bool:
    """Equality that looks into vectors."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, f.name), getattr(other, f.name))
            for f in fields(one)  # type: ignore[arg-type]
        )
    return one == other


@pytest.mark.parametrize(("topic", "body"), EVERY_BODY, ids=lambda value: type(value).__name__)
def test_every_message_round_trips(topic: Topic, body: m.Body) -> None:
    sent = message(body, receiver_session=5, expires_at_ms=1_800_000_000_000)
    payload = seal(sent, topic, KEY)
    received = open_envelope(payload, topic, broker="here", retained=True)
    assert same(received.message, sent)
    assert received.envelope == payload
    assert received.topic == topic


@pytest.mark.parametrize(("topic", "body"), EVERY_BODY, ids=lambda value: type(value).__name__)
def test_a_message_truncated_at_any_byte_is_a_wire_error(topic: Topic, body: m.Body) -> None:
    payload = seal(message(body), topic, KEY)
    for length in range(len(payload)):
        with pytest.raises(WireError):
            open_envelope(payload[:length], topic)


@pytest.mark.parametrize(("topic", "body"), EVERY_BODY, ids=lambda value: type(value).__name__)
def test_no_bit_can_be_flipped_unnoticed(topic: Topic, body: m.Body) -> None:
    payload = seal(message(body), topic, KEY)
    sent = open_envelope(payload, topic).message
    for position in range(len(payload)):
        flipped = bytearray(payload)
        flipped[position] ^= 1 << position % 8
        try:
            received = open_envelope(bytes(flipped), topic).message
        except WireError:
            continue
        # Only the unsigned hop counter, or a field number that nobody reads, can have changed.
        assert same(received, sent)


@given(payload=st.binary(max_size=200))
def test_any_bytes_are_a_wire_error(payload: bytes) -> None:
    with pytest.raises(WireError):
        open_envelope(payload, PeerTopic(ME, "state"))


def test_a_message_does_not_verify_on_another_topic() -> None:
    body = m.Review(task=TASK, approved=True)
    payload = seal(message(body), TaskTopic(ME, TASK, "review"), KEY)
    with pytest.raises(WireError, match="bad-signature"):
        open_envelope(payload, TaskTopic(ME, "8" * 64, "review"))


def test_nobody_writes_on_another_peers_topic() -> None:
    topic = PeerTopic(OTHER, "state")
    with pytest.raises(WireError, match="key-mismatch"):
        open_envelope(seal(message(m.PeerState(online=False)), topic, KEY), topic)


def test_a_sender_that_is_not_the_key_is_refused() -> None:
    topic = PeerTopic(ME, "state")
    lie = m.Message(sender=OTHER, session=1, sequence=1, body=m.PeerState(online=True))
    with pytest.raises(WireError, match="topic-mismatch"):
        open_envelope(seal(lie, topic, KEY), topic)


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        (PeerTopic(ME, "state"), m.Heartbeat()),
        (TaskTopic(ME, TASK, "review"), m.Review(task="8" * 64, approved=True)),
        (TaskTopic(ME, TASK, "manifest"), m.TaskPublication(manifest=b"of another digest")),
        (InboxTopic(OTHER, ME), m.PeerState(online=True)),
        (TaskTopic(ME, TASK, "model"), m.Metrics(task=TASK, round=1, age=1, loss=0, metric=0, num_evaluated=0)),
    ],
)
def test_a_body_that_does_not_belong_on_its_topic_is_refused(topic: Topic, body: m.Body) -> None:
    with pytest.raises(WireError, match="topic-mismatch"):
        open_envelope(seal(message(body), topic, KEY), topic)


def test_a_payload_over_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(WireError, match="too-big"):
        open_envelope(b"\xff" * 1001, PeerTopic(ME, "state"), max_bytes=1000)


def test_an_erased_record_says_nothing() -> None:
    with pytest.raises(WireError, match="empty"):
        open_envelope(b"", PeerTopic(ME, "state"))


def raw(topic: Topic, wire: wire_pb2.Message, key: SigningKey = KEY) -> bytes:
    """A signed envelope around a hand-made protobuf message."""
    content = wire.SerializeToString()
    signature = key.sign(signed_bytes(topic.below_root(), content))
    return wire_pb2.Envelope(message=content, public_key=key.public_key, signature=signature).SerializeToString()


def update(**changes: object) -> wire_pb2.Message:
    body: dict[str, object] = {"task": TASK, "full": VECTOR.tobytes(), "buffers": BUFFERS.tobytes()} | changes
    return wire_pb2.Message(version=1, sender=ME, session=1, sequence=1, update=wire_pb2.ModelUpdate(**body))  # type: ignore[arg-type]


def test_contributors_as_version_0_1_sends_them_are_understood() -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    one_by_one = [field(1, peer.encode()) + bytes([2 << 3, version]) for peer, version in ((ME, 4), (OTHER, 7))]
    wire = wire_pb2.ModelUpdate.FromString(b"".join(field(12, each) for each in one_by_one))
    wire.task, wire.full = TASK, VECTOR.tobytes()
    read = bodies.read(wire_pb2.Message(update=wire))
    assert isinstance(read, m.ModelUpdate)
    assert read.contributions == {ME: 4, OTHER: 7}


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (wire_pb2.Message(version=2, sender=ME, state=wire_pb2.PeerState(online=True)), "version"),
        (wire_pb2.Message(version=1, sender=ME), "unknown-body"),
        (update(age=2**60), "out-of-range"),
        (update(version=2**64 - 1), "out-of-range"),
        (update(full=b"abc"), "malformed"),
        (update(delta=VECTOR.tobytes()), "malformed"),
        (update(full=b"", delta=VECTOR.tobytes()), "malformed"),
        (update(full=b""), "malformed"),
        (update(task="no such id!"), "malformed"),
        (update(contributions=wire_pb2.Contributions(peers=["x"] * 1001, versions=[1] * 1001)), "out-of-range"),
        (update(contributions=wire_pb2.Contributions(peers=[ME], versions=[])), "malformed"),
        (update(contributions=wire_pb2.Contributions(peers=["no such id!"], versions=[1])), "malformed"),
        (update(contributions=wire_pb2.Contributions(peers=[ME], versions=[2**60])), "out-of-range"),
        (wire_pb2.Message(version=1, sender=ME, session=2**60, update=update().update), "out-of-range"),
        (wire_pb2.Message(version=1, sender=ME, created_at_ms=-1, update=update().update), "out-of-range"),
        (
            wire_pb2.Message(version=1, sender=ME, blob_request=wire_pb2.BlobRequest(task=TASK, digest="../passwd")),
            "malformed",
        ),
    ],
)
def test_what_a_signed_message_claims_is_still_bounded(wire: wire_pb2.Message, reason: str) -> None:
    topic = InboxTopic(OTHER, ME)
    with pytest.raises(WireError) as caught:
        open_envelope(raw(topic, wire), topic)
    assert caught.value.reason == reason


@pytest.mark.parametrize("loss", [float("nan")])
def test_metrics_that_are_not_numbers_are_refused(loss: float) -> None:
    topic = TaskTopic(ME, TASK, "metrics")
    body = m.Metrics(task=TASK, round=1, age=1, loss=loss, metric=0.5, num_evaluated=1)
    with pytest.raises(WireError, match="out-of-range"):
        open_envelope(seal(message(body), topic, KEY), topic)


def test_a_relay_may_count_up_hops_but_not_past_the_limit() -> None:
    topic = PeerTopic(ME, "state")
    envelope = wire_pb2.Envelope.FromString(seal(message(m.PeerState(online=True)), topic, KEY))
    envelope.hops = 4
    assert open_envelope(envelope.SerializeToString(), topic).message.hop_limit == 4
    envelope.hops = 5
    with pytest.raises(WireError, match="hops"):
        open_envelope(envelope.SerializeToString(), topic)


@settings(max_examples=25)
@given(values=st.lists(st.floats(width=32, allow_nan=False), max_size=50))
def test_vectors_arrive_to_the_bit(values: list[float]) -> None:
    topic = TaskTopic(ME, TASK, "model")
    vector = np.array(values, np.float32)
    sent = message(m.ServerModel(task=TASK, model_version=1, age=1, full=vector))
    body = open_envelope(seal(sent, topic, KEY), topic).message.body
    assert isinstance(body, m.ServerModel)
    assert m.plain(body.full).tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        (PeerTopic(ME, "announcement"), m.PeerAnnouncement(tasks=(TASK,) * (m.MAX_TASKS + 1))),
        (PeerTopic(ME, "announcement"), m.PeerAnnouncement(data_kinds=("k",) * (m.MAX_KINDS + 1))),
        (PeerTopic(ME, "announcement"), m.PeerAnnouncement(brokers=("mqtt://hub",) * (m.MAX_BROKERS + 1))),
        (
            PeerTopic(ME, "heartbeat"),
            m.Heartbeat(progress=(m.TaskProgress(task=TASK, version=1, age=1),) * (m.MAX_TASKS + 1)),
        ),
    ],
)
def test_what_is_kept_of_every_peer_is_short(topic: PeerTopic, body: m.Body) -> None:
    with pytest.raises(WireError, match="out-of-range"):
        open_envelope(seal(message(body), topic, KEY), topic)


def test_a_key_of_another_length_is_refused_before_it_is_looked_at() -> None:
    envelope = wire_pb2.Envelope.FromString(seal(message(m.PeerState(online=True)), PeerTopic(ME, "state"), KEY))
    envelope.public_key = bytes(500_000)
    with pytest.raises(WireError, match="a key of 500000 bytes, not 32"):
        open_envelope(envelope.SerializeToString(), PeerTopic(ME, "state"))


@pytest.mark.parametrize(
    ("state", "read"),
    [
        (wire_pb2.PeerState(goodbye=True, asleep_until_ms=1_000), 1_000),
        (wire_pb2.PeerState(goodbye=True, asleep_until_ms=-1), 0),
        (wire_pb2.PeerState(asleep_until_ms=1_000), 0),
        (wire_pb2.PeerState(online=True, goodbye=True, asleep_until_ms=1_000), 0),
    ],
)
def test_only_a_goodbye_says_until_when_a_peer_sleeps(state: wire_pb2.PeerState, read: int) -> None:
    said = m.PeerState(online=state.online, goodbye=state.goodbye, asleep_until_ms=state.asleep_until_ms)
    topic = PeerTopic(ME, "state")
    sealed = seal(message(said), topic, KEY)
    body = open_envelope(sealed, topic).message.body
    assert isinstance(body, m.PeerState)
    assert body.asleep_until_ms == read
