"""A SELECT that the owner wrote, on an SQLite database that is opened for reading only.

A peer has no say in it. The database cannot be written to (`mode=ro`, `query_only`, and an authoriser that
lets reading through and nothing else), and no more rows are taken than `MAX_ROWS`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data import tables
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples
from grapevine_proto.manifest import DataContract

MAX_ROWS = 1_000_000
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_STEPS = 100_000  # of SQLite's machine between two looks at the clock
_MAX_LOOKS = 5_000  # then a query is given up: some tens of seconds


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """The query's columns, counts and class names; kept until the database changes."""
    try:
        stats = [
            path.stat() for path in (source.path, source.path.with_name(source.path.name + "-wal")) if path.exists()
        ]
        source.path.stat()
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror}") from error
    return _describe(source, ContractKey(contract), tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The rows as arrays."""
    columns, rows = _query(source)
    chosen = tables.choose(source, contract, columns)
    return tables.to_samples(source, contract, chosen, _table(source, columns, rows, chosen))


@lru_cache(maxsize=16)
def _describe(source: DataSource, key: ContractKey, dates: tuple[tuple[int, int], ...]) -> Description:
    columns, rows = _query(source)
    chosen = tables.choose(source, key.contract, columns)
    table = _table(source, columns, rows, chosen)
    dtypes = {name: np.dtype("U1") if column.dtype.kind == "O" else column.dtype for name, column in table.items()}
    is_named = len(chosen.target) == 1 and dtypes[chosen.target[0]].kind == "U"
    return tables.describe_table(
        source,
        key.contract,
        chosen,
        columns=columns,
        dtypes=dtypes,
        num_rows=len(rows),
        newest_s=tables.newest(source, table[chosen.time]) if chosen.time else max(date for date, _ in dates) / 1e9,
        classes=tables.class_names(source, table[chosen.target[0]]) if is_named else (),
    )


def _query(source: DataSource) -> tuple[list[str], list[tuple[Any, ...]]]:
    most = min(MAX_ROWS, source.max_bytes // 8 or MAX_ROWS)
    try:
        with _opened(source) as connection:
            cursor = connection.execute(source.query)
            if cursor.description is None:
                raise source.error(f"query = {source.query[:80]!r} is no SELECT: write one that gives rows")
            columns = [str(column[0]) for column in cursor.description]
            rows = cursor.fetchmany(most + 1)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if "not authorized" in str(error) or "prohibited" in str(error) or "readonly" in str(error):
            raise source.error(f"query = {source.query[:80]!r} does more than read ({error}): write a SELECT") from None
        raise source.error(f"query on {source.path}: {error}; try it with: sqlite3 -readonly {source.path}") from None
    if len(rows) > most:
        raise source.error(f"the query gives more than {most:,} rows: end it with LIMIT, or raise max_bytes")
    return columns, rows


@contextmanager
def _opened(source: DataSource) -> Iterator[sqlite3.Connection]:
    uri = f"file:{quote(str(source.path.absolute()))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")  # views of a database from elsewhere call no odd functions
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
        looks = iter(range(_MAX_LOOKS))
        connection.set_progress_handler(lambda: next(looks, None) is None, _STEPS)
        yield connection


def _table(
    source: DataSource, columns: list[str], rows: list[tuple[Any, ...]], chosen: tables.Chosen
) -> dict[str, NDArray[Any]]:
    return {name: _column(source, name, [row[columns.index(name)] for row in rows]) for name in chosen.all}


def _column(source: DataSource, name: str, values: list[Any]) -> NDArray[Any]:
    """One column [n]: whole numbers, numbers with NaN for NULL, or text."""
    kinds = {type(value) for value in values if value is not None}
    if bytes in kinds:
        raise source.error(f"the column {name!r} holds blobs; select numbers or text")
    if str in kinds:
        return np.array([None if value is None else str(value) for value in values], object)
    if kinds == {int} and None not in values and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)
