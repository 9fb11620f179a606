"""Large fields of bytes, set apart from a protobuf message and put to it, without being copied.

Protobuf copies a field of bytes when it parses and when it writes, once at each level: a model in a message in an
envelope is copied four times, and meanwhile nothing else runs in the process. What is large is therefore found, and
written, here, by the few rules of the encoding that this takes (https://protobuf.dev/programming-guides/encoding):

    message = field*        field = key value        key = varint(number << 3 | wire type)
    wire type 0: a varint │ 1: 8 bytes │ 2: varint length, and so many bytes │ 5: 4 bytes

What is left of the message is given to protobuf. Where protobuf takes the last of several fields of a number,
a large message with two of them is refused: nobody writes such a message, and a copy of it could not be avoided.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from grapevine_proto.errors import WireError

MOST_FIELDS: Final = 4_096  # of one message, where something large is looked for: a server names up to 1,000 members
_BYTES: Final = 2  # the wire type of what has a length
_LONGEST_VARINT: Final = 10


class WithLarge:
    """A protobuf message, and the fields of bytes that were set apart from it, by name."""

    __slots__ = ("_large", "_wire")

    def __init__(self, wire: object, large: Mapping[str, memoryview]) -> None:
        self._wire = wire
        self._large = large

    def __getattr__(self, name: str) -> Any:
        """The field, wherever it is."""
        return self._large[name] if name in self._large else getattr(self._wire, name)


def set_apart(wire: memoryview, numbers: Collection[int]) -> tuple[bytes, dict[int, memoryview]]:
    """The rest of a message, for protobuf, and views of its fields of these numbers.

    Raises `WireError` for what is no message, has more than `MOST_FIELDS` fields, or one of `numbers` twice.
    """
    found: dict[int, memoryview] = {}
    rest: list[memoryview] = []
    at = rest_from = num_fields = 0
    while at < len(wire):
        num_fields += 1
        if num_fields > MOST_FIELDS:
            raise WireError("malformed", f"a large message with more than {MOST_FIELDS} fields")
        start = at
        key, at = _read_varint(wire, at)
        value_from, at = _skip(wire, key & 7, at)
        if key >> 3 not in numbers or key & 7 != _BYTES:
            continue
        if key >> 3 in found:
            raise WireError("malformed", f"a large message with its field {key >> 3} twice")
        found[key >> 3] = wire[value_from:at]
        rest.append(wire[rest_from:start])
        rest_from = at
    rest.append(wire[rest_from:])
    return b"".join(rest), found


def head(number: int, length: int) -> bytes:
    """Key and length of a field of bytes."""
    return varint(number << 3 | _BYTES) + varint(length)


def varint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _skip(wire: memoryview, kind: int, at: int) -> tuple[int, int]:
    """Where the value of a field begins, and where it ends."""
    match kind:
        case 0:
            end = _read_varint(wire, at)[1]
        case 1:
            end = at + 8
        case 2:
            length, at = _read_varint(wire, at)
            end = at + length
        case 5:
            end = at + 4
        case _:
            raise WireError("malformed", f"wire type {kind}")
    if end > len(wire):
        raise WireError("malformed", "a field that is longer than its message")
    return at, end


def _read_varint(wire: memoryview, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= len(wire):
            break
        byte = wire[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise WireError("malformed", "a number without an end")
