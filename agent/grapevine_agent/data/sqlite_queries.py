"""A SELECT that the owner wrote, on an SQLite database that is opened for reading only.

A peer has no say in it. The database cannot be written to (`mode=ro`, `query_only`, and an authoriser that
lets reading through and nothing else), no more rows are taken than `MAX_ROWS`, and no text that is longer than
`MAX_CELL`. Rows are read some at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data import tables
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples, Visitor
from grapevine_proto.manifest import DataContract

MAX_ROWS: Final = 1_000_000
MAX_CELL: Final = 65_536  # characters
_LARGEST_ROW: Final = 2**24  # bytes in the database: a table may hold pictures beside what is selected
_ROWS_AT_ONCE: Final = 512
_WORKING_BYTES: Final = 16 * 2**20  # SQLite's pages and what it sorts with; rows on their way
_LIBRARY_BYTES: Final = 4 * 2**20
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_STEPS = 100_000  # of SQLite's machine between two looks at the clock
_MAX_LOOKS = 5_000  # then a query is given up: some tens of seconds


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """The query's columns, counts and class names; kept until the database changes."""
    return _describe(source, ContractKey(contract), _dates(source))


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with all columns that matter shown to visitors."""
    dates = _dates(source)
    columns = _columns(source)
    chosen = tables.choose(source, contract, columns)
    return _described(source, contract, columns, _looked(source, chosen, visitors), dates)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The rows as arrays."""
    chosen = tables.choose(source, contract, _columns(source))
    found = _look(source, chosen, _dates(source))
    rows = tables.Rows(source, contract, chosen, found)
    for piece in _pieces(source, chosen):
        rows.add({name: _as(found.dtypes[name], piece[name]) for name in chosen.all})
    return rows.samples()


def _dates(source: DataSource) -> tuple[tuple[int, int], ...]:
    """When the database was written to, and how large it is."""
    try:
        stats = [source.path.stat()]
        if (log := source.path.with_name(source.path.name + "-wal")).exists():
            stats.append(log.stat())
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror}") from error
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


@lru_cache(maxsize=16)
def _describe(source: DataSource, key: ContractKey, dates: tuple[tuple[int, int], ...]) -> Description:
    columns = _columns(source)
    chosen = tables.choose(source, key.contract, columns)
    return _described(source, key.contract, columns, _look(source, chosen, dates), dates)


def _described(
    source: DataSource,
    contract: DataContract | None,
    columns: list[str],
    found: tables.Found,
    dates: tuple[tuple[int, int], ...],
) -> Description:
    chosen = tables.choose(source, contract, columns)
    described = tables.describe_table(source, contract, chosen, columns=columns, found=found)
    return replace(
        described,
        newest_s=described.newest_s if chosen.time else max(date for date, _ in dates) / 1e9,
        working_bytes=described.working_bytes + _WORKING_BYTES,
        library_bytes=_LIBRARY_BYTES,
    )


@lru_cache(maxsize=16)
def _look(source: DataSource, chosen: tables.Chosen, dates: tuple[tuple[int, int], ...]) -> tables.Found:  # noqa: ARG001
    return _looked(source, chosen, ())


def _looked(source: DataSource, chosen: tables.Chosen, visitors: Sequence[Visitor]) -> tables.Found:
    """Which columns hold whole numbers, numbers with NaN for NULL, or text; their names, and the newest time."""
    look = tables.Look(source, chosen)
    kinds: dict[str, set[type]] = {name: set() for name in chosen.all}
    row = 0
    for visitor in visitors:
        visitor.begin(chosen.features, chosen.target)
    for piece in _pieces(source, chosen):
        dtypes = {}
        for name, values in piece.items():
            found = {_kind(source, name, value) for value in values}
            kinds[name] |= found
            dtypes[name] = _dtype(found)
            if name in chosen.target and str in kinds[name] and kinds[name] & {int, float}:
                told = f'the column {name!r} holds texts and numbers: write CAST("{name}" AS TEXT) in the query'
                raise source.error(told)
        look.add({name: _as(dtypes[name], piece[name]) for name in look.columns})
        if visitors:
            arrays = {name: _as(dtypes[name], piece[name]) for name in chosen.all}
            seen = tables.with_parts(source, chosen, arrays)
            for visitor in visitors:
                visitor.visit(row, seen)
        num = len(piece[chosen.all[0]])
        row += num
        look.count(num)
    complete = {name: _dtype(found - {type(None)}) for name, found in kinds.items()}
    return look.found({name: _dtype(found) for name, found in kinds.items()}, complete)


def _kind(source: DataSource, name: str, value: Any) -> type:
    """`int` for what fits 64 bits, `float` for other numbers."""
    if isinstance(value, bytes):
        raise source.error(f"the column {name!r} holds blobs; select numbers or text")
    if isinstance(value, str) and len(value) > MAX_CELL:
        raise source.error(f"the column {name!r} holds a text of {len(value):,} characters; at most {MAX_CELL:,}")
    return type(value) if isinstance(value, int | str | None) else float


def _dtype(kinds: set[type]) -> np.dtype[Any]:
    if str in kinds:
        return np.dtype("U1")
    return np.dtype(np.int64 if kinds in ({int}, set()) else np.float64)


def _as(dtype: np.dtype[Any], values: list[Any]) -> NDArray[Any]:
    """One column [n] of a stretch of rows."""
    if dtype.kind == "U":
        return np.array([None if value is None else str(value) for value in values], object)
    if dtype.kind == "i":
        return np.array(values, np.int64)
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)


def _pieces(source: DataSource, chosen: tables.Chosen) -> Iterator[dict[str, list[Any]]]:
    """The rows of the query, some at a time, by column. Raises TaskError when there are too many."""
    most = min(MAX_ROWS, source.max_bytes // 8 or MAX_ROWS)
    with _opened(source) as connection:
        columns, cursor = _asked(source, connection)
        places = {name: columns.index(name) for name in chosen.all}
        piece: dict[str, list[Any]] = {name: [] for name in places}
        for num, row in enumerate(cursor, 1):
            if num > most:
                raise source.error(f"the query gives more than {most:,} rows: end it with LIMIT, or raise max_bytes")
            for name, place in places.items():
                _kind(source, name, row[place])  # before there are more cells like this one
                piece[name].append(row[place])
            if num % _ROWS_AT_ONCE == 0:
                yield piece
                piece = {name: [] for name in places}
        if piece[chosen.all[0]]:
            yield piece


def _columns(source: DataSource) -> list[str]:
    with _opened(source) as connection:
        return _asked(source, connection)[0]


def _asked(source: DataSource, connection: sqlite3.Connection) -> tuple[list[str], sqlite3.Cursor]:
    """The query's columns, and its rows."""
    cursor = connection.execute(source.query)
    if cursor.description is None:
        raise source.error(f"query = {source.query[:80]!r} is no SELECT: write one that gives rows")
    return [str(column[0]) for column in cursor.description], cursor


@contextmanager
def _opened(source: DataSource) -> Iterator[sqlite3.Connection]:
    """The database, for reading; what goes wrong with it is a TaskError."""
    uri = f"file:{quote(str(source.path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_ROW)
            connection.execute("PRAGMA query_only = ON")
            connection.execute(
                "PRAGMA trusted_schema = OFF"
            )  # views of a database from elsewhere call no odd functions
            connection.set_authorizer(
                lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
            )
            looks = iter(range(_MAX_LOOKS))
            connection.set_progress_handler(lambda: next(looks, None) is None, _STEPS)
            yield connection
    except (sqlite3.Error, sqlite3.Warning) as error:
        if "not authorized" in str(error) or "prohibited" in str(error) or "readonly" in str(error):
            raise source.error(f"query = {source.query[:80]!r} does more than read ({error}): write a SELECT") from None
        if "too big" in str(error):
            raise source.error(
                f"the query reads a row or makes a cell of more than {_LARGEST_ROW:,} bytes: select numbers and names"
            ) from None
        raise source.error(f"query on {source.path}: {error}; try it with: sqlite3 -readonly {source.path}") from None
