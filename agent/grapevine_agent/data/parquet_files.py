"""Parquet files: counts and dtypes are in the footer, and columns are read a stretch of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet

from grapevine_agent.data import tables
from grapevine_agent.data.arrow_tables import (
    LIBRARY_BYTES,
    ROWS_AT_ONCE,
    as_arrays,
    numpy_dtype,
    whole_dtype,
    with_gaps,
)
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples, Visitor
from grapevine_proto.manifest import DataContract

_READ_BYTES: Final = 2**20  # of a column at a time
_LARGEST_PAGE: Final = 2**21  # of a column, unpacked: writers make pages of 1 MB


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Counts and dtypes from the footer, class names and the newest time from their columns; kept until it changes."""
    stat = _stat(source)
    return _describe(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with all columns that matter shown to visitors."""
    description = describe(source, contract)
    if 0 < source.max_bytes < description.num_bytes:
        return description
    chosen = tables.choose(source, contract, _schema(source).names)
    for visitor in visitors:
        visitor.begin(chosen.features, chosen.target)
    row = 0
    for piece in as_arrays(_batches(source, chosen.all), chosen.all) if visitors else ():
        seen = tables.with_parts(source, chosen, piece)
        for visitor in visitors:
            visitor.visit(row, seen)
        row += len(seen[chosen.features[0]])
    return description


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The columns as arrays."""
    stat = _stat(source)
    found = _look(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)
    chosen = tables.choose(source, contract, _schema(source).names)
    rows = tables.Rows(source, contract, chosen, found)
    for piece in as_arrays(_batches(source, chosen.all), chosen.all):
        rows.add(piece)
    return rows.samples()


@lru_cache(maxsize=64)
def _describe(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> Description:
    schema = _schema(source)
    chosen = tables.choose(source, key.contract, schema.names)
    found = _look(source, key, mtime_ns, size)
    described = tables.describe_table(source, key.contract, chosen, columns=schema.names, found=found)
    return replace(
        described,
        newest_s=described.newest_s if chosen.time else mtime_ns / 1e9,
        working_bytes=described.working_bytes + len(chosen.all) * (_READ_BYTES + 3 * _LARGEST_PAGE),
        library_bytes=LIBRARY_BYTES,
    )


@lru_cache(maxsize=64)
def _look(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> tables.Found:  # noqa: ARG001
    schema, footer = _schema(source), pa.parquet.read_metadata(source.path)
    chosen = tables.choose(source, key.contract, schema.names)
    num_rows = footer.num_rows
    if 0 < source.max_bytes < num_rows * 8:
        raise source.error(f"{num_rows:,} rows are more than max_bytes = {source.max_bytes:,} allows; raise it")
    dtypes = {name: numpy_dtype(schema.field(name).type) for name in chosen.all}
    complete = {name: whole_dtype(schema.field(name).type) for name in chosen.all}
    unsure = [name for name in chosen.all if dtypes[name].kind in "biu" and not _is_complete(footer, name)]
    looked_at = {name for name in chosen.target if dtypes[name].kind == "U"} | ({chosen.time} - {""})
    look = tables.Look(source, replace(chosen, target=tuple(n for n in chosen.target if n in looked_at)))
    gaps: set[str] = set()
    for batch in _batches(source, tuple(dict.fromkeys((*look.columns, *unsure)))) if looked_at or unsure else ():
        gaps |= {name for name in unsure if batch.column(name).null_count}
        for piece in as_arrays([batch], look.columns):
            look.add(piece)
    dtypes |= {name: with_gaps(dtypes[name]) for name in gaps}
    return replace(look.found(dtypes, complete), num_rows=num_rows)


def _is_complete(footer: Any, name: str) -> bool:
    """Whether the footer says that no cell of a column is empty."""
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = (group.column(k) for k in range(group.num_columns))
        column = next((each for each in columns if each.path_in_schema == name), None)
        statistics = column.statistics if column is not None else None
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
    return True


def _batches(source: DataSource, names: tuple[str, ...]) -> Iterator[Any]:
    try:
        with pa.parquet.ParquetFile(source.path, buffer_size=_READ_BYTES) as file:
            yield from file.iter_batches(ROWS_AT_ONCE, columns=list(names), use_threads=False)
    except pa.ArrowMemoryError:
        raise MemoryError from None
    except (OSError, pa.ArrowException) as error:
        raise source.error(f"cannot read {source.path}: {error}") from error


def _stat(source: DataSource) -> os.stat_result:
    try:
        return source.path.stat()
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror}") from error


def _schema(source: DataSource) -> Any:
    try:
        return pa.parquet.read_schema(source.path)
    except (OSError, pa.ArrowException) as error:
        raise source.error(f"{source.path} is not a Parquet file: {error}") from error
