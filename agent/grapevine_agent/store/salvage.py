"""What can still be read of a database that is damaged, or that lies on a disk that takes nothing.

SQLite recovers a file while it opens it, which a full or read-only disk does not let it do. So a copy is read, in
memory where the machine has such a folder, and the file stays as it was found.

The first page tells where all tables begin. It is written most often, and without it nothing can be read; but a file
that was made with the same tables has the same beginning, so a fresh one's takes its place.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

logger = logging.getLogger(__name__)

Row: TypeAlias = tuple[Any, ...]

MOST_BYTES = 128 * 1024 * 1024  # of a file that is copied; a larger one is read where it lies, without its log
MOST_ROWS = 1_000_000
_PAGE = 4096  # bytes, as SQLite makes them
_FAULTS = (sqlite3.Error, UnicodeError, OverflowError, MemoryError, ValueError, SystemError, OSError)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table. `query` gives all its columns in their order; `is_sound`: whether a row can be what was written."""

    name: str
    columns: str
    order: str
    is_sound: Callable[[Row], bool]
    is_checked: bool = True  # row by row at each opening; of history it is enough to pass over what is broken

    @property
    def query(self) -> str:
        """All rows, in order."""
        return f"SELECT {self.columns} FROM {self.name} ORDER BY {self.order}"  # noqa: S608 - our own names


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a file is to hold. `schema` makes the tables of an empty one, and always in the same order."""

    schema: str
    version: int
    tables: tuple[Table, ...]


def rows_of_copy(path: Path, layout: Layout) -> dict[str, list[Row]]:
    """The sound rows of the file at `path`, by table; what cannot be read is left out. Never raises."""
    for folder in _folders(path):
        try:
            with tempfile.TemporaryDirectory(prefix="grapevine-", dir=folder) as place:
                copy = Path(place) / "copy.db"
                _copy_with_log(path, copy)
                found = _rows_at(f"file:{quote(str(copy))}", layout)
                if not all(found.get(table.name) for table in layout.tables):
                    _copy_with_log(path, copy)
                    _renew_first_page(copy, layout)
                    again = _rows_at(f"file:{quote(str(copy))}", layout)
                    found = {name: max(again.get(name, []), found.get(name, []), key=len) for name in again | found}
                return found
        except _FAULTS as error:
            logger.debug("%s: no copy could be read in %s (%s)", path, folder, error)
    return _rows_at(f"file:{quote(str(path.absolute()))}?immutable=1", layout)


def readable_rows(connection: sqlite3.Connection, table: Table) -> list[Row]:
    """The sound rows of a table: from its beginning as far as it can be read, and from its end."""
    found: dict[Row, None] = {}
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in table.order.split(", "))
        query = f"SELECT {table.columns} FROM {table.name} ORDER BY {order} LIMIT {MOST_ROWS}"  # noqa: S608
        try:
            for row in connection.execute(query):
                if table.is_sound(row):
                    found[row] = None
        except _FAULTS:
            continue
        break  # all of it
    return list(found)


def _rows_at(uri: str, layout: Layout) -> dict[str, list[Row]]:
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.text_factory = text_or_bytes
            return {table.name: readable_rows(connection, table) for table in layout.tables}
    except _FAULTS:
        return {}


def _renew_first_page(copy: Path, layout: Layout) -> None:
    """Give the copy the first page of a fresh file. Its number of pages comes from its length."""
    fresh = copy.with_name("fresh.db")
    with closing(sqlite3.connect(fresh)) as connection:
        connection.executescript(f"PRAGMA page_size = {_PAGE}; {layout.schema}")
    page = bytearray(fresh.read_bytes()[:_PAGE])
    page[28:32] = max(1, copy.stat().st_size // _PAGE).to_bytes(4, "big")
    page[92:96] = page[24:28]  # the number is valid: it was counted at the last change
    with copy.open("r+b") as file:
        file.write(page)


def text_or_bytes(raw: bytes) -> str | bytes:
    """How text is read: SQLite never checks that it is UTF-8, and who asks for a row is to get one."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _folders(path: Path) -> list[str]:
    """Where a copy may be made: memory first."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return []
    except OSError:
        return []
    places = [place for place in ("/dev/shm", "/run") if os.access(place, os.W_OK | os.X_OK)]  # noqa: S108
    with suppress(OSError):
        places.append(tempfile.gettempdir())
    return places


def _copy_with_log(source: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            _copy(source.with_name(source.name + suffix), target.with_name(target.name + suffix))


def _copy(source: Path, target: Path) -> None:
    """Copy what can be read; a block that cannot is left as zeros."""
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        _copy_blocks(source, target)


def _copy_blocks(source: Path, target: Path, block: int = 4096) -> None:
    with source.open("rb", buffering=0) as reading, target.open("wb") as writing:
        for offset in range(0, os.fstat(reading.fileno()).st_size, block):
            try:
                content = os.pread(reading.fileno(), block, offset)
            except OSError:
                content = b""
            writing.seek(offset)
            writing.write(content.ljust(block, b"\0"))
