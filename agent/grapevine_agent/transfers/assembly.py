"""A bulk that is being put together: its bytes, and which of its chunks are there and right.

Bytes lie in memory, or in a file where a restart must not lose them: what lies in a file is believed only after each
chunk of it was checked against the index, so that nothing else about it needs to be kept.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from grapevine_proto.bulk import CHUNK_BYTES, HASH_BYTES, Bulk, Piece, is_chunk, is_index, span_of
from grapevine_proto.errors import StoreError, WireError

MAX_PIECES: Final = 64  # of a chunk: a broker takes 2 kB at least


class Room(Protocol):
    """Where the bytes of a bulk lie."""

    @property
    def view(self) -> memoryview:
        """All of them, to be written to."""

    def close(self) -> None:
        """They are not needed any more, unless somebody still has a view of them."""

    def discard(self) -> None:
        """Nor when this is asked for again."""


class Memory:
    """Bytes that a crash loses."""

    def __init__(self, num_bytes: int) -> None:
        # A mapping of its own, and not a bytearray: it goes back to the system at once, and is zeroed page by page.
        self._map = mmap.mmap(-1, num_bytes)
        self.view = memoryview(self._map)

    def close(self) -> None:
        """See `Room`."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()

    discard = close


class File:
    """Bytes in a file that is kept, under the digest of its bulk, until it is whole. Raises `StoreError`."""

    def __init__(self, folder: Path, bulk: Bulk) -> None:
        self._path = folder / f"{bulk.digest.hex()}.part"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if os.fstat(self._file).st_size != bulk.num_bytes:
                    os.ftruncate(self._file, 0)
                    os.posix_fallocate(self._file, 0, bulk.num_bytes)  # a full disk is found out here, not by SIGBUS
                self._map = mmap.mmap(self._file, bulk.num_bytes)
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            msg = f"{self._path}: no room for {bulk.num_bytes} bytes ({error.strerror}); free some of the disk"
            raise StoreError(msg) from error
        self.view = memoryview(self._map)

    def close(self) -> None:
        """See `Room`."""
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1

    def discard(self) -> None:
        """See `Room`."""
        self.close()
        self._path.unlink(missing_ok=True)


@dataclass(kw_only=True)
class Assembly:
    """See the module's docstring."""

    bulk: Bulk
    room: Room
    index: bytearray = field(default_factory=bytearray)
    has_index: bool = False
    missing: set[int] = field(default_factory=set)  # chunks that are not here, or not right
    _came: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # of a chunk that is not whole: from, to
    _index_came: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing = set(range(self.bulk.num_chunks))
        if self.bulk.index:
            self.take_index(self.bulk.index)
        else:
            self.index = bytearray(HASH_BYTES * self.bulk.num_chunks)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here, and right."""
        return self.has_index and not self.missing

    @property
    def has_some(self) -> bool:
        """Whether any of its chunks is."""
        return len(self.missing) < self.bulk.num_chunks

    def take_index(self, index: bytes) -> None:
        """What each chunk must be is known."""
        self.index, self.has_index = bytearray(index), True

    def look(self) -> Iterator[None]:
        """Find out which chunks are here already, one at a time. Only what was in a file before can be."""
        for chunk in sorted(self.missing):
            start, end = span_of(chunk, self.bulk.num_bytes)
            if is_chunk(bytes(self.index), chunk, self.room.view[start:end]):
                self.missing.discard(chunk)
            yield

    def put(self, piece: Piece) -> int | None:
        """Take a piece. Returns the chunk that is whole and right with it; None: none is. Raises `WireError`."""
        end = piece.offset + len(piece.content)
        if piece.index:
            self._put_index(piece, end)
            return None
        chunk = piece.offset // CHUNK_BYTES
        start, stop = span_of(chunk, self.bulk.num_bytes)
        if not piece.content or end > stop or not self.has_index:
            raise WireError("malformed", f"a piece from {piece.offset} to {end} of {self.bulk.num_bytes} bytes")
        if chunk not in self.missing:
            return None  # it came twice
        self.room.view[piece.offset : end] = piece.content
        came = self._came.setdefault(chunk, [])
        _add(came, piece.offset, end)
        if came != [(start, stop)]:
            return None
        del self._came[chunk]
        if not is_chunk(bytes(self.index), chunk, self.room.view[start:stop]):
            raise WireError("digest", f"chunk {chunk} is not what the index of its bulk says")
        self.missing.discard(chunk)
        return chunk

    def _put_index(self, piece: Piece, end: int) -> None:
        if self.has_index:
            return
        if not piece.content or end > len(self.index):
            raise WireError("malformed", f"a piece from {piece.offset} to {end} of an index of {len(self.index)} bytes")
        self.index[piece.offset : end] = piece.content
        _add(self._index_came, piece.offset, end)
        if self._index_came == [(0, len(self.index))]:
            self._index_came = []
            if not is_index(self.bulk.digest, self.index):
                raise WireError("digest", "an index is not what the digest of its bulk says")
            self.has_index = True


def _add(spans: list[tuple[int, int]], start: int, end: int) -> None:
    """Join a span to those that are there, which are sorted and apart. Raises `WireError` for too many."""
    joined = [(s, e) for s, e in spans if e < start or s > end]
    for s, e in spans:
        if not (e < start or s > end):
            start, end = min(start, s), max(end, e)
    joined.append((start, end))
    if len(joined) > MAX_PIECES:
        raise WireError("over-quota", f"more than {MAX_PIECES} pieces of one chunk")
    spans[:] = sorted(joined)
