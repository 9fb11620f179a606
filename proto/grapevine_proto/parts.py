"""A message in parts: what is large is not copied into one piece on its way from a model to a socket.

A copy of a hundred megabytes keeps the interpreter, and so every thread of the process, from anything else for as
long as it takes. A model's vectors are therefore parts of its message as they are: views of arrays that nobody
modifies.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

LARGE: Final = 256 * 1024  # bytes of a message, or of a model, that is worth a thread of its own: 65,536 float32
PIECE: Final = 256 * 1024  # that is given to a socket at a time


class Parts:
    """Bytes that lie in several places, in order. Their owners do not modify them any more."""

    __slots__ = ("_ends", "_parts")

    def __init__(self, parts: Iterable[bytes | memoryview]) -> None:
        self._parts: Sequence[memoryview] = [memoryview(part) for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        """Bytes, all together."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[memoryview]:
        """The parts, in order."""
        return iter(self._parts)

    def __bytes__(self) -> bytes:
        """A copy in one piece."""
        return b"".join(self._parts)

    def __reduce__(self) -> tuple[type[Parts], tuple[list[bytes]]]:
        """A copy of each part: a simulation's checkpoint may hold what is on its way."""
        return Parts, ([bytes(part) for part in self._parts],)

    def between(self, start: int, end: int) -> Iterator[memoryview]:
        """Views of what lies between two offsets, in order."""
        at = bisect_right(self._ends, start)
        while start < end and at < len(self._parts):
            first = self._ends[at] - len(self._parts[at])
            yield self._parts[at][start - first : end - first]
            start = self._ends[at]
            at += 1

    def __getitem__(self, span: slice) -> memoryview:
        """The next piece from `span.start` on: not empty before the end, and no longer than `PIECE`.

        Whoever writes to a socket asks for all that is left, and is content with less.
        """
        at = span.start or 0
        start = 0
        for part, end in zip(self._parts, self._ends, strict=True):
            if at < end:
                return part[at - start : at - start + PIECE]
            start = end
        return memoryview(b"")


Payload: TypeAlias = bytes | memoryview | Parts  # of a message: in one piece, a view of what arrived, or in parts


def parts_of(payload: Payload) -> Iterable[bytes | memoryview]:
    """The parts of a payload; of one in one piece, itself."""
    return payload if isinstance(payload, Parts) else (payload,)
