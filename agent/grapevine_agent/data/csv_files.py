"""CSV files with a line of column names. Numbers, dates and text are told apart by what is in a column.

A file is read a block at a time, so that it takes the memory of its numbers and no more. A column is taken for what
its first block looks like; where a later line is something else, it is read again as the next wider type, in the
order in which Arrow itself would widen it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from grapevine_agent.data import tables
from grapevine_agent.data.arrow_tables import LIBRARY_BYTES, as_arrays, numpy_dtype, with_gaps
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples
from grapevine_proto.manifest import DataContract

BLOCK_BYTES: Final = 2**20  # of text at a time; no line is longer
_WORKING_BYTES: Final = 24 * BLOCK_BYTES  # blocks that are read ahead, parsed and converted
_GAPS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "unavailable", "unknown"]
_WIDER: Final = (
    *(pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("ns")),
    *(pa.float64(), pa.string(), pa.binary()),
)
_AT_COLUMN = re.compile(r"CSV column #(\d+)")


@dataclass(frozen=True)
class _Table:
    """What one pass over a file found of the columns that matter."""

    columns: tuple[str, ...]
    types: tuple[tuple[str, Any], ...]
    found: tables.Found


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Counts, dtypes and class names: a pass over the columns that matter, kept until the file changes."""
    stat = _stat(source)
    return _describe(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The columns as arrays."""
    stat = _stat(source)
    table = _look(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)
    chosen = tables.choose(source, contract, table.columns)
    rows = tables.Rows(source, contract, chosen, table.found)
    for piece in as_arrays(_batches(source, chosen, dict(table.types)), chosen.all):
        rows.add(piece)
    return rows.samples()


@lru_cache(maxsize=64)
def _describe(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> Description:
    table = _look(source, key, mtime_ns, size)
    chosen = tables.choose(source, key.contract, table.columns)
    described = tables.describe_table(source, key.contract, chosen, columns=table.columns, found=table.found)
    newest_s = described.newest_s if chosen.time else mtime_ns / 1e9
    return replace(
        described,
        newest_s=newest_s,
        working_bytes=described.working_bytes + _WORKING_BYTES,
        library_bytes=LIBRARY_BYTES,
    )


@lru_cache(maxsize=64)
def _look(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> _Table:  # noqa: ARG001 — they date it
    """Read the file until every column is as wide as it must be."""
    columns = _columns(source)
    chosen = tables.choose(source, key.contract, columns)
    types: dict[str, Any] = {}
    while True:
        try:
            return _pass_over(source, chosen, columns, types)
        except _TooNarrow as error:
            types[error.column] = error.wider


def _pass_over(source: DataSource, chosen: tables.Chosen, columns: list[str], types: dict[str, Any]) -> _Table:
    look = tables.Look(source, chosen)
    read: dict[str, Any] = {}
    gaps: set[str] = set()
    for batch in _batches(source, chosen, types):
        read = {name: batch.column(name).type for name in chosen.all}
        gaps |= {name for name in chosen.all if batch.column(name).null_count}
        for piece in as_arrays([batch], look.columns) if look.columns else ():
            look.add(piece)
        look.count(batch.num_rows)
    read = read or {name: types.get(name, pa.null()) for name in chosen.all}
    dtypes = {name: numpy_dtype(kind) for name, kind in read.items()}
    dtypes |= {name: with_gaps(dtypes[name]) for name in gaps}
    return _Table(columns=tuple(columns), types=tuple(read.items()), found=look.found(dtypes))


class _TooNarrow(Exception):  # noqa: N818 — it is caught here and nowhere else
    """A line of a column is not of the type that it is read as."""

    def __init__(self, column: str, wider: Any) -> None:
        super().__init__(column)
        self.column, self.wider = column, wider


def _batches(source: DataSource, chosen: tables.Chosen, types: dict[str, Any]) -> Iterator[Any]:
    convert = pa.csv.ConvertOptions(
        include_columns=list(chosen.all), null_values=_GAPS, strings_can_be_null=True, column_types=types
    )
    read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    names: list[str] = []
    found: dict[str, Any] = {}
    try:
        with pa.csv.open_csv(source.path, read_options=read, convert_options=convert) as reader:
            found = {name: reader.schema.field(name).type for name in chosen.all}
            yield from reader
    except pa.ArrowMemoryError:
        raise MemoryError from None
    except (OSError, pa.ArrowException) as error:
        at = _AT_COLUMN.search(str(error))
        names = _columns(source) if at and "conversion error" in str(error) else []
        if at is None or int(at[1]) >= len(names) or (name := names[int(at[1])]) not in chosen.all:
            raise source.error(f"cannot read {source.path}: {_explained(error)}") from error
        now = found.get(name, types.get(name, pa.null()))
        if now not in _WIDER[:-1]:
            raise source.error(f"cannot read {source.path}: {error}") from error
        raise _TooNarrow(name, _WIDER[_WIDER.index(now) + 1]) from error


def _explained(error: Exception) -> str:
    if "straddles two block boundaries" in str(error):
        return f"a line is longer than {BLOCK_BYTES:,} bytes: shorten it"
    return str(error)


def _stat(source: DataSource) -> os.stat_result:
    """The file's size and time. Raises TaskError when it is not there, or too large to be read at all."""
    try:
        stat = source.path.stat()
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror}") from error
    if 0 < source.max_bytes < stat.st_size // 4:  # text takes more room than numbers, but hardly four times
        raise source.error(
            f"{source.path.name} is {stat.st_size:,} bytes, and max_bytes allows {source.max_bytes:,} of numbers; "
            "offer fewer rows, or raise max_bytes of this [[data]]"
        )
    return stat


def _columns(source: DataSource) -> list[str]:
    try:
        with pa.csv.open_csv(source.path, read_options=pa.csv.ReadOptions(use_threads=False)) as reader:
            return list(reader.schema.names)
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise source.error(
            f"{source.path} is not a CSV file with a line of column names: {_explained(error)}"
        ) from error
