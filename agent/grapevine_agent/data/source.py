"""A data source as its owner configured it, what is in it, and its samples.

Three stages, each a frozen record:

    DataSource    what the owner wrote: a kind, a format, where it is           cheap, always there
    Description   what a look tells: counts, shapes, classes, age     for matching; made in a process of its own
    RawSamples    the arrays, as they are in the source               in the trainer process
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from grapevine_proto.errors import TaskError

if TYPE_CHECKING:  # a command that asks the service needs neither
    import numpy as np
    from numpy.typing import NDArray

    from grapevine_proto.manifest import DataContract

RECORDINGS_FILE = "recordings.db"  # in the state folder: what was heard on live topics
RELOAD_S = 600.0  # a task gets what a source gained at most this often: its trainer process starts anew for it


@dataclass(frozen=True, kw_only=True)
class ColumnPlan:
    """Where a column's readings are in messages, and what becomes of them: mapped or a number, then x · scale + offset.

    `map` holds pairs of a text, as it comes, and what stands for it: of a column a number, of a target a name as well.
    """

    topic: str = ""  # an MQTT filter of its own; "": the source's
    path: str = "$"
    map: tuple[tuple[str, float | str], ...] = ()
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RecordingPlan:
    """How live topics become rows: one row for each series and each slot of `every_s` seconds.

    A series is a topic; where a column or the target has a topic of its own, it is a device (see `recorder`).
    """

    topic: str  # an MQTT filter; "": each column has its own
    columns: tuple[ColumnPlan, ...] = ()  # one for each of the source's; none: the source has their paths
    target: ColumnPlan | None = None  # None: the source has its path, if there is one
    every_s: int = 60
    resample: str = "last"  # of the readings in a slot: "last" or "mean"
    hold_s: int = 3600  # a column keeps its last reading for so long: many sensors speak only when something changes
    keep_days: float = 30.0
    max_rows: int = 100_000
    devices: str = "separate"  # each topic is a series of its own, or "merged" into one


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV file is written."""

    separator: str = ","  # between cells: one character
    decimal: str = "."  # between a number's whole part and its fraction: "." or ","
    encoding: str = "utf-8"  # as Python names it; a byte-order mark of UTF-8 is skipped


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Samples that the owner configured: what they are (`kind`, matched with the task's) and where.

    `columns` says where the task's columns are found: pairs of the task's name and the source's (a column, or
    a JSON path for topics). Empty: under the names that the task gives them.
    """

    name: str
    kind: str
    path: Path  # a file or folder; for topics the database of recordings
    format: str = "npz"
    columns: tuple[tuple[str, str], ...] = ()
    target: tuple[str, ...] = ()
    time: str = ""
    dialect: Dialect = Dialect()
    query: str = ""
    dataset: str = ""
    download: bool = False
    recording: RecordingPlan | None = None
    max_bytes: int = 0  # of the arrays in memory; 0: no limit
    reload_s: float = RELOAD_S

    def to_json(self) -> str:
        """As text, for the trainer process."""
        return json.dumps({**asdict(self), "path": str(self.path.absolute())})

    @staticmethod
    def from_json(text: str) -> DataSource:
        """The source that `to_json` wrote. Raises TaskError when it is none."""
        try:
            fields: dict[str, Any] = json.loads(text)
            plan = fields.pop("recording")
            if plan is not None:
                plan["columns"] = tuple(_column_plan(each) for each in plan["columns"])
                plan["target"] = None if plan["target"] is None else _column_plan(plan["target"])
            return DataSource(
                **fields
                | {
                    "path": Path(fields["path"]),
                    "columns": tuple((wanted, found) for wanted, found in fields["columns"]),
                    "target": tuple(fields["target"]),
                    "dialect": Dialect(**fields["dialect"]),
                    "recording": None if plan is None else RecordingPlan(**plan),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TaskError(f"the trainer and the service do not understand each other: {text[:80]!r}") from error

    def error(self, what: str) -> TaskError:
        """What is wrong with this source, under its name."""
        return TaskError(f"{self.name}: {what}")


def _column_plan(fields: dict[str, Any]) -> ColumnPlan:
    return ColumnPlan(**fields | {"map": tuple((text, stands) for text, stands in fields["map"])})


@dataclass(frozen=True)
class Header:
    """The dtype and shape of one array: [n, …]."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is in a source, as far as can be told without loading it."""

    arrays: Mapping[str, Header]  # of "x", "y", "x_test", "y_test": those that there are
    columns: tuple[str, ...] = ()  # that the source has, for tables
    classes: tuple[str, ...] = ()  # names of the classes, where classes have names
    newest_s: float | None = None  # Unix time of the newest sample
    num_gaps: int = 0  # rows of missing numbers that may stand between the runs of a series, beside those counted
    num_bytes: int = 0  # that the arrays will take in memory, at most
    working_bytes: int = 0  # that loading them takes beside the arrays, at most
    library_bytes: int = 0  # that the libraries which load them take, for good
    facts: Mapping[str, Any] = field(default_factory=dict)  # more that an owner wants to see


@dataclass(frozen=True, kw_only=True, eq=False)
class RawSamples:
    """Arrays as they are in the source. Class names have become numbers where a contract named them."""

    x: NDArray[Any]  # [n, …]
    y: NDArray[Any] | None = None  # [n, …]
    x_test: NDArray[Any] | None = None
    y_test: NDArray[Any] | None = None
    series: tuple[int, ...] = ()  # how many rows belong to each of several series; empty: all to one
    columns: tuple[str, ...] = ()  # of x [n, k]
    target_columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


class Visitor(Protocol):
    """Who sees the raw samples of a source as they are read, piece by piece: `judging.Judge`, `survey.Statistics`."""

    def begin(self, features: tuple[str, ...], target: tuple[str, ...]) -> None:
        """What the arrays to come are called. Called again where reading begins anew: what was seen is void."""

    def visit(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Some rows: of a table [n] of each column, else [n, …] of one array; `row` is the first of them, from 0."""


class Format(Protocol):
    """One kind of source: a module with these three functions.

    All raise TaskError, naming the source, the value and the remedy. Without a contract they tell and load
    what the configuration names, or else everything that is a number.
    """

    def describe(self, source: DataSource, contract: DataContract | None) -> Description:
        """Look at headers, of tables without such at all rows."""

    def examine(self, source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
        """Read all samples once and show them to the visitors, some at a time; they may raise TaskError."""

    def load(self, source: DataSource, contract: DataContract | None) -> RawSamples:
        """Read the samples."""


@dataclass(frozen=True, eq=False)
class ContractKey:
    """A contract as the key of a cache: contracts hold mappings, and so have no hash of their own."""

    contract: DataContract | None

    def __hash__(self) -> int:
        return hash(repr(self.contract))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContractKey) and self.contract == other.contract
