"""A SQLite file that an agent can live with: checked when it is opened, mended or replaced, never the end of a start.

    open ─▶ whole, and ours?  ─ yes ─▶ read and written
              │ damaged (whatever SQLite or Python makes of it)
              ▼
            moved aside ─▶ a fresh one, with every row that could still be read of the old
              │ the disk takes nothing (full, read-only, failing)
              ▼
            read from a copy in memory; writes raise `StoreError`, and each of them tries the disk again

The same happens at any later query: one that meets damage mends the file and is done once more. A file of a newer
version, or one that this user may not read, is neither damaged nor ours to move: that raises `StoreError`.

SQLite itself checks the shape of the tree, not what is in it: text that is not UTF-8, or a number where a text
belongs, pass. So each row that the owner of a table cannot do without is read once at the opening.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from grapevine_agent.store.durable import move_aside
from grapevine_agent.store.salvage import Layout, Row, rows_of_copy, text_or_bytes
from grapevine_proto.errors import StoreError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Rows: TypeAlias = Mapping[str, list[Row]]  # by table

SPECIMENS_KEPT = 3
MOST_MENDED = 3  # times that one process replaces its file: a disk that always damages it is left alone then
LARGEST_INTEGER = (1 << 63) - 1  # of a column
_MARK = 0x4756  # upper half of `application_id`; the lower is the version once more, so that one of both may be damaged
_PATIENCE_S = 2.0  # with another process that has the file open
_SUFFIXES = ("-wal", "-shm", "-journal")
# What sqlite3 raises of a file, or of what is in it.
FAULTS = (sqlite3.Error, UnicodeError, OverflowError, MemoryError, ValueError, SystemError)
# The disk or another process is at fault, not the file.
_OUTER = frozenset(
    (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
    )
)
_INNER = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT))
# A block that the disk no longer gives is lost, as a damaged one is.
_LOST_BLOCK = frozenset((sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS))


class _DamagedError(Exception):
    """What was found in a file that SQLite itself had no quarrel with."""


class _NewerError(StoreError):
    """A newer Grapevine wrote the file."""


class SqliteFile:
    """See the module's docstring. Any thread may call; every method raises `StoreError`.

    Args:
        path: The file; its folder is there.
        layout: What it holds.
        exclusive: Whether no other process reads it: then SQLite needs no shared memory file beside it, which could
            not be made on a full disk.
    """

    def __init__(self, path: Path, layout: Layout, *, exclusive: bool) -> None:
        self.path = path
        self._trouble: BaseException | None = None  # why nothing is written at present
        self._layout = layout
        self._exclusive = exclusive
        self._lock = threading.RLock()
        self._num_mended = 0
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._copy: sqlite3.Connection | None = None  # in memory, while there is no connection
        self._copied: Rows = {}
        if path.exists() and not os.access(path, os.R_OK):
            raise StoreError(f"{path}: this user may not read it; run as its owner, or give it back (chown)")
        with self._lock:
            self._begin()
        if self._trouble is not None:
            logger.warning("%s: read, and not written to for now (%s)", path, self._trouble)

    def close(self) -> None:
        """Close the file; further calls raise `StoreError`."""
        with self._lock:
            self._closed = True
            self._let_go()

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        """The rows of a query. Text that is not UTF-8 comes as bytes."""

        def ask() -> list[Row]:
            connection = self._connection or self._copy
            return [] if connection is None else connection.execute(query, values).fetchall()

        return self._done("read", ask)

    def write(self, what: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction and commit it. It may be done twice, the first time for nothing."""

        def change() -> T:
            if self._connection is None:
                self._begin()
            if self._connection is None:
                raise StoreError(f"{self.path}: could not write the {what} to it ({self._trouble})") from self._trouble
            with self._connection as connection:  # commits, or rolls back on an error
                return work(connection)

        return self._done(f"write the {what} to", change)

    # --- one query, with what may be wrong ----------------------------------------------------------

    def _done(self, verb: str, work: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path}: could not {verb} it (it is closed)")
            try:
                return work()
            except FAULTS as error:
                if is_damage(error) and self._num_mended < MOST_MENDED:
                    self._num_mended += 1
                    self._let_go()
                    self._replace(error)
                    try:
                        return work()
                    except FAULTS as again:
                        raise self._failed(verb, again) from again
                if _primary(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                    self._stand_by(error)  # what is open may be of no more use: the next write opens it anew
                raise self._failed(verb, error) from error

    def _failed(self, verb: str, error: BaseException) -> StoreError:
        if is_damage(error):
            remedy = "the file is damaged; restart the agent, which moves it aside and starts a fresh one"
        else:
            remedy = "check free space, owner and permissions"
        return StoreError(f"{self.path}: could not {verb} it ({error}); {remedy}")

    # --- opening ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Open the file, or a fresh one, or a copy in memory."""
        try:
            self._clear_place()
            self._see_whether_empty()
            self._use(self._opened(self._copied if not self.path.exists() else {}))
        except _NewerError:
            raise
        except (*FAULTS, _DamagedError, StoreError, OSError) as error:
            if is_outer(error):
                self._stand_by(error)
            else:
                self._replace(error)

    def _replace(self, reason: BaseException) -> None:
        """Move the damaged file aside and make a fresh one with what can be read of it."""
        try:
            aside = move_aside(self.path, time.time(), keep=SPECIMENS_KEPT)
        except StoreError:
            self._stand_by(reason)
            return
        for suffix in _SUFFIXES:
            with suppress(OSError):
                # Kept beside the file under the names that SQLite looks for, so that tools can still recover it.
                self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        rows = rows_of_copy(aside, self._layout)
        why = " ".join(str(reason).split())
        logger.error("%s was damaged (%s), was moved to %s, and a fresh one %s", self.path, why, aside, _told(rows))
        try:
            self._use(self._opened(rows))
        except (*FAULTS, _DamagedError) as error:
            self._stand_by(error, rows)

    def _stand_by(self, reason: BaseException, rows: Rows | None = None) -> None:
        """Nothing can be written: read from a copy in memory until something can."""
        self._trouble = reason
        self._let_go()
        self._copied = rows_of_copy(self.path, self._layout) if rows is None else rows
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._copy.executescript(self._layout.schema)
        _fill(self._copy, self._layout, self._copied)

    def _use(self, connection: sqlite3.Connection) -> None:
        self._let_go()
        self._connection, self._copied, self._trouble = connection, {}, None

    def _let_go(self) -> None:
        for connection in (self._connection, self._copy):
            if connection is not None:
                with suppress(*FAULTS):
                    connection.close()
        self._connection = self._copy = None

    def _clear_place(self) -> None:
        """Move aside what cannot be a database: a folder, a pipe. A link is left alone: it may lead to another disk."""
        for path in (self.path, *(self.path.with_name(self.path.name + suffix) for suffix in _SUFFIXES)):
            if os.path.lexists(path) and not path.is_symlink() and not path.is_file():
                logger.error("%s is no file and was moved to %s", path, move_aside(path, time.time()))

    def _see_whether_empty(self) -> None:
        """SQLite takes an empty file for a new one, and throws its log away. Raises `_DamagedError` if there is one."""
        sizes = [
            path.stat().st_size if path.exists() else None
            for path in (self.path, self.path.with_name(self.path.name + "-wal"))
        ]
        if sizes[0] == 0 and sizes[1]:
            raise _DamagedError("it is empty, and its log is not")
        if sizes[0] == 0:
            logger.warning("%s was empty, and is begun anew", self.path)

    def _opened(self, rows: Rows) -> sqlite3.Connection:
        """The file, checked; `rows` are put in where it is new. Raises one of `FAULTS`, or `_DamagedError`."""
        connection = sqlite3.connect(self.path, check_same_thread=False, timeout=_PATIENCE_S)
        try:
            connection.text_factory = text_or_bytes
            if self._exclusive:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 1048576")
            if self._is_new(connection):
                _make(connection, self._layout)
                with connection:
                    _fill(connection, self._layout, rows)
            else:
                _check(connection, self._layout)
        except BaseException:
            with suppress(*FAULTS):
                connection.close()
            raise
        with suppress(OSError):  # not our file: the folder around it is what keeps others out
            self.path.chmod(0o600)
        return connection

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is empty. Raises `_NewerError` or `_DamagedError` where it is not ours to read."""
        found, (version,) = _schema(connection), connection.execute("PRAGMA user_version").fetchone()
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if not found and not version:
            return True
        if version > self._layout.version and mark == _mark(version):
            raise _NewerError(
                f"{self.path}: was written by a newer Grapevine (schema {version}, this one knows "
                f"{self._layout.version}); upgrade, or move the file away"
            )
        if found == _expected(self._layout.schema):
            if (version, mark) != (self._layout.version, _mark(self._layout.version)):
                _sign(connection, self._layout.version)  # of before there was a mark; or one of the two was damaged
            return False
        raise _DamagedError("its tables are not those that it was made with")


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is at fault, and not the disk, its permissions or another process."""
    if isinstance(error, _DamagedError | UnicodeError):
        return True
    return _primary(error) in _INNER or getattr(error, "sqlite_errorcode", None) in _LOST_BLOCK


def is_outer(error: BaseException) -> bool:
    """Whether the disk, its permissions or another process is at fault: the file may be whole."""
    if isinstance(error, StoreError | MemoryError | OSError):
        return True
    return _primary(error) in _OUTER and not is_damage(error)


def _primary(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _check(connection: sqlite3.Connection, layout: Layout) -> None:
    damage = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if damage != ("ok",):
        raise _DamagedError(str(damage[0] if damage else damage))
    for table in layout.tables:
        if table.is_checked:
            for row in connection.execute(table.query):
                if not table.is_sound(row):
                    raise _DamagedError(f"a row of {table.name} holds something else than it was given")


def _make(connection: sqlite3.Connection, layout: Layout) -> None:
    # One transaction: killed in between, the next start finds an empty file and does it again.
    connection.executescript(
        f"BEGIN IMMEDIATE; {layout.schema} PRAGMA user_version = {layout.version}; "
        f"PRAGMA application_id = {_mark(layout.version)}; COMMIT;"
    )


def _sign(connection: sqlite3.Connection, version: int) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE; PRAGMA user_version = {version}; PRAGMA application_id = {_mark(version)}; COMMIT;"
    )


def _mark(version: int) -> int:
    return _MARK << 16 | version & 0xFFFF


def _fill(connection: sqlite3.Connection, layout: Layout, rows: Rows) -> None:
    for table in layout.tables:
        for row in rows.get(table.name, ()):
            places = ", ".join("?" * len(row))
            # Not in one go: of rows that cannot be together, one may stay.
            with suppress(*FAULTS):
                connection.execute(f"INSERT OR REPLACE INTO {table.name} VALUES ({places})", row)  # noqa: S608


def _schema(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


@lru_cache(maxsize=8)
def _expected(schema: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(schema)
        return _schema(connection)
    finally:
        connection.close()


def _told(rows: Rows) -> str:
    kept = ", ".join(f"{len(found)} {name}" for name, found in rows.items() if found)
    return f"has what could be read of it: {kept}" if kept else "is empty, for nothing could be read of it"
