"""CSV files with a line of column names. Numbers, dates and text are told apart by what is in a column.

A file is read a block at a time, so that it takes the memory of its numbers and no more. A column is taken for what
its first block looks like; where a later line is something else, it is read again as the next wider type, in the
order in which Arrow itself would widen it.

What separates cells, what stands before a fraction and how text is encoded the owner says (`source.Dialect`). Where a
file cannot be read like that, the error says what it looks like (`csv_dialect`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from grapevine_agent.data import tables
from grapevine_agent.data.arrow_tables import LIBRARY_BYTES, as_arrays, numpy_dtype, whole_dtype, with_gaps
from grapevine_agent.data.csv_dialect import proposed
from grapevine_agent.data.judging import SampleFault
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples, Visitor
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract

BLOCK_BYTES: Final = 2**20  # of text at a time; no line is longer
_WORKING_BYTES: Final = 24 * BLOCK_BYTES  # blocks that are read ahead, parsed and converted
_GAPS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "unavailable", "unknown"]
_WIDER: Final = (
    *(pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.timestamp("s"), pa.timestamp("ns")),
    *(pa.float64(), pa.string()),
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
    with _explaining(source):
        table = _look(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)
        return _described(source, contract, table, stat)


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with all columns that matter shown to visitors in the same pass."""
    stat = _stat(source)
    with _explaining(source):
        return _described(source, contract, _looked(source, contract, visitors), stat)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The columns as arrays."""
    stat = _stat(source)
    with _explaining(source):
        table = _look(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)
        chosen = tables.choose(source, contract, table.columns)
        rows = tables.Rows(source, contract, chosen, table.found)
        for piece in as_arrays(_batches(source, chosen, dict(table.types)), chosen.all):
            rows.add(piece)
        return rows.samples()


def _described(source: DataSource, contract: DataContract | None, table: _Table, stat: os.stat_result) -> Description:
    chosen = tables.choose(source, contract, table.columns)
    described = tables.describe_table(source, contract, chosen, columns=table.columns, found=table.found)
    return replace(
        described,
        newest_s=described.newest_s if chosen.time else stat.st_mtime_ns / 1e9,
        working_bytes=described.working_bytes + _WORKING_BYTES,
        library_bytes=LIBRARY_BYTES,
    )


@lru_cache(maxsize=64)
def _look(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> _Table:  # noqa: ARG001 — they date it
    return _looked(source, key.contract, ())


def _looked(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> _Table:
    """Read the file until every column is as wide as it must be."""
    columns = _columns(source)
    chosen = tables.choose(source, contract, columns)
    types: dict[str, Any] = {}
    while True:
        for visitor in visitors:
            visitor.begin(chosen.features, chosen.target)
        try:
            return _pass_over(source, chosen, columns, types, visitors)
        except _TooNarrow as error:
            types[error.column] = error.wider


def _pass_over(
    source: DataSource, chosen: tables.Chosen, columns: list[str], types: dict[str, Any], visitors: Sequence[Visitor]
) -> _Table:
    look = tables.Look(source, chosen)
    shown = chosen.all if visitors else look.columns
    read: dict[str, Any] = {}
    gaps: set[str] = set()
    row = 0
    for batch in _batches(source, chosen, types):
        read = {name: batch.column(name).type for name in chosen.all}
        gaps |= {name for name in chosen.all if batch.column(name).null_count}
        for piece in as_arrays([batch], shown) if shown else ():
            look.add(piece)
            seen = tables.with_parts(source, chosen, piece) if visitors else piece
            for visitor in visitors:
                visitor.visit(row, seen)
            row += len(piece[shown[0]])
        look.count(batch.num_rows)
    read = read or {name: types.get(name, pa.null()) for name in chosen.all}
    complete = {name: whole_dtype(kind) for name, kind in read.items()}
    dtypes = {name: numpy_dtype(kind) for name, kind in read.items()}
    dtypes |= {name: with_gaps(dtypes[name]) for name in gaps}
    return _Table(columns=tuple(columns), types=tuple(read.items()), found=look.found(dtypes, complete))


class _TooNarrow(Exception):  # noqa: N818 — it is caught here and nowhere else
    """A line of a column is not of the type that it is read as."""

    def __init__(self, column: str, wider: Any) -> None:
        super().__init__(column)
        self.column, self.wider = column, wider


def _batches(source: DataSource, chosen: tables.Chosen, types: dict[str, Any]) -> Iterator[Any]:
    convert = pa.csv.ConvertOptions(
        include_columns=list(chosen.all),
        null_values=_GAPS,
        strings_can_be_null=True,
        column_types=types,
        decimal_point=source.dialect.decimal,
    )
    found: dict[str, Any] = {}
    try:
        with _opened(source, convert) as reader:
            found = {name: reader.schema.field(name).type for name in chosen.all}
            for name, kind in found.items():
                if pa.types.is_binary(kind):  # what Arrow takes text for that is not encoded as it should be
                    raise source.error(_not_encoded_column(source, name))
            yield from reader
    except pa.ArrowMemoryError:
        raise MemoryError from None
    except UnicodeError as error:
        raise source.error(_not_encoded(source, error)) from None
    except (OSError, pa.ArrowException) as error:
        at = _AT_COLUMN.search(str(error))
        names = _columns(source) if at and "conversion error" in str(error) else []
        if at is None or int(at[1]) >= len(names) or (name := names[int(at[1])]) not in chosen.all:
            raise source.error(f"cannot read {source.path}: {_explained(error)}") from error
        now = found.get(name, types.get(name, pa.null()))
        if now == pa.string():
            raise source.error(_not_encoded_column(source, name)) from error
        if now not in _WIDER[:-1]:
            raise source.error(f"cannot read {source.path}: {error}") from error
        raise _TooNarrow(name, _WIDER[_WIDER.index(now) + 1]) from error


def _opened(source: DataSource, convert: Any = None) -> Any:
    dialect = source.dialect
    read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding=_as_arrow_names(dialect.encoding))
    parse = pa.csv.ParseOptions(delimiter=dialect.separator)
    return pa.csv.open_csv(source.path, read_options=read, parse_options=parse, convert_options=convert)


def _as_arrow_names(encoding: str) -> str:
    """Arrow reads UTF-8 by itself, and everything else through Python."""
    return "utf8" if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig") else encoding


def _explained(error: Exception) -> str:
    if "straddles two block boundaries" in str(error):
        return f"a line is longer than {BLOCK_BYTES:,} bytes: shorten it"
    return str(error)


def _not_encoded(source: DataSource, error: UnicodeError) -> str:
    name = source.dialect.encoding
    at = (
        f" ({error.reason}: {error.object[error.start : error.end]!r})" if isinstance(error, UnicodeDecodeError) else ""
    )
    return f"cannot read {source.path}: it is not {'UTF-8' if _as_arrow_names(name) == 'utf8' else name}{at}"


def _not_encoded_column(source: DataSource, name: str) -> str:
    return f"cannot read {source.path}: it is not UTF-8: there is other text in the column {name!r}"


@contextmanager
def _explaining(source: DataSource) -> Iterator[None]:
    """What goes wrong is told with the cell as it stands in the file, and with what the file seems to be."""
    try:
        yield
    except SampleFault as fault:
        told: TaskError = fault
        with suppress(TaskError, OSError, ValueError):
            text = _cell(source, fault.column, fault.row)
            told = fault if text is None else fault.with_value(text)
        raise _advised(source, told) from None
    except TaskError as error:
        raise _advised(source, error) from error


def _advised(source: DataSource, error: TaskError) -> TaskError:
    advice = ""
    with suppress(OSError):
        advice = proposed(source.path, source.dialect)
    return TaskError(f"{error}; {advice}") if advice else error


def _cell(source: DataSource, column: str, row: int) -> str | None:
    """A cell as it is written; None if there is none."""
    convert = pa.csv.ConvertOptions(
        include_columns=[column], column_types={column: pa.string()}, null_values=[], strings_can_be_null=False
    )
    try:
        with _opened(source, convert) as reader:
            for batch in reader:
                if row < batch.num_rows:
                    return str(batch.column(0)[row].as_py())
                row -= batch.num_rows
    except (pa.ArrowException, UnicodeError):
        return None
    return None


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
        with _opened(source) as reader:
            return list(reader.schema.names)
    except UnicodeError as error:
        raise source.error(_not_encoded(source, error)) from None
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise source.error(
            f"{source.path} is not a CSV file with a line of column names: {_explained(error)}"
        ) from error
