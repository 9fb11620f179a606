"""What CSV and Parquet share: Arrow's columns as NumPy's, a stretch of rows at a time.

Arrow reads ahead on as many threads as there are; here it has one. Which allocator it uses `formats` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

pa.set_io_thread_count(1)

# That Arrow adds to a process which has read something with it: 36 to 47 MB were seen, by the processor.
LIBRARY_BYTES: Final = 56 * 2**20
ROWS_AT_ONCE: Final = 8192


def numpy_dtype(kind: Any) -> np.dtype[Any]:
    """The dtype that `to_numpy` gives a column of an Arrow type; object for what has none."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return np.dtype("U1")
    if pa.types.is_temporal(kind):
        return np.dtype("M8[us]") if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else np.dtype(object)
    if pa.types.is_null(kind):
        return np.dtype(np.float64)
    try:
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return np.dtype(object)
    return found


def with_gaps(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a column that misses some of its cells: whole numbers have no word for that."""
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype


def whole_dtype(kind: Any) -> np.dtype[Any]:
    """The same as if no cell was empty: a column of none but empty ones may be anything."""
    return np.dtype(np.int64) if pa.types.is_null(kind) else numpy_dtype(kind)


def to_numpy(column: Any) -> NDArray[Any]:
    """An Arrow array [n]; gaps in numbers are NaN, in text None."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if numpy_dtype(column.type).kind == "M":
        return np.asarray(column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False))
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pa.int8())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def as_arrays(batches: Iterable[Any], names: Iterable[str]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Arrow's batches as NumPy arrays by column, `ROWS_AT_ONCE` rows or fewer."""
    wanted = tuple(names)
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            piece = batch.slice(start, ROWS_AT_ONCE)
            yield {name: to_numpy(piece.column(name)) for name in wanted}
