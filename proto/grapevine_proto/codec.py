"""Bytes ↔ messages: the one place where protobuf is spoken, and where peers' bytes are judged.

`seal` turns a `Message` into the bytes of a signed envelope. `open_envelope` does the way back and
raises `WireError`, never anything else, for whatever a peer may have sent. Its checks run from cheap to dear:
size, topic, envelope, key ↔ id ↔ topic, signature, and only then the inside.

The conversions of the bodies stand in `bodies`.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from grapevine_proto import bodies, topics, wire_pb2
from grapevine_proto.errors import WireError
from grapevine_proto.messages import RECORDS, Message
from grapevine_proto.reading import MAX_CLAIM
from grapevine_proto.signing import Check, Signer, check_signature, peer_id_of
from grapevine_proto.topics import Topic

PROTOCOL_VERSION = 1
DEFAULT_MAX_BYTES = 64 * 1024 * 1024
_MESSAGE = wire_pb2.Envelope.DESCRIPTOR.fields_by_name["message"].number


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A message with the exact bytes that carried it and where it was heard.

    Its signature was checked, unless `verified` says otherwise: then it comes from our own disk (`reopen_envelope`).
    """

    message: Message
    topic: Topic
    envelope: bytes
    broker: str = ""
    retained: bool = False
    verified: bool = True

    @property
    def is_record(self) -> bool:
        """Whether the body is state (see `messages`)."""
        return isinstance(self.message.body, RECORDS)


def seal(message: Message, topic: Topic, key: Signer) -> bytes:
    """Sign `message` for `topic` and return the MQTT payload."""
    wire = wire_pb2.Message(
        version=PROTOCOL_VERSION,
        sender=message.sender,
        session=message.session,
        sequence=message.sequence,
        created_at_ms=message.created_at_ms,
        expires_at_ms=message.expires_at_ms,
        hop_limit=message.hop_limit,
        receiver_session=message.receiver_session,
    )
    # A model in a message in an envelope would be copied into and out of protobuf at each level, which takes
    # longer than to hash and sign it. Fields of bytes are therefore set in front of, or behind, the others.
    number, body = bodies.serialise(message.body)
    serialised = b"".join((wire.SerializeToString(deterministic=True), _head(number, len(body)), body))
    outside = wire_pb2.Envelope(public_key=key.public_key, signature=key.sign_message(topic.below_root(), serialised))
    return b"".join((_head(_MESSAGE, len(serialised)), serialised, outside.SerializeToString()))


def open_envelope(
    payload: bytes,
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
    _parse(envelope, payload)
    if envelope.WhichOneof("payload") != "message":
        raise WireError("unknown-body", "a sealed envelope, or none")
    writer = topics.writer_of(topic)
    if peer_id_of(envelope.public_key) != writer:
        raise WireError("key-mismatch", f"the key is not that of {writer}, whose topic this is")
    serialised = envelope.message
    check(envelope.public_key, envelope.signature, topic.below_root(), serialised)
    wire = wire_pb2.Message()
    _parse(wire, serialised)
    message = _message(wire, writer)
    if envelope.hops > message.hop_limit:
        raise WireError("hops", f"{envelope.hops} hops, the limit is {message.hop_limit}")
    if not bodies.belongs_on(message.body, topic):
        raise WireError("topic-mismatch", f"a {type(message.body).__name__} does not belong on {topic.below_root()}")
    verified = check is not _take_on_trust
    return Received(message=message, topic=topic, envelope=payload, broker=broker, retained=retained, verified=verified)


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


def _take_on_trust(_public_key: bytes, _signature: bytes, _topic: str, _message: bytes) -> None:
    return


def _head(number: int, length: int) -> bytes:
    """Tag and length of a field of bytes (protobuf encoding: wire type 2, both as varints)."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _parse(into: wire_pb2.Envelope | wire_pb2.Message, payload: bytes) -> None:
    try:
        into.ParseFromString(payload)
    except (DecodeError, RecursionError, ValueError) as error:
        raise WireError("malformed", str(error)) from None


def _message(wire: wire_pb2.Message, writer: str) -> Message:
    if wire.version != PROTOCOL_VERSION:
        raise WireError("version", f"protocol version {wire.version}, this is {PROTOCOL_VERSION}")
    if wire.sender != writer:
        raise WireError("topic-mismatch", f"sender {wire.sender[:64]!r} writes on a topic of {writer}")
    for number in (wire.session, wire.sequence, wire.created_at_ms, wire.expires_at_ms, wire.receiver_session):
        if not 0 <= number <= MAX_CLAIM:
            raise WireError("out-of-range", f"{number} in the message's header")
    return Message(
        sender=writer,  # the same text, and the same object as in the topic
        session=wire.session,
        sequence=wire.sequence,
        body=bodies.read(wire),
        created_at_ms=wire.created_at_ms,
        expires_at_ms=wire.expires_at_ms,
        hop_limit=wire.hop_limit,
        receiver_session=wire.receiver_session,
    )
