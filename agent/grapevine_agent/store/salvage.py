"""What can still be read of a database that is damaged, or that lies on a disk that takes nothing.

SQLite recovers a file while it opens it, which a full or read-only disk does not let it do. So a copy is read, in
memory where the machine has such a folder, and the file stays as it was found.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

logger = logging.getLogger(__name__)

Row: TypeAlias = tuple[Any, ...]

MOST_BYTES = 256 * 1024 * 1024  # of a file that is copied; a larger one is read where it lies, without its log
MOST_ROWS = 1_000_000
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


def rows_of_copy(path: Path, tables: Iterable[Table]) -> dict[str, list[Row]]:
    """The sound rows of the file at `path`, by table; what cannot be read is left out. Never raises."""
    found: dict[str, list[Row]] = {}
    for folder in _folders(path):
        try:
            with tempfile.TemporaryDirectory(prefix="grapevine-", dir=folder) as place:
                copy = Path(place) / path.name
                for suffix in ("", "-wal"):
                    with suppress(FileNotFoundError):
                        _copy(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
                found = _rows_at(f"file:{quote(str(copy))}", tables)
                break
        except _FAULTS as error:
            logger.debug("%s: no copy could be read in %s (%s)", path, folder, error)
    else:
        with suppress(*_FAULTS):
            found = _rows_at(f"file:{quote(str(path.absolute()))}?immutable=1", tables)
    return found


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


def _rows_at(uri: str, tables: Iterable[Table]) -> dict[str, list[Row]]:
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        connection.text_factory = text_or_bytes
        return {table.name: readable_rows(connection, table) for table in tables}


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
