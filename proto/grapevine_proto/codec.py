"""Bytes ↔ messages: the one place where protobuf is spoken, and where peers' bytes are judged.

`seal` turns a `Message` into the bytes of a signed envelope. `open_envelope` does the way back and
raises `WireError`, never anything else, for whatever a peer may have sent. Its checks run from cheap to dear:
size, topic, envelope, key ↔ id ↔ topic, signature, and only then the inside.

The conversions of the bodies stand in `bodies`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from google.protobuf.message import DecodeError

from grapevine_proto import bodies, topics, wire_pb2
from grapevine_proto.bulk import Bulk, index_of, make_bulk, write_bulk
from grapevine_proto.errors import WireError
from grapevine_proto.large_fields import head, set_apart
from grapevine_proto.messages import MOST_HOPS, RECORDS, Apart, Message
from grapevine_proto.parts import LARGE, Parts
from grapevine_proto.reading import MAX_CLAIM
from grapevine_proto.signing import Check, Signer, check_signature, peer_id_of
from grapevine_proto.topics import Topic

PROTOCOL_VERSION = 1
DEFAULT_MAX_BYTES = 64 * 1024 * 1024
KEY_BYTES = 32  # of an Ed25519 public key
_MESSAGE = wire_pb2.Envelope.DESCRIPTOR.fields_by_name["message"].number


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A message with the exact bytes that carried it and where it was heard.

    Its signature was checked, unless `verified` says otherwise: then it comes from our own disk (`reopen_envelope`).
    Of a passing message that arrived as a view of a larger buffer there is no envelope: nobody relays it.
    """

    message: Message
    topic: Topic
    envelope: bytes
    broker: str = ""
    retained: bool = False
    verified: bool = True
    bulk: Bulk | None = None  # where the rest of the body is, if that is `Apart`
    hops: int = 0  # how many relays have said it again; nobody has signed that

    @property
    def is_record(self) -> bool:
        """Whether the body is state (see `messages`)."""
        return isinstance(self.message.body, RECORDS)


def seal(message: Message, topic: Topic, key: Signer) -> bytes:
    """Sign `message` for `topic` and return the MQTT payload."""
    return bytes(seal_in_parts(message, topic, key))


def seal_in_parts(message: Message, topic: Topic, key: Signer) -> Parts:
    """The same payload in parts: vectors are not copied, and must not be modified while it is used."""
    return _sealed(_header(message), topic, key, *bodies.serialise_in_parts(message.body))


@dataclass(frozen=True, kw_only=True, slots=True)
class SealedApart:
    """A message in two: what is sent, and the bulk that its receiver asks for then."""

    payload: bytes
    bulk: Bulk
    index: bytes
    content: Parts


def seal_apart(message: Message, topic: Topic, key: Signer) -> SealedApart:
    """Sign `message`, without its large fields, of which there must be some. They are not copied."""
    number, rest, large = bodies.serialise_apart(message.body)
    content = Parts(large.values())
    index = index_of(content)
    bulk = make_bulk(large, index)
    wire = _header(message)
    wire.bulk.CopyFrom(write_bulk(bulk))
    return SealedApart(
        payload=bytes(_sealed(wire, topic, key, number, [rest])), bulk=bulk, index=index, content=content
    )


def complete(received: Received, content: memoryview) -> Received:
    """The message, now that its bulk is here, whose bytes these are. Raises `WireError`."""
    bulk, apart = received.bulk, received.message.body
    if bulk is None or not isinstance(apart, Apart) or len(content) != bulk.num_bytes:
        raise ValueError("no message whose bulk this is")
    ends = list(accumulate(bulk.lengths))
    views = (content[end - length : end] for end, length in zip(ends, bulk.lengths, strict=True))
    body = bodies.complete(apart, dict(zip(bulk.fields, views, strict=True)))
    return replace(received, message=replace(received.message, body=body), bulk=None)


def _header(message: Message) -> wire_pb2.Message:
    return wire_pb2.Message(
        version=PROTOCOL_VERSION,
        sender=message.sender,
        session=message.session,
        sequence=message.sequence,
        created_at_ms=message.created_at_ms,
        expires_at_ms=message.expires_at_ms,
        hop_limit=message.hop_limit,
        receiver_session=message.receiver_session,
    )


def _sealed(
    wire: wire_pb2.Message, topic: Topic, key: Signer, number: int, body: Sequence[bytes | memoryview]
) -> Parts:
    # Fields of bytes are set in front of, or behind, the others, so that nothing goes through protobuf at each level.
    inside = [wire.SerializeToString(deterministic=True), head(number, sum(map(len, body))), *body]
    signature = key.sign_message(topic.below_root(), *inside)
    outside = wire_pb2.Envelope(public_key=key.public_key, signature=signature)
    return Parts((head(_MESSAGE, sum(map(len, inside))), *inside, outside.SerializeToString()))


def open_envelope(
    payload: bytes | memoryview,
    topic: Topic,
    *,
    broker: str = "",
    retained: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
    check: Check = check_signature,
) -> Received:
    """Verify and decode what arrived on `topic`. Raises `WireError` with the reason that is counted.

    `check` raises unless the signature is the key's. A simulation, where every byte was made in the
    same process, may leave that out; nothing that has a network does.
    """
    if not payload:
        raise WireError("empty")  # an empty retained payload erases nothing
    if len(payload) > max_bytes:
        raise WireError("too-big", f"{len(payload)} bytes, at most {max_bytes} are taken")
    envelope = wire_pb2.Envelope()
    serialised = _message_in(envelope, payload)
    if serialised is None:
        raise WireError("unknown-body", "a sealed envelope, or none")
    writer = topics.writer_of(topic)
    if len(envelope.public_key) != KEY_BYTES:
        raise WireError("key-mismatch", f"a key of {len(envelope.public_key)} bytes, not {KEY_BYTES}")
    if peer_id_of(envelope.public_key) != writer:
        raise WireError("key-mismatch", f"the key is not that of {writer}, whose topic this is")
    check(envelope.public_key, envelope.signature, topic.below_root(), serialised)
    wire = wire_pb2.Message()
    body = _body_in(wire, serialised)
    message, bulk = _message(wire, body, writer)
    if envelope.hops > min(message.hop_limit, MOST_HOPS):
        raise WireError("hops", f"{envelope.hops} hops, the limit is {min(message.hop_limit, MOST_HOPS)}")
    if not bodies.belongs_on(message.body, topic):
        raise WireError("topic-mismatch", f"a {type(message.body).__name__} does not belong on {topic.below_root()}")
    verified = check is not _take_on_trust
    kept = bytes(payload) if isinstance(payload, bytes) or isinstance(message.body, RECORDS) else b""
    return Received(
        message=message,
        topic=topic,
        envelope=kept,
        broker=broker,
        retained=retained,
        verified=verified,
        bulk=bulk,
        hops=envelope.hops,
    )


def with_hops(payload: bytes, hops: int) -> Parts:
    """A sealed message as a relay says it again, so many hops from where its sender is."""
    return Parts(
        (payload, wire_pb2.Envelope(hops=hops).SerializeToString())
    )  # of a field that comes twice the last holds


def reopen_envelope(payload: bytes, topic: Topic) -> Received:
    """Decode what this device once verified and has kept since: all of `open_envelope` but the signature.

    The signature takes as long as everything else together, several times over. Whoever relays such a message,
    or acts upon it, asks `is_authentic` first: bytes on a disk change. Raises `WireError` for what is no message.
    """
    return open_envelope(payload, topic, retained=True, check=_take_on_trust)


def is_authentic(received: Received) -> bool:
    """Whether the signature of a message holds. Of a verified one it does, without looking."""
    if received.verified:
        return True
    try:
        open_envelope(received.envelope, received.topic)
    except WireError:
        return False
    return True


def _take_on_trust(_public_key: bytes, _signature: bytes, _topic: str, _message: bytes | memoryview) -> None:
    return


def _message_in(envelope: wire_pb2.Envelope, payload: bytes | memoryview) -> bytes | memoryview | None:
    """Parse an envelope; the message in it, None if there is none. Of a large one the message stays where it is."""
    if len(payload) < LARGE:
        _parse(envelope, payload)
        return envelope.message if envelope.WhichOneof("payload") == "message" else None
    rest, found = set_apart(memoryview(payload).toreadonly(), (_MESSAGE,))
    _parse(envelope, rest)
    return found.get(_MESSAGE) if envelope.WhichOneof("payload") is None else None


def _body_in(wire: wire_pb2.Message, serialised: bytes | memoryview) -> bodies.EncodedBody | None:
    """Parse a message; its body apart if it is large, None if it is in `wire`."""
    if len(serialised) < LARGE:
        _parse(wire, serialised)
        return None
    rest, found = set_apart(memoryview(serialised), bodies.NUMBERS)
    _parse(wire, rest)
    if len(found) != 1:
        raise WireError("unknown-body" if not found else "malformed", f"{len(found)} bodies in a large message")
    return next(iter(found.items()))


def _parse(into: wire_pb2.Envelope | wire_pb2.Message, payload: bytes | memoryview) -> None:
    try:
        into.ParseFromString(bytes(payload))  # of bytes, itself
    except (DecodeError, RecursionError, ValueError) as error:
        raise WireError("malformed", str(error)) from None


def _message(wire: wire_pb2.Message, encoded: bodies.EncodedBody | None, writer: str) -> tuple[Message, Bulk | None]:
    if wire.version != PROTOCOL_VERSION:
        raise WireError("version", f"protocol version {wire.version}, this is {PROTOCOL_VERSION}")
    if wire.sender != writer:
        raise WireError("topic-mismatch", f"sender {wire.sender[:64]!r} writes on a topic of {writer}")
    for number in (wire.session, wire.sequence, wire.created_at_ms, wire.expires_at_ms, wire.receiver_session):
        if not 0 <= number <= MAX_CLAIM:
            raise WireError("out-of-range", f"{number} in the message's header")
    bulk: Bulk | None = None
    if encoded is not None:
        if wire.HasField("bulk"):
            raise WireError("malformed", "a large body, and a bulk beside it")
        body = bodies.read_large(*encoded)
    elif wire.HasField("bulk"):
        body, bulk = bodies.read_apart(wire)
    else:
        body = bodies.read(wire)
    message = Message(
        sender=writer,  # the same text, and the same object as in the topic
        session=wire.session,
        sequence=wire.sequence,
        body=body,
        created_at_ms=wire.created_at_ms,
        expires_at_ms=wire.expires_at_ms,
        hop_limit=wire.hop_limit,
        receiver_session=wire.receiver_session,
    )
    return message, bulk
