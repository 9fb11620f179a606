"""Sources with columns: which column is what, and how columns become arrays.

Where a task names columns, they are looked for under those names, or where the owner's `columns` says. Where it
names none, the owner's `columns` are taken in the order in which they are written.

    features   [n, k] of k columns (or [n] of one, where the task takes single numbers)
    target     the owner's `target`, else the column that the task names; text is a class's name, and becomes its number
    time       the owner's `time`: dates, or seconds or milliseconds since 1970; rows are sorted by it

An empty cell is NaN: the task's pipeline says whether it may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.source import DataSource, Description, Header, RawSamples
from grapevine_proto.manifest import DataContract, FeatureSpec
from grapevine_tasks.pipelines import derives_target
from grapevine_tasks.suggestions import did_you_mean

_MILLISECONDS = 1e11  # as seconds that would be the year 5138: larger numbers are milliseconds
_MAX_CLASSES = 1_000  # names that are looked at; a column with more of them is no label


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which columns of a table are what."""

    features: tuple[str, ...]
    target: tuple[str, ...]  # empty: none
    time: str  # "": none

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        return tuple(dict.fromkeys((*self.features, *self.target, *([self.time] if self.time else []))))


def choose(source: DataSource, contract: DataContract | None, columns: Sequence[str]) -> Chosen:
    """Which of a table's columns are read. Raises TaskError with the nearest name for one that is not there."""
    found = dict(source.columns)
    target = source.target
    if contract is not None and derives_target(contract):
        target = ()
    elif contract is not None and not target:
        target = contract.target.columns or (contract.target.name,)
        target = tuple(found.get(name, name) for name in target)
    if contract is not None and contract.features.columns:
        features = tuple(found.get(name, name) for name in contract.features.columns)
    elif found:
        features = tuple(found.values())
    else:
        features = tuple(name for name in columns if name not in (*target, source.time))
    chosen = Chosen(features=features, target=target, time=source.time)
    for name in chosen.all:
        if name not in columns:
            raise source.error(f"has no column {name!r}; {did_you_mean(name, columns)} (see [[data]] columns, target)")
    if not features:
        raise source.error('has no columns to learn from: name them, columns = ["…"]')
    return chosen


def describe_table(
    source: DataSource,
    contract: DataContract | None,
    chosen: Chosen,
    *,
    columns: Sequence[str],
    dtypes: Mapping[str, np.dtype[Any]],
    num_rows: int,
    newest_s: float | None,
    classes: Sequence[str] = (),
) -> Description:
    """What a table's header tells. `dtypes` are those of `chosen.all`; text has the kind "U"."""
    for name in chosen.features:
        if dtypes[name].kind not in "buif":
            raise source.error(f"the column {name!r} holds {_words(dtypes[name])}, and features are numbers")
    x_dtype = np.result_type(*(dtypes[name] for name in chosen.features))
    arrays = {"x": Header(x_dtype, _shape(num_rows, chosen.features, _features(contract)))}
    if chosen.target:
        y_dtype = np.result_type(*(dtypes[name] for name in chosen.target))
        if y_dtype.kind == "U" and contract is not None and len(chosen.target) == 1:
            y_dtype = np.dtype(np.int64)  # once names are numbers
        arrays["y"] = Header(y_dtype, _shape(num_rows, chosen.target, _target(contract)))
    num_bytes = sum(8 * num_rows for _ in chosen.all)
    return Description(
        arrays=arrays, columns=tuple(columns), classes=tuple(classes), newest_s=newest_s, num_bytes=num_bytes
    )


def to_samples(
    source: DataSource, contract: DataContract | None, chosen: Chosen, table: Mapping[str, NDArray[Any]]
) -> RawSamples:
    """Columns [n] of `chosen.all` as arrays, in order of time where there is a time."""
    x = _stacked([_number(source, name, table[name]) for name in chosen.features], _features(contract))
    y: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    if chosen.target:
        parts = []
        for name in chosen.target:
            part = table[name]
            if part.dtype.kind in "UO":
                part, classes = _named(source, contract, name, part)
            parts.append(part)
        y = _stacked(parts, _target(contract))
    if chosen.time:
        order = np.argsort(seconds(source, table[chosen.time]), kind="stable")
        x, y = x[order], None if y is None else y[order]
    return RawSamples(x=x, y=y, columns=chosen.features, target_columns=chosen.target, classes=classes)


def seconds(source: DataSource, column: NDArray[Any]) -> NDArray[np.float64]:
    """A time column [n] as seconds since 1970. Raises TaskError when it holds neither dates nor numbers."""
    if column.dtype.kind == "M":
        return column.astype("datetime64[us]").astype(np.int64) / 1e6
    if column.dtype.kind in "UO":
        try:
            return np.array(column, dtype="datetime64[us]").astype(np.int64) / 1e6
        except ValueError as error:
            raise source.error(
                f"the time column {source.time!r} holds no dates ({error}); write 2026-03-01T12:00:00, or seconds"
            ) from None
    numbers = column.astype(np.float64)
    if numbers.size and float(np.nanmax(np.abs(numbers))) > _MILLISECONDS:
        return numbers / 1000
    return numbers


def newest(source: DataSource, column: NDArray[Any]) -> float | None:
    """The latest time in a time column, None of an empty one."""
    times = seconds(source, column)
    times = times[np.isfinite(times)]
    return float(times.max()) if times.size else None


def class_names(source: DataSource, column: NDArray[Any]) -> tuple[str, ...]:
    """The distinct names in a column of text. Raises TaskError when there are too many of them to be classes."""
    names = {str(name) for name in column.tolist() if name is not None}
    if len(names) > _MAX_CLASSES:
        raise source.error(f"its target holds {len(names):,} different texts; classes are at most {_MAX_CLASSES:,}")
    return tuple(sorted(names))


def _named(
    source: DataSource, contract: DataContract | None, column: str, names: NDArray[Any]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The numbers of classes that are written as names: the task's numbers, or else those in alphabetical order."""
    present = class_names(source, names)
    classes = contract.classes if contract is not None and contract.classes else present
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in present if name not in numbers]
    if unknown or (len(names) and any(name is None for name in names.tolist())):
        what = repr(unknown[0]) if unknown else "an empty cell"
        raise source.error(f"the column {column!r} holds {what}, and the task has the classes {', '.join(classes)}")
    return np.array([numbers[str(name)] for name in names.tolist()], np.int64), classes


def _number(source: DataSource, name: str, column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind not in "buif":
        raise source.error(f"the column {name!r} holds {_words(column.dtype)}, and features are numbers")
    return column


def _stacked(parts: list[NDArray[Any]], spec: FeatureSpec | None) -> NDArray[Any]:
    if len(parts) == 1 and (spec is None or spec.shape == ()):
        return parts[0]
    return np.stack(parts, axis=1)


def _shape(num_rows: int, names: tuple[str, ...], spec: FeatureSpec | None) -> tuple[int, ...]:
    is_single = len(names) == 1 and (spec is None or spec.shape == ())
    return (num_rows,) if is_single else (num_rows, len(names))


def _features(contract: DataContract | None) -> FeatureSpec | None:
    return None if contract is None else contract.features


def _target(contract: DataContract | None) -> FeatureSpec | None:
    return None if contract is None else contract.target


def _words(dtype: np.dtype[Any]) -> str:
    return {"U": "text", "O": "text", "M": "dates"}.get(dtype.kind, str(dtype))
