"""What is too large for a packet: the large fields of a body, as chunks that can be checked one by one.

    body ──▶ message without them, signed ───────────────▶ the *notice*: small, sent as any message
        └──▶ their bytes, one after the other ─▶ the *bulk*: chunks of 120,000 bytes, asked for one by one

    index  = SHA-256(chunk 0) ‖ SHA-256(chunk 1) ‖ …        32 bytes each
    digest = SHA-256(index)                                 stands in the notice, and is signed with it

A chunk needs no signature: the index says what it must be, and the digest what the index must be. The same bytes have
the same digest, whoever sends them and whatever the notice: what was got before a crash is good after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from grapevine_proto import wire_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.parts import Parts
from grapevine_proto.reading import parsed

CHUNK_BYTES: Final = 120_000  # with topic and header it fits into 128 KiB, which the smallest of the large brokers take
APART_BYTES: Final = 500_000  # large fields that take more travel apart: 0.2 s on a line of 20 Mbit/s
NOTICE_BYTES: Final = 4_000  # of a message whose large fields travel apart, about
HASH_BYTES: Final = 32
INLINE_CHUNKS: Final = 64  # of a bulk whose index stands in the notice
LARGEST_BULK: Final = 1 << 30  # 268 million float32
MAX_ASKED: Final = 16  # chunks in one request
TRANSFER_DIGITS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Bulk:
    """The large fields of a body that travel apart from it. `index` is empty where it must be asked for."""

    digest: bytes
    num_bytes: int
    fields: tuple[int, ...]  # their numbers, ascending
    lengths: tuple[int, ...]  # bytes of each
    index: bytes = b""

    @property
    def num_chunks(self) -> int:
        """How many chunks there are."""
        return num_chunks(self.num_bytes)

    @property
    def transfer(self) -> str:
        """The last level of the topic on which its chunks travel."""
        return transfer_of(self.digest)


def transfer_of(digest: bytes) -> str:
    """The last level of the topic on which the chunks of a bulk travel."""
    return digest.hex()[:TRANSFER_DIGITS]


def num_chunks(num_bytes: int) -> int:
    """The chunks of so many bytes."""
    return -(-num_bytes // CHUNK_BYTES)


def span_of(chunk: int, num_bytes: int) -> tuple[int, int]:
    """Where a chunk begins and ends in its bulk."""
    return chunk * CHUNK_BYTES, min(num_bytes, (chunk + 1) * CHUNK_BYTES)


def index_of(content: Parts) -> bytes:
    """The index of a bulk. Takes a pass over all of it."""
    return b"".join(_hash(content, start) for start in range(0, len(content), CHUNK_BYTES))


def is_chunk(index: bytes, chunk: int, content: bytes | memoryview) -> bool:
    """Whether these bytes are the chunk that the index says."""
    return hashlib.sha256(content).digest() == index[chunk * HASH_BYTES : (chunk + 1) * HASH_BYTES]


def is_index(digest: bytes, index: bytes | bytearray) -> bool:
    """Whether this is the index of the bulk with this digest."""
    return hashlib.sha256(index).digest() == digest


def make_bulk(fields: Mapping[int, memoryview], index: bytes) -> Bulk:
    """The bulk of a body's fields, one after the other, whose index this is."""
    return Bulk(
        digest=hashlib.sha256(index).digest(),
        num_bytes=sum(map(len, fields.values())),
        fields=tuple(fields),
        lengths=tuple(map(len, fields.values())),
        index=index if len(index) <= INLINE_CHUNKS * HASH_BYTES else b"",
    )


def write_bulk(bulk: Bulk) -> pb.Bulk:
    """As it travels."""
    return pb.Bulk(
        digest=bulk.digest, num_bytes=bulk.num_bytes, fields=bulk.fields, lengths=bulk.lengths, index=bulk.index
    )


def read_bulk(wire: pb.Bulk, numbers: Collection[int]) -> Bulk:
    """What a peer says of a bulk, of a body whose large fields have these numbers. Raises `WireError`."""
    bulk = Bulk(
        digest=wire.digest,
        num_bytes=wire.num_bytes,
        fields=tuple(wire.fields[: len(numbers) + 1]),
        lengths=tuple(wire.lengths[: len(numbers) + 1]),
        index=wire.index,
    )
    if not 0 < bulk.num_bytes <= LARGEST_BULK:
        raise WireError("too-big", f"a bulk of {bulk.num_bytes} bytes, at most {LARGEST_BULK}")
    ascending = all(a < b for a, b in zip(bulk.fields, bulk.fields[1:], strict=False))
    if len(bulk.fields) != len(bulk.lengths) or not ascending or not set(bulk.fields) <= set(numbers):
        raise WireError("malformed", f"a bulk of the fields {bulk.fields} in {len(bulk.lengths)} lengths")
    if sum(bulk.lengths) != bulk.num_bytes or not all(bulk.lengths):
        raise WireError("malformed", f"a bulk of {bulk.num_bytes} bytes in fields of {bulk.lengths}")
    check_digest(bulk.digest)
    if bulk.index and (len(bulk.index) != HASH_BYTES * bulk.num_chunks or not is_index(bulk.digest, bulk.index)):
        raise WireError("digest", "a bulk's index is not what its digest says")
    return bulk


def check_digest(digest: bytes) -> bytes:
    """Raise `WireError` unless this is a SHA-256."""
    if len(digest) != HASH_BYTES:
        raise WireError("malformed", f"the digest of a bulk has {HASH_BYTES} bytes, not {len(digest)}")
    return digest


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a chunk, or of an index, as they travel."""

    index: bool
    offset: int
    content: bytes | memoryview


def write_piece(piece: Piece) -> bytes:
    """The payload of a piece."""
    return pb.Chunk(index=piece.index, offset=piece.offset, content=bytes(piece.content)).SerializeToString()


def read_piece(payload: bytes | memoryview) -> Piece:
    """The piece in a payload. Raises `WireError`."""
    wire = parsed(pb.Chunk, bytes(payload), "a chunk")
    return Piece(wire.index, wire.offset, wire.content)


def pieces_of(content: Parts, start: int, end: int, *, index: bool, at_most: int) -> Iterator[Piece]:
    """What lies between two offsets, in pieces of at most so many bytes."""
    while start < end:
        stop = min(end, start + at_most)
        yield Piece(index, start, b"".join(content.between(start, stop)))
        start = stop


def _hash(content: Parts, start: int) -> bytes:
    digest = hashlib.sha256()
    for view in content.between(start, start + CHUNK_BYTES):
        digest.update(view)
    return digest.digest()
