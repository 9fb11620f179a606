"""Parquet files: counts and dtypes are in the footer."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from grapevine_agent.data import tables
from grapevine_agent.data.arrow_tables import numpy_dtype, to_numpy
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples
from grapevine_proto.manifest import DataContract


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Counts and dtypes from the footer, class names and the newest time from their columns; kept until it changes."""
    stat = _stat(source)
    return _describe(source, ContractKey(contract), stat.st_mtime_ns, stat.st_size)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The columns as arrays."""
    _stat(source)
    chosen = tables.choose(source, contract, _schema(source).names)
    table = _read(source, chosen.all)
    return tables.to_samples(source, contract, chosen, {name: to_numpy(table[name]) for name in chosen.all})


@lru_cache(maxsize=64)
def _describe(source: DataSource, key: ContractKey, mtime_ns: int, size: int) -> Description:  # noqa: ARG001
    schema = _schema(source)
    chosen = tables.choose(source, key.contract, schema.names)
    num_rows = pa.parquet.read_metadata(source.path).num_rows
    if 0 < source.max_bytes < num_rows * 8:
        raise source.error(f"{num_rows:,} rows are more than max_bytes = {source.max_bytes:,} allows; raise it")
    dtypes = {name: numpy_dtype(schema.field(name).type) for name in chosen.all}
    is_named = len(chosen.target) == 1 and dtypes[chosen.target[0]].kind == "U"
    looked_at = (*(chosen.target if is_named else ()), *([chosen.time] if chosen.time else []))
    table = _read(source, looked_at) if looked_at else None
    return tables.describe_table(
        source,
        key.contract,
        chosen,
        columns=schema.names,
        dtypes=dtypes,
        num_rows=num_rows,
        newest_s=tables.newest(source, to_numpy(table[chosen.time])) if table and chosen.time else mtime_ns / 1e9,
        classes=tables.class_names(source, to_numpy(table[chosen.target[0]])) if table and is_named else (),
    )


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


def _read(source: DataSource, columns: tuple[str, ...]) -> Any:
    try:
        return pa.parquet.read_table(source.path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise source.error(f"cannot read {source.path}: {error}") from error
