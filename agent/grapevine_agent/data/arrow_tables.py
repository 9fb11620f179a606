"""What CSV and Parquet share: Arrow's columns as NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


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


def to_numpy(column: Any) -> NDArray[Any]:
    """An Arrow column [n]; gaps in numbers are NaN, in text None."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if numpy_dtype(column.type).kind == "M":
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy())
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pa.int8())
    return np.asarray(column.to_numpy())
