"""Sources with columns: which column is what, and how columns become arrays.

Where a task names columns, they are looked for under those names, or where the owner's `columns` says. Where it
names none, the owner's `columns` are taken in the order in which they are written.

    features   [n, k] of k columns (or [n] of one, where the task takes single numbers)
    target     the owner's `target`, else the column that the task names; text is a class's name, and becomes its number
    time       the owner's `time`: dates, or numbers since 1970 (`times`); rows are sorted by it
    time.hour, time.weekday    columns that a source with a time has beside its own (`time_parts`)

An empty cell is NaN: the task's pipeline says whether it may be.

A table is never held. A look counts its rows, finds the names of classes and the newest time, and shows them to whoever
judges them; a trainer then reads it once more, straight into arrays of the samples' size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.judging import Judge
from grapevine_agent.data.source import DataSource, Description, Header, RawSamples
from grapevine_agent.data.times import times_of, unit_s
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import derives_target
from grapevine_tasks.suggestions import did_you_mean

_ROWS_AT_ONCE: Final = 8192  # that formats hand over at a time, or fewer
_CELL_BYTES: Final = 160  # of a cell on its way: a text of usual length, twice
_MAX_CLASSES = 1_000  # names that are looked at; a column with more of them is no label


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which columns of a table are what."""

    features: tuple[str, ...]
    target: tuple[str, ...]  # empty: none
    time: str  # "": none
    parts: tuple[str, ...] = ()  # features that are made of the time

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        columns = dict.fromkeys((*self.features, *self.target, *([self.time] if self.time else [])))
        return tuple(name for name in columns if name not in self.parts)


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
    has_time = bool(source.time) or source.recording is not None
    parts = tuple(name for name in features if name in PARTS and name not in columns and has_time)
    chosen = Chosen(features=features, target=target, time=source.time, parts=parts)
    for name in chosen.all:
        if name not in columns and name in PARTS and name in features:
            raise source.error(f'has no time, and the task needs {name}: say which column it is, time = "…"')
        if name not in columns:
            raise source.error(f"has no column {name!r}; {did_you_mean(name, columns)} (see [[data]] columns, target)")
        if source.recording is None and columns.count(name) > 1:
            raise source.error(
                f"has {columns.count(name)} columns that are named {name!r}: give each a name of its own"
            )
    if not features:
        raise source.error('has no columns to learn from: name them, columns = ["…"]')
    return chosen


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a look at a table's columns found."""

    num_rows: int
    dtypes: Mapping[str, np.dtype[Any]]  # of `Chosen.all`; text has the kind "U"
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the distinct texts of targets, sorted
    newest_s: float | None = None  # of the time column
    complete: Mapping[str, np.dtype[Any]]  # what `dtypes` would be if no cell was empty


class Look:
    """One pass over a table: counts its rows, and looks at those of its columns that numbers alone do not tell."""

    def __init__(self, source: DataSource, chosen: Chosen) -> None:
        self.columns = tuple(dict.fromkeys((*chosen.target, *([chosen.time] if chosen.time else []))))
        self._source, self._chosen = source, chosen
        self._num_rows = 0
        self._names: dict[str, set[str]] = {}
        self._newest = self._largest = -np.inf
        self._is_number = False

    def count(self, num_rows: int) -> None:
        """So many rows more."""
        self._num_rows += num_rows

    def add(self, piece: Mapping[str, NDArray[Any]]) -> None:
        """Some of them, [n] of each of `columns`. Raises TaskError for a target of too many different texts."""
        for name in self._chosen.target:
            if piece[name].dtype.kind in "UO":
                names = self._names.setdefault(name, set())
                names |= {str(each) for each in piece[name].tolist() if each is not None}
                if len(names) > _MAX_CLASSES:
                    raise self._source.error(f"its target holds more than {_MAX_CLASSES:,} different texts: no classes")
        if self._chosen.time:
            times, self._is_number = times_of(self._source, piece[self._chosen.time])
            times = times[np.isfinite(times)]
            if times.size:
                self._newest = max(self._newest, float(times.max()))
                self._largest = max(self._largest, float(np.abs(times).max()))

    def found(self, dtypes: Mapping[str, np.dtype[Any]], complete: Mapping[str, np.dtype[Any]] | None = None) -> Found:
        """All of it, when every row was added; see `Found` for the dtypes."""
        unit = unit_s(self._largest) if self._is_number else 1.0
        return Found(
            num_rows=self._num_rows,
            dtypes=dtypes,
            names={name: tuple(sorted(names)) for name, names in self._names.items()},
            newest_s=self._newest * unit if np.isfinite(self._newest) else None,
            complete=dtypes if complete is None else complete,
        )


def describe_table(
    source: DataSource, contract: DataContract | None, chosen: Chosen, *, columns: Sequence[str], found: Found
) -> Description:
    """What a look tells of the samples to come. Raises TaskError for features that are no numbers."""
    arrays = {"x": Header(_feature_dtype(source, chosen, found), _shape(found.num_rows, chosen.features, contract))}
    if chosen.target:
        y_dtype = _target_dtype(chosen, found, contract, are_named=contract is not None and len(chosen.target) == 1)
        arrays["y"] = Header(y_dtype, _shape(found.num_rows, chosen.target, contract, is_target=True))
    num_numbers = sum(math.prod(header.shape) for header in arrays.values())
    times = found.num_rows if chosen.time else 0
    return Description(
        arrays=arrays,
        columns=tuple(columns),
        classes=found.names.get(chosen.target[0], ()) if len(chosen.target) == 1 else (),
        newest_s=found.newest_s,
        num_bytes=8 * num_numbers,
        # Times and the order that they make, a column in it; some rows as they come, of which text is the largest.
        working_bytes=(25 + 24 * bool(chosen.parts)) * times + _ROWS_AT_ONCE * _CELL_BYTES * len(chosen.all),
    )


def _feature_dtype(source: DataSource, chosen: Chosen, found: Found) -> np.dtype[Any]:
    columns = [name for name in chosen.features if name not in chosen.parts]
    for name in columns:
        if found.dtypes[name].kind not in "buif":
            raise source.error(f"the column {name!r} holds {_words(found.dtypes[name])}, and features are numbers")
    parts = [np.dtype(np.float64)] if chosen.parts else []
    return np.result_type(*(found.dtypes[name] for name in columns), *parts)


def _target_dtype(chosen: Chosen, found: Found, contract: DataContract | None, *, are_named: bool) -> np.dtype[Any]:
    """Of targets as they are, or once their names are numbers. Where a cell of whole ones is empty, the judge says."""
    number = np.dtype(np.int64)
    is_whole = contract is not None and contract.target.dtype == "int64"
    dtypes = [(found.complete if is_whole else found.dtypes)[name] for name in chosen.target]
    return np.result_type(*(number if are_named and dtype.kind in "UO" else dtype for dtype in dtypes))


class Rows:
    """The samples of a table that is read a stretch of rows at a time: into arrays of their final size.

    Raises TaskError, as its methods do, for features that are no numbers, for what the judge refuses, and for a table
    that has become longer since it was looked at.
    """

    def __init__(self, source: DataSource, contract: DataContract | None, chosen: Chosen, found: Found) -> None:
        self._source, self._contract, self._chosen, self._found = source, contract, chosen, found
        num = found.num_rows
        self._x = np.empty(_shape(num, chosen.features, contract), _feature_dtype(source, chosen, found))
        self._y = self._times = None
        if chosen.target:
            dtype = _target_dtype(chosen, found, contract, are_named=True)
            self._y = np.empty(_shape(num, chosen.target, contract, is_target=True), dtype)
        if chosen.time:
            self._times = np.empty(num)
        self._is_number = False
        self._filled = 0
        self._judge = None if contract is None else Judge(source, contract)
        if self._judge is not None:
            self._judge.begin(chosen.features, chosen.target)

    def add(self, piece: Mapping[str, NDArray[Any]]) -> None:
        """Some rows more: [n] of each of `Chosen.all`."""
        piece = with_parts(self._source, self._chosen, piece)
        num = len(piece[self._chosen.features[0]])
        span = slice(self._filled, self._filled + num)
        if span.stop > self._found.num_rows:
            raise self._source.error("has changed while it was read: it is read again with the next step")
        if self._judge is not None:
            self._judge.visit(self._filled, piece)
        for k, name in enumerate(self._chosen.features):
            _column(self._x, k)[span] = piece[name]
        for k, name in enumerate(self._chosen.target):
            assert self._y is not None
            part = piece[name]
            _column(self._y, k)[span] = self._numbers(name, part) if part.dtype.kind in "UO" else part
        if self._times is not None:
            self._times[span], self._is_number = times_of(self._source, piece[self._chosen.time])
        self._filled += num

    def samples(self, series: tuple[int, ...] = ()) -> RawSamples:
        """All rows, in order of time where there is a time."""
        x, y = self._x[: self._filled], None if self._y is None else self._y[: self._filled]
        if self._times is not None:
            times = self._times[: self._filled]
            if self._is_number:
                times *= unit_s(float(np.nanmax(np.abs(times), initial=0.0)))
            order = np.argsort(times, kind="stable")
            for array in (x, y) if y is not None else (x,):
                for k in range(array.shape[1] if array.ndim > 1 else 1):
                    _column(array, k)[...] = _column(array, k)[order]
        names = self._found.names.get(self._chosen.target[0], ()) if len(self._chosen.target) == 1 else ()
        return RawSamples(
            x=x,
            y=y,
            columns=self._chosen.features,
            target_columns=self._chosen.target,
            classes=self._classes(names) if names else (),
            series=series,
        )

    def _classes(self, present: tuple[str, ...]) -> tuple[str, ...]:
        """The task's classes, or else those that are there, in alphabetical order."""
        return self._contract.classes if self._contract is not None and self._contract.classes else present

    def _numbers(self, column: str, names: NDArray[Any]) -> NDArray[np.int64]:
        """The numbers of classes that are written as names."""
        classes = self._classes(self._found.names.get(column, ()))
        numbers = {name: number for number, name in enumerate(classes)}
        texts = [None if name is None else str(name) for name in names.tolist()]
        unknown = next((text for text in texts if text not in numbers), "")
        if unknown != "" or ("" in texts and "" not in numbers):
            what = "an empty cell" if unknown is None else repr(unknown)
            raise self._source.error(
                f"the column {column!r} holds {what}, and the task has the classes {', '.join(classes)}"
            )
        return np.array([numbers[text] for text in texts if text is not None], np.int64)


def with_parts(source: DataSource, chosen: Chosen, piece: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """Some rows of `Chosen.all` with the features that are made of their time. Raises TaskError like `times_of`."""
    if not chosen.parts or not chosen.time:
        return piece
    times, is_number = times_of(source, piece[chosen.time])
    if is_number:
        times = local_s(times * unit_s(float(np.nanmax(np.abs(times), initial=0.0))))
    return {**piece, **{name: PARTS[name](times) for name in chosen.parts}}


def local_s(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds since 1970 [n] as this device's clocks on the wall show them; NaN where they are out of range."""
    quarters, places = np.unique(np.floor(times / _QUARTER_S), return_inverse=True)
    shifts = np.array([_shift_s(float(quarter) * _QUARTER_S) for quarter in quarters])
    return times + shifts[places.reshape(-1)] if len(quarters) else times


def _shift_s(time_s: float) -> float:
    try:
        return float(time.localtime(time_s).tm_gmtoff)
    except (ValueError, OverflowError, OSError):
        return math.nan


def _hour(times: NDArray[np.float64]) -> NDArray[np.float64]:
    return (times % _DAY_S) / 3600.0


def _weekday(times: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.floor(times / _DAY_S) + _FIRST_WEEKDAY) % 7.0


_QUARTER_S: Final = 900.0  # clocks on the wall are put forward and back at such times
_DAY_S: Final = 86_400.0
_FIRST_WEEKDAY: Final = 3.0  # 1970 began on a Thursday; Monday is 0
PARTS: Final[Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "time.hour": _hour,  # 0 ≤ hour < 24, with a fraction
    "time.weekday": _weekday,  # 0 to 6
}


def _column(array: NDArray[Any], k: int) -> NDArray[Any]:
    """A view of column k of [n, k], or of [n]."""
    column: NDArray[Any] = array[:, k] if array.ndim > 1 else array
    return column


def _shape(
    num_rows: int, names: tuple[str, ...], contract: DataContract | None, *, is_target: bool = False
) -> tuple[int, ...]:
    spec = None if contract is None else contract.target if is_target else contract.features
    is_single = len(names) == 1 and (spec is None or spec.shape == ())
    return (num_rows,) if is_single else (num_rows, len(names))


def _words(dtype: np.dtype[Any]) -> str:
    return {"U": "text", "O": "text", "M": "dates"}.get(dtype.kind, str(dtype))
