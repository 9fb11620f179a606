"""CSV files with a line of column names. Numbers, dates and text are told apart by what is in a column."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.csv

from grapevine_agent.data import tables
from grapevine_agent.data.arrow_tables import numpy_dtype, to_numpy
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples
from grapevine_proto.manifest import DataContract

_GAPS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "unavailable", "unknown"]


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Counts, dtypes and class names: one pass over the columns that matter, kept until the file changes."""
    stat = _stat(source)
    return _describe(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The columns as arrays."""
    _stat(source)
    chosen = tables.choose(source, contract, _columns(source))
    table = _read(source, chosen)
    return tables.to_samples(source, contract, chosen, {name: to_numpy(table[name]) for name in chosen.all})


@lru_cache(maxsize=64)
def _describe(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> Description:  # noqa: ARG001
    columns = _columns(source)
    chosen = tables.choose(source, key.contract, columns)
    table = _read(source, chosen)
    dtypes = {name: numpy_dtype(table[name].type) for name in chosen.all}
    is_named = len(chosen.target) == 1 and dtypes[chosen.target[0]].kind == "U"
    return tables.describe_table(
        source,
        key.contract,
        chosen,
        columns=columns,
        dtypes=dtypes,
        num_rows=table.num_rows,
        newest_s=tables.newest(source, to_numpy(table[chosen.time])) if chosen.time else mtime_ns / 1e9,
        classes=tables.class_names(source, to_numpy(table[chosen.target[0]])) if is_named else (),
    )


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
        with pa.csv.open_csv(source.path) as reader:
            return list(reader.schema.names)
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise source.error(f"{source.path} is not a CSV file with a line of column names: {error}") from error


def _read(source: DataSource, chosen: tables.Chosen) -> Any:
    options = pa.csv.ConvertOptions(include_columns=list(chosen.all), null_values=_GAPS, strings_can_be_null=True)
    try:
        return pa.csv.read_csv(source.path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise source.error(f"cannot read {source.path}: {error}") from error
