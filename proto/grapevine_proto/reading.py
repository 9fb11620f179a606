"""Reading what a peer wrote, with suspicion: counts, texts, ids, lists and vectors, each within its bounds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as WireMessage

from grapevine_proto import messages as m
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.encoding import Encoding, Numbers
from grapevine_proto.errors import WireError
from grapevine_proto.topics import are_ids, is_id

MAX_CLAIM = 2**53  # beyond it a float64 no longer counts by ones, and no honest counter gets there
MAX_TEXT = 500  # characters of a name or a reason
MAX_LIST = 1_000  # tasks, contributors, brokers
_NUMBERS: dict[Numbers, pb.Numbers] = {
    "float32": pb.NUMBERS_FLOAT32,
    "float16": pb.NUMBERS_FLOAT16,
    "bfloat16": pb.NUMBERS_BFLOAT16,
    "int8": pb.NUMBERS_INT8,
    "top-k": pb.NUMBERS_TOP_K,
}
_NUMBERS_BY_WIRE: dict[int, Numbers] = {number: name for name, number in _NUMBERS.items()}
_OF_MODELS: tuple[Numbers, ...] = ("float32", "float16", "bfloat16", "int8")
_OF_BUFFERS: tuple[Numbers, ...] = ("float32", "float16")  # a variance that int8 takes to 0 divides by nothing
_FIELDS = {"base": "base_encoding", "buffers": "buffers_encoding"}  # of the others: `encoding`

Item = TypeVar("Item")
Converted = TypeVar("Converted")
Wire = TypeVar("Wire", bound=WireMessage)


def parsed(kind: type[Wire], encoded: bytes, what: str) -> Wire:
    """The protobuf message of this kind in these bytes. Raises `WireError`."""
    try:
        return kind.FromString(encoded)
    except DecodeError as error:
        raise WireError("malformed", f"not {what}: {error}") from error


def count(value: int, what: str) -> int:
    """A whole number that can be a count. Raises `WireError`."""
    if not 0 <= value <= MAX_CLAIM:
        raise WireError("out-of-range", f"{what} = {value}, at most 2**53 is believed")
    return value


def real(value: float, what: str, low: float = -math.inf) -> float:
    """A number, not NaN and not below `low`. Raises `WireError`."""
    if math.isnan(value) or value < low:
        raise WireError("out-of-range", f"{what} = {value}")
    return value


def finite(value: float, what: str) -> float:
    """A number that is finite. Raises `WireError`."""
    if not math.isfinite(value):
        raise WireError("out-of-range", f"{what} = {value}")
    return value


def text(value: str, what: str) -> str:
    """A text of at most `MAX_TEXT` characters. Raises `WireError`."""
    if len(value) > MAX_TEXT:
        raise WireError("out-of-range", f"{what} has {len(value)} characters, at most {MAX_TEXT}")
    return value


def identifier(value: str, what: str) -> str:
    """The id of a peer or a task. Raises `WireError`."""
    if not is_id(value):
        raise WireError("malformed", f"{what} {value[:64]!r} is not an id")
    return value


def digest(value: str) -> str:
    """A SHA-256 in lower-case hex. Raises `WireError`."""
    if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
        raise WireError("malformed", f"{value[:64]!r} is not a SHA-256 in lower-case hex")
    return value


def each_of(items: Sequence[Item], convert: Callable[[Item], Converted], what: str) -> tuple[Converted, ...]:
    """At most `MAX_LIST` items, converted. Raises `WireError`."""
    if len(items) > MAX_LIST:  # before anything is made of an item
        raise WireError("out-of-range", f"{len(items)} {what}, at most {MAX_LIST}")
    return tuple(convert(item) for item in items)


def vector(content: bytes | memoryview, what: str) -> m.Vector:
    """A read-only float32 view of the bytes: models are not copied on the way in."""
    if len(content) % 4:
        raise WireError("malformed", f"{what} has {len(content)} bytes: no whole number of float32")
    return np.frombuffer(content, dtype="<f4")


def written(wire: pb.ModelUpdate | pb.ServerModel | pb.ReleasedModel, what: str) -> m.Written:
    """The vector of this name in a message: as it lies, or still encoded. Raises `WireError`."""
    content: bytes | memoryview = getattr(wire, what)
    encoding = _encoding(wire, what)
    return vector(content, what) if encoding.is_plain or not content else m.Encoded(encoding, content)


def optional_written(wire: pb.ModelUpdate, what: str) -> m.Written | None:
    """As `written`; None for no bytes."""
    return written(wire, what) if getattr(wire, what) else None


def _encoding(wire: pb.ModelUpdate | pb.ServerModel | pb.ReleasedModel, what: str) -> Encoding:
    said: pb.VectorEncoding = getattr(wire, _FIELDS.get(what, "encoding"))
    numbers = _NUMBERS_BY_WIRE.get(said.numbers)
    if numbers is None:
        raise WireError("out-of-range", f"the encoding {said.numbers} of {what}")
    possible = _OF_BUFFERS if what == "buffers" else _NUMBERS if what == "delta" else _OF_MODELS
    if numbers not in possible:
        raise WireError("malformed", f"{what} does not travel as {numbers}")
    return Encoding(numbers, said.zstd)


def wire_encoding(value: m.Written | None) -> pb.VectorEncoding | None:
    """How a vector is written; nothing where it is as it lies."""
    if not isinstance(value, m.Encoded):
        return None
    return pb.VectorEncoding(numbers=_NUMBERS[value.encoding.numbers], zstd=value.encoding.zstd)


def bytes_of(vector: m.Written | None) -> bytes:
    """A vector's bytes as they travel; none for None."""
    return bytes(view_of(vector))


def view_of(value: m.Written | bytes | memoryview | None) -> memoryview:
    """The bytes of a value where they lie: of a vector its little-endian float32, of None none."""
    if value is None:
        return memoryview(b"")
    if isinstance(value, m.Encoded):
        return memoryview(value.content)
    if not isinstance(value, np.ndarray):
        return memoryview(value)
    return np.ascontiguousarray(value, dtype="<f4").view(np.uint8).data if value.size else memoryview(b"")


def contributions(wire: pb.Contributions) -> dict[str, int]:
    """The newest version of each peer. Raises `WireError`.

    Ids are interned: the same few come with every update, and are kept by whoever takes it in.
    """
    if len(wire.peers) != len(wire.versions):
        raise WireError("malformed", f"{len(wire.peers)} contributors with {len(wire.versions)} versions")
    if len(wire.peers) > MAX_LIST:
        raise WireError("out-of-range", f"{len(wire.peers)} contributors, at most {MAX_LIST}")
    peers, versions = list(map(sys.intern, wire.peers)), list(wire.versions)
    if not are_ids(peers):
        raise WireError("malformed", "a contributor is no peer id")
    if max(versions, default=0) > MAX_CLAIM:
        raise WireError("out-of-range", f"version {max(versions)}")
    return dict(zip(peers, versions, strict=True))


def wire_contributions(contributions: Mapping[str, int]) -> pb.Contributions:
    """The inverse of `contributions`."""
    return pb.Contributions(peers=contributions.keys(), versions=contributions.values())
