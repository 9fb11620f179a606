"""What a simulated swarm shows of itself: evaluated models, and samples of every node's state.

Rows are appended one by one and kept as columns of plain machine numbers: a million of them take 64 to 136 MB, go into
a checkpoint in a moment, and become numpy arrays without a loop. Whoever reads a row gets a `Reading` or a `Sample`.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Self, TypeAlias, TypeVar, get_args, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

MODELS = ("working", "merged", "released")
SERVER_STATES = ("unknown", "reachable", "suspect", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One evaluated model of one node."""

    seed: Annotated[int, "the run's seed"]
    time_s: Annotated[float, "virtual time since the run began, in seconds"]
    round: Annotated[int, "the node's own round"]
    node: Annotated[int, "the node's number, from 0"]
    model: Annotated[str, MODELS, "which of the node's models: as trained, right after a merge, or as released"]
    loss: Annotated[float, "mean loss over the evaluated samples"]
    metric: Annotated[float, "the task's metric over the evaluated samples"]
    num_evaluated: Annotated[int, "samples that the model was evaluated on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How one node stands at one moment."""

    seed: Annotated[int, "the run's seed"]
    time_s: Annotated[float, "virtual time since the run began, in seconds"]
    round: Annotated[int, "the node's own round"]
    node: Annotated[int, "the node's number, from 0"]
    online: Annotated[bool, "whether the node has a connection"]
    version: Annotated[int, "the node's own updates so far"]
    age: Annotated[int, "optimiser steps in the node's model"]
    staleness: Annotated[float, "mean lag behind the known sources, in versions; nan where none is known"]
    staleness_bound: Annotated[float, "Lemma 1's bound on the expected lag, in versions; inf where nothing is sent"]
    num_neighbours: Annotated[int, "peers that the node can gossip with"]
    server: Annotated[str, SERVER_STATES, "the server as the node sees it"]
    messages_sent: Annotated[int, "messages sent since the run began"]
    bytes_sent: Annotated[int, "bytes sent since the run began"]
    messages_received: Annotated[int, "messages received since the run began"]
    bytes_received: Annotated[int, "bytes received since the run began"]
    joules: Annotated[float, "energy drawn since the run began, in joules; nan where the draw is not known"]
    training_s: Annotated[float, "virtual time spent training since the run began, in seconds"]


Row = TypeVar("Row", Reading, Sample)
Kind: TypeAlias = Literal["integer", "number", "flag", "word"]

_TYPE_CODES: Mapping[Kind, str] = {"integer": "q", "number": "d", "flag": "b", "word": "b"}
_DTYPES: Mapping[Kind, str] = {"integer": "i8", "number": "f8", "flag": "?", "word": "i1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One field of a row. `words` are the values of a column of words: a cell holds the place of its own there."""

    name: str
    kind: Kind
    doc: str
    words: tuple[str, ...] = ()

    def encode(self, value: Any) -> int | float:
        """The number that is kept for a value. Raises ValueError for a word that is not one of `words`."""
        match self.kind:
            case "integer":
                return operator.index(value)
            case "number":
                return float(value)
            case "flag":
                return int(bool(value))
            case "word":
                if value not in self.words:
                    raise ValueError(f"{self.name}: {value!r} is none of {', '.join(self.words)}")
                return self.words.index(value)

    def decode(self, cell: float) -> Any:
        """The value of a kept number."""
        return self.words[int(cell)] if self.kind == "word" else bool(cell) if self.kind == "flag" else cell


def columns_of(kind: type[Reading] | type[Sample]) -> tuple[Column, ...]:
    """The columns of a kind of row, in order: names, types and docs are those of the dataclass."""
    return _COLUMNS[kind]


def _described(row_type: type) -> tuple[Column, ...]:
    kinds: dict[type, Kind] = {int: "integer", float: "number", bool: "flag", str: "word"}
    columns = []
    for name, hint in get_type_hints(row_type, include_extras=True).items():
        base, *words, doc = get_args(hint)
        columns.append(Column(name=name, kind=kinds[base], doc=doc, words=words[0] if words else ()))
    return tuple(columns)


_COLUMNS: Mapping[type, tuple[Column, ...]] = {Reading: _described(Reading), Sample: _described(Sample)}


class Rows(Sequence[Row], Generic[Row]):
    """An append-only list of rows, kept as columns. Two are equal where all cells are, bit for bit (NaN included)."""

    def __init__(self, kind: type[Row]) -> None:
        self.kind: type[Row] = kind
        self._cells: dict[str, array[Any]] = {
            column.name: array(_TYPE_CODES[column.kind]) for column in columns_of(kind)
        }

    @classmethod
    def from_columns(cls, kind: type[Row], cells: Mapping[str, NDArray[Any]]) -> Rows[Row]:
        """Rows from one array [n] a column, words as their places in `Column.words`. The inverse of `column`.

        Raises ValueError where a column is missing, is shorter than another, or holds a place outside its words.
        """
        rows = cls(kind)
        for column in columns_of(kind):
            if column.name not in cells:
                raise ValueError(f"there is no column {column.name}")
            values = np.asarray(cells[column.name])
            if len(values) != len(cells["seed"]):
                raise ValueError(f"{column.name} has {len(values)} rows, seed has {len(cells['seed'])}")
            if column.words and len(values) and not 0 <= values.min() <= values.max() < len(column.words):
                raise ValueError(f"{column.name} holds a word that is none of {', '.join(column.words)}")
            rows._cells[column.name].frombytes(values.astype(_DTYPES[column.kind]).tobytes())
        return rows

    def append(self, row: Row) -> None:
        """Add a row at the end. A row with a wrong value raises and leaves no trace."""
        columns = columns_of(self.kind)
        encoded = [column.encode(getattr(row, column.name)) for column in columns]
        for column, cell in zip(columns, encoded, strict=True):
            self._cells[column.name].append(cell)

    def append_all(self, other: Rows[Row]) -> None:
        """Add all rows of another list, column by column."""
        for name, cells in self._cells.items():
            cells.extend(other._cells[name])

    def column(self, name: str) -> NDArray[Any]:
        """One column as a new array [n]: int64, float64, bool, or for words int8, their places in `Column.words`."""
        kind = next(column.kind for column in columns_of(self.kind) if column.name == name)
        return np.array(self._cells[name], dtype=_DTYPES[kind])

    def where(self, mask: NDArray[np.bool_]) -> Rows[Row]:
        """The rows at which a mask [n] is true, in a new list."""
        cells = {column.name: self.column(column.name)[mask] for column in columns_of(self.kind)}
        return Rows.from_columns(self.kind, cells)

    def __len__(self) -> int:
        return len(self._cells["seed"])

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        columns = columns_of(self.kind)
        row: Row = self.kind(**{column.name: column.decode(self._cells[column.name][place]) for column in columns})
        return row

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows) or self.kind is not other.kind:
            return NotImplemented
        return all(cells.tobytes() == other._cells[name].tobytes() for name, cells in self._cells.items())

    __hash__ = None  # type: ignore[assignment] # it grows

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {self.kind.__name__}>"


class Measurements:
    """All that one run, or several runs merged, measured: `readings` and `samples`, in the order of their making."""

    def __init__(self, rows: Iterable[Reading | Sample] = ()) -> None:
        self.readings: Rows[Reading] = Rows(Reading)
        self.samples: Rows[Sample] = Rows(Sample)
        self.extend(rows)

    def add(self, row: Reading | Sample) -> None:
        """Append one row. Raises ValueError for a model or a server state that does not exist."""
        match row:
            case Reading():
                self.readings.append(row)
            case Sample():
                self.samples.append(row)

    def extend(self, rows: Iterable[Reading | Sample]) -> None:
        """Append rows in order."""
        for row in rows:
            self.add(row)

    @classmethod
    def merged(cls, runs: Iterable[Measurements]) -> Self:
        """The rows of several runs, one run after the other."""
        together = cls()
        for run in runs:
            together.readings.append_all(run.readings)
            together.samples.append_all(run.samples)
        return together

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Measurements):
            return NotImplemented
        return self.readings == other.readings and self.samples == other.samples

    __hash__ = None  # type: ignore[assignment] # it grows

    def of_seed(self, seed: int) -> Measurements:
        """The rows of one seed."""
        chosen = Measurements()
        chosen.readings = self.readings.where(self.readings.column("seed") == seed)
        chosen.samples = self.samples.where(self.samples.column("seed") == seed)
        return chosen

    def __repr__(self) -> str:
        return f"<{len(self.readings)} readings, {len(self.samples)} samples>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Values by key. `keys` [k] rise; `values` [n] lie group by group and rise within each; `starts`, `counts` [k]."""

    keys: NDArray[Any]
    values: NDArray[np.float64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def quantile(self, share: float) -> NDArray[np.float64]:
        """Every group's quantile [k], interpolated between the two values next to it as numpy does."""
        place = share * (self.counts - 1)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, self.counts - 1)
        low, high = self.values[self.starts + below], self.values[self.starts + above]
        return np.asarray(low + (place - below) * (high - low), dtype=np.float64)

    def mean(self) -> NDArray[np.float64]:
        """Every group's mean [k]."""
        return np.asarray(np.add.reduceat(self.values, self.starts) / self.counts if len(self.keys) else self.values)

    def deviation(self) -> NDArray[np.float64]:
        """Every group's standard deviation [k], of the values at hand (not of a population that they stand for)."""
        if not len(self.keys):
            return self.values
        squares = np.square(self.values - np.repeat(self.mean(), self.counts))
        return np.sqrt(np.asarray(np.add.reduceat(squares, self.starts) / self.counts))


def grouped(keys: NDArray[Any], values: NDArray[Any]) -> Groups:
    """Group values [n] by keys [n]. Values that are not finite are left out, and groups of nothing else with them."""
    finite = np.isfinite(values)
    keys, numbers = keys[finite], values[finite].astype(np.float64)
    order = np.lexsort((numbers, keys))
    keys, numbers = keys[order], numbers[order]
    found, starts, counts = np.unique(keys, return_index=True, return_counts=True)
    return Groups(keys=found, values=numbers, starts=starts, counts=counts)


def series_of(rows: Rows[Row]) -> NDArray[np.int64]:
    """A number [n] for every row that tells its (seed, node) from every other; a seed's nodes are neighbours."""
    seeds = np.unique(rows.column("seed"), return_inverse=True)[1]
    nodes = rows.column("node")
    return np.asarray(seeds * (int(nodes.max(initial=0)) + 1) + nodes, dtype=np.int64)


def in_order(rows: Rows[Row]) -> NDArray[np.int64]:
    """The places [n] of all rows by seed, node, then time; rows of one moment stay in the order of their making."""
    return np.asarray(np.lexsort((rows.column("time_s"), series_of(rows))), dtype=np.int64)
