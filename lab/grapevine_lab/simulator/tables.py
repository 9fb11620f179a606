"""The measurements as files: `models` and `nodes`, each as CSV for people and as Parquet for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from grapevine_lab.simulator.measurements import Column, Measurements, Reading, Row, Rows, Sample, columns_of
from grapevine_proto.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

MODELS_TABLE = "models"
NODES_TABLE = "nodes"
DOCS_KEY = b"grapevine.columns"  # in the Parquet schema's metadata: a JSON object, column → what it holds


def write_tables(measurements: Measurements, folder: Path) -> list[Path]:
    """Write `models.csv`, `models.parquet`, `nodes.csv` and `nodes.parquet`; existing ones are replaced.

    Rows stay in the order of their making. Floats are written so that they read back to the bit; `nan`, `inf` and
    `-inf` are themselves. The same measurements give the same bytes (Parquet: with the same release of pyarrow).
    Raises StoreError where the folder cannot be written.
    """
    from pyarrow import csv, parquet  # noqa: PLC0415 - slow to import

    written = []
    tables = {MODELS_TABLE: _table(measurements.readings), NODES_TABLE: _table(measurements.samples)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            written += [
                _write(folder / f"{name}.csv", table, csv.write_csv),
                _write(folder / f"{name}.parquet", table, parquet.write_table),
            ]
    except OSError as error:
        raise StoreError(f"cannot write the tables to {folder}: {error}") from error
    return written


def read_tables(folder: Path) -> Measurements:
    """The measurements of a finished run, from its Parquet files.

    Columns that this version does not know are ignored. Raises StoreError where a file is missing, damaged, or lacks
    a column.
    """
    measurements = Measurements()
    measurements.readings = _read(folder / f"{MODELS_TABLE}.parquet", Reading)
    measurements.samples = _read(folder / f"{NODES_TABLE}.parquet", Sample)
    return measurements


def _write(path: Path, table: pa.Table, write: Callable[[pa.Table, Path], None]) -> Path:
    # Under another name first: a run that is killed here leaves no half table behind.
    partial = path.with_name(f"{path.name}.partial")
    write(table, partial)
    partial.replace(path)
    return path


def _table(rows: Rows[Row]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - slow to import

    columns = columns_of(rows.kind)
    docs = {column.name: _doc(column) for column in columns}
    schema = pa.schema(
        [pa.field(column.name, _arrow_type(column), nullable=False) for column in columns],
        metadata={DOCS_KEY: json.dumps(docs, ensure_ascii=False).encode()},
    )
    arrays = []
    for column in columns:
        cells = pa.array(rows.column(column.name))
        if column.words:
            cells = pa.DictionaryArray.from_arrays(cells, list(column.words)).cast(pa.string())
        arrays.append(cells)
    return pa.Table.from_arrays(arrays, schema=schema)


def _doc(column: Column) -> str:
    return f"{column.doc} ({', '.join(column.words)})" if column.words else column.doc


def _arrow_type(column: Column) -> pa.DataType:
    import pyarrow as pa  # noqa: PLC0415 - slow to import

    match column.kind:
        case "integer":
            return pa.int64()
        case "number":
            return pa.float64()
        case "flag":
            return pa.bool_()
        case "word":
            return pa.string()


def _read(path: Path, kind: type[Row]) -> Rows[Row]:
    import pyarrow as pa  # noqa: PLC0415 - slow to import
    from pyarrow import compute, parquet  # noqa: PLC0415

    if not path.is_file():
        raise StoreError(f"there is no {path.name} in {path.parent}: name the folder of a finished run")
    cells = {}
    try:
        table = parquet.read_table(path)
        for column in columns_of(kind):
            if column.name not in table.column_names:
                raise StoreError(f"{path} has no column {column.name}: another version of Grapevine wrote it")
            values = table[column.name].cast(_arrow_type(column))
            if column.words:
                values = compute.fill_null(compute.index_in(values, value_set=pa.array(column.words)), -1)
            cells[column.name] = values.to_numpy()
        return Rows.from_columns(kind, cells)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
