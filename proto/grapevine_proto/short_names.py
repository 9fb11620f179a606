"""Records of tasks by eight bytes: how peers name to each other what they hold, where brokers do not tell.

A short name is the beginning of the SHA-256 of a topic, and the digest of many records is the XOR of eight bytes of
each, so that it does not depend on their order. Neither is proof of anything: that two names are the same by chance
costs a record that is not asked for, and what comes is verified as any other record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from grapevine_proto import messages as m
from grapevine_proto import reading
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.topics import LastingTopic, is_lasting, parse_below_root

NAME_BYTES = 8


@lru_cache(maxsize=1 << 15)
def short_name(topic: LastingTopic) -> bytes:
    """The short name of a topic, `NAME_BYTES` long."""
    return hashlib.sha256(topic.below_root().encode()).digest()[:NAME_BYTES]


def digest_of(sequences: Mapping[bytes, int]) -> int:
    """64 bits that say which records are held, given their short names and sequences; 0 for none."""
    digest = 0
    for name, sequence in sequences.items():
        hashed = hashlib.sha256(name + sequence.to_bytes(8, "big")).digest()
        digest ^= int.from_bytes(hashed[:8], "big")
    return digest


# --- the bodies -----------------------------------------------------------------------------------


def write_digests(body: m.RecordDigests) -> pb.RecordDigests:
    """Its protobuf form."""
    return pb.RecordDigests(names=b"".join(body.sequences), sequences=body.sequences.values())


def read_digests(wire: pb.RecordDigests) -> m.RecordDigests:
    """Raises `WireError`, as the others do."""
    names = _names(wire.names)
    if len(names) != len(wire.sequences):
        raise WireError("malformed", f"{len(names)} names of records and {len(wire.sequences)} sequences")
    sequences = (reading.count(each, "sequence") for each in wire.sequences)
    return m.RecordDigests(sequences=dict(zip(names, sequences, strict=True)))


def write_request(body: m.RecordRequest) -> pb.RecordRequest:
    """Its protobuf form."""
    return pb.RecordRequest(names=b"".join(body.names))


def read_request(wire: pb.RecordRequest) -> m.RecordRequest:
    """Raises `WireError`."""
    return m.RecordRequest(names=tuple(dict.fromkeys(_names(wire.names))))


def write_batch(body: m.RecordBatch) -> pb.RecordBatch:
    """Its protobuf form."""
    return pb.RecordBatch(
        records=[pb.CarriedRecord(topic=each.topic.below_root(), envelope=each.envelope) for each in body.records]
    )


def read_batch(wire: pb.RecordBatch) -> m.RecordBatch:
    """Raises `WireError`. What the envelopes say is not looked at."""
    if len(wire.records) > m.MAX_NAMED:
        raise WireError("out-of-range", f"{len(wire.records)} records in one message, at most {m.MAX_NAMED}")
    return m.RecordBatch(records=tuple(_carried(each) for each in wire.records))


def _carried(wire: pb.CarriedRecord) -> m.CarriedRecord:
    topic = parse_below_root(reading.text(wire.topic, "topic"))
    if not is_lasting(topic):
        raise WireError("malformed", f"{wire.topic!r} is no topic of a manifest, a review or an application")
    return m.CarriedRecord(topic=topic, envelope=wire.envelope)


def _names(joined: bytes) -> list[bytes]:
    if len(joined) % NAME_BYTES or len(joined) > m.MAX_NAMED * NAME_BYTES:
        raise WireError(
            "malformed", f"{len(joined)} bytes of short names: each has 8, and there are {m.MAX_NAMED} at most"
        )
    return [joined[at : at + NAME_BYTES] for at in range(0, len(joined), NAME_BYTES)]


def parted(sequences: Mapping[bytes, int], most: int) -> Iterable[m.RecordDigests]:
    """Digests in messages of no more than a message may name; of `most` records at most, those of the newest."""
    newest = sorted(sequences.items(), key=lambda item: item[1], reverse=True)[:most]
    for at in range(0, len(newest), m.MAX_NAMED):
        yield m.RecordDigests(sequences=dict(newest[at : at + m.MAX_NAMED]))
