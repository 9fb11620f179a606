"""What was recorded of live topics: an SQLite file of rows, bounded in number and age, and a source like any other.

    rows(source, topic, slot, run, numbers, label)

One row for each topic and slot of time (`every_s`), so the file grows with time and not with the rate of
messages. A *run* is a stretch of slots without a gap, named by its first slot: windows of a series never reach
across a gap. Write-ahead logging with `synchronous = NORMAL`: a killed process loses nothing that was committed.
A damaged file gives way to a fresh one with the rows that could be read (`store.sqlite_file`); a single row that is no
row is passed over.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data import tables
from grapevine_agent.data.json_paths import TRUTHS, number
from grapevine_agent.data.source import ContractKey, DataSource, Description, RawSamples, Visitor
from grapevine_agent.store.salvage import Layout, Table, text_or_bytes
from grapevine_agent.store.sqlite_file import FAULTS, SqliteFile
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import is_series

MERGED = ""  # the topic under which merged topics are one series
_DAY_S = 86_400
_ROWS_AT_ONCE = 512
_WORKING_BYTES = 16 * 2**20  # SQLite's pages and what it sorts with; rows on their way
_INT64_ENDS = 2.0**63
_LIBRARY_BYTES = 4 * 2**20

_SCHEMA = """
CREATE TABLE rows (
    source TEXT NOT NULL, topic TEXT NOT NULL, slot INTEGER NOT NULL, run INTEGER NOT NULL,
    numbers TEXT NOT NULL, label TEXT, PRIMARY KEY (source, topic, slot)
) WITHOUT ROWID;
CREATE INDEX rows_by_age ON rows (source, slot);
"""


_WHOLE = "typeof(slot) = 'integer' AND typeof(run) = 'integer'"  # SQLite keeps what it is given, damage included


@dataclass(frozen=True, kw_only=True)
class Row:
    """One slot of one topic: the columns' numbers, in the order of the configuration."""

    source: str
    topic: str
    slot: int  # Unix time of its beginning, in seconds
    run: int  # the first slot of its stretch
    numbers: tuple[float, ...]
    label: str | None = None


def _is_row(row: tuple[Any, ...]) -> bool:
    source, topic, slot, run, numbers, label = row
    texts = all(isinstance(text, str) for text in (source, topic, numbers)) and isinstance(label, str | None)
    return texts and isinstance(slot, int) and isinstance(run, int) and _numbers(numbers) is not None


LAYOUT = Layout(
    schema=_SCHEMA,
    version=1,
    tables=(
        Table(
            name="rows",
            columns="source, topic, slot, run, numbers, label",
            order="source, topic, slot",
            is_sound=_is_row,
            is_checked=False,
        ),
    ),
)


class Recordings:
    """The file, for the one process that writes it; any thread may call. Every method raises `StoreError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SqliteFile(path, LAYOUT, exclusive=False)

    def add(self, rows: Iterable[Row], sources: Iterable[DataSource], now_s: float) -> None:
        """Write rows in one transaction, and let the oldest go where a source has too many or too old ones."""
        values = [(r.source, r.topic, r.slot, r.run, json.dumps(r.numbers), r.label) for r in rows]
        sources = list(sources)

        def put(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)", values)
            for source in sources:
                _trim(connection, source, now_s)

        self._file.write("recordings", put)

    def latest(self, source: str) -> dict[str, tuple[int, int]]:
        """The newest slot of each topic of a source, and its run."""
        found = self._file.read(
            f"SELECT topic, MAX(slot), run FROM rows WHERE source = ? AND {_WHOLE} GROUP BY topic",  # noqa: S608
            (source,),
        )
        return {topic: (slot, run) for topic, slot, run in found if isinstance(topic, str)}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """How many rows there are, and of when the newest is; counted anew when something was written."""
    stamps = []
    for path in (source.path, source.path.with_name(source.path.name + "-wal")):
        stat = path.stat() if path.exists() else None
        stamps.append((stat.st_mtime_ns, stat.st_size) if stat else (0, 0))
    return _describe(source, ContractKey(contract), tuple(stamps))


@lru_cache(maxsize=64)
def _describe(source: DataSource, key: ContractKey, stamps: tuple[tuple[int, int], ...]) -> Description:  # noqa: ARG001
    contract = key.contract
    chosen = _chosen(source, contract)
    found, num_more = _look(source, contract, chosen)
    names = [*dict(source.columns).values(), *source.target]
    described = tables.describe_table(source, contract, chosen, columns=names, found=found)
    row_bytes = 8 * (len(chosen.features) + len(chosen.target))
    return replace(
        described,
        num_gaps=num_more,
        num_bytes=described.num_bytes + num_more * row_bytes,
        working_bytes=described.working_bytes + _WORKING_BYTES,
        library_bytes=_LIBRARY_BYTES,
        facts={"rows": found.num_rows},
    )


def _look(source: DataSource, contract: DataContract | None, chosen: tables.Chosen) -> tuple[tables.Found, int]:
    """What is in the rows, and how many more there may be: a gap between each two runs, and what comes meanwhile."""
    num_rows, newest_s = next(
        _read(source, f"SELECT COUNT(*), MAX(slot) FROM rows WHERE source = ? AND {_WHOLE}"),  # noqa: S608
        (0, None),
    )
    (num_runs,) = next(
        _read(source, "SELECT COUNT(*) FROM (SELECT DISTINCT topic, run FROM rows WHERE source = ?)"), (0,)
    )
    names = [*dict(source.columns).values(), *source.target]
    labels: list[str | None] = []
    if chosen.target:
        labels = [label for (label,) in _read(source, "SELECT DISTINCT label FROM rows WHERE source = ?")]
    classes = tuple(sorted(label for label in labels if isinstance(label, str)))
    is_named = bool(classes) and not all(map(_is_numeral, classes))
    dtypes: dict[str, Any] = {name: np.dtype(np.float64) for name in names}
    dtypes |= {name: np.dtype("U1") if is_named else _label_dtype(contract, classes) for name in chosen.target}
    found = tables.Found(
        num_rows=num_rows,
        dtypes=dtypes,
        names=dict.fromkeys(chosen.target, classes) if is_named else {},
        newest_s=None if newest_s is None else float(newest_s),
        complete=dtypes,
    )
    return found, num_runs + _ROWS_AT_ONCE  # some may be recorded before they are read


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with the rows shown to visitors, as a trainer reads them."""
    description = describe(source, contract)
    chosen = _chosen(source, contract)
    found, _ = _look(source, contract, chosen)
    for visitor in visitors:
        visitor.begin(chosen.features, chosen.target)
    row = 0
    lengths: Counter[str] = Counter()
    for topics, slots, numbers, labels in _stretches(source, contract) if visitors else ():
        lengths.update(topics)
        piece = _piece(source, chosen, found, slots, numbers, labels)
        for visitor in visitors:
            visitor.visit(row, piece)
        row += len(numbers)
    return replace(description, facts={**description.facts, "series": list(lengths.values())})


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The rows, topic by topic and in order of time; between two runs of a series stands a row of NaN."""
    chosen = _chosen(source, contract)
    found, num_more = _look(source, contract, chosen)
    rows = tables.Rows(source, contract, chosen, replace(found, num_rows=found.num_rows + num_more))
    lengths: dict[str, int] = {}
    for topics, slots, numbers, labels in _stretches(source, contract):
        for topic in topics:
            lengths[topic] = lengths.get(topic, 0) + 1
        rows.add(_piece(source, chosen, found, slots, numbers, labels))
    raw = rows.samples()
    return replace(
        raw,
        columns=(*(wanted for wanted, path in source.columns if path in chosen.features), *chosen.parts),
        series=tuple(lengths.values()),
    )


def _piece(
    source: DataSource,
    chosen: tables.Chosen,
    found: tables.Found,
    slots: Sequence[float],
    numbers: Sequence[Sequence[float]],
    labels: list[str | None],
) -> dict[str, NDArray[Any]]:
    """Some rows by column."""
    columns = np.array(numbers, np.float64).reshape(len(numbers), len(source.columns))
    piece: dict[str, NDArray[Any]] = {path: columns[:, k] for k, path in enumerate(dict(source.columns).values())}
    if chosen.parts:
        times = tables.local_s(np.array(slots, np.float64))
        piece |= {name: tables.PARTS[name](times) for name in chosen.parts}
    for name in chosen.target:
        if name not in piece:
            piece[name] = _label_column(source, labels, found.dtypes[name])
    return piece


def _stretches(
    source: DataSource, contract: DataContract | None
) -> Iterator[tuple[list[str], list[float], list[Sequence[float]], list[str | None]]]:
    """Topics, slots, numbers and labels of the rows, some at a time, with the gaps between runs of a series."""
    order = f"SELECT topic, slot, run, numbers, label FROM rows WHERE source = ? AND {_WHOLE} ORDER BY topic, slot"  # noqa: S608
    keep_apart = contract is not None and is_series(contract)
    num_columns = len(dict(source.columns))
    topics: list[str] = []
    slots: list[float] = []
    numbers: list[Sequence[float]] = []
    labels: list[str | None] = []
    last: tuple[str, int] | None = None
    last_label: str | None = None
    for topic, slot, run, text, label in _read(source, order):
        row = _numbers(text)
        if row is None or len(row) != num_columns or not isinstance(topic, str) or not isinstance(label, str | None):
            continue  # recorded before the owner changed the columns, or damaged since
        if keep_apart and last is not None and last[0] == topic and last[1] != run:
            topics.append(topic)
            slots.append(math.nan)
            numbers.append([math.nan] * num_columns)
            labels.append(last_label)
        last, last_label = (topic, run), label
        topics.append(topic)
        slots.append(slot)
        numbers.append(row)
        labels.append(label)
        if len(topics) >= _ROWS_AT_ONCE:
            yield topics, slots, numbers, labels
            topics, slots, numbers, labels = [], [], [], []
    if topics:
        yield topics, slots, numbers, labels


def _chosen(source: DataSource, contract: DataContract | None) -> tables.Chosen:
    known = dict(source.columns)
    if contract is not None:
        for name in contract.features.columns:
            if name not in known and name not in tables.PARTS:
                raise source.error(
                    f"the task needs a column {name!r} and [data.columns] has {', '.join(known)}: "
                    f'write {name} = "$.…", where a message has it'
                )
        if not contract.features.columns and contract.features.shape not in ((len(known),), ()):
            raise source.error(f"records {len(known)} columns, the task takes {list(contract.features.shape)}")
    return tables.choose(source, contract, [*known.values(), *source.target])


def _label_dtype(contract: DataContract | None, labels: Iterable[str | None]) -> np.dtype[Any]:
    """Of labels that are numbers: as the task wants them, else whole ones where they are."""
    if contract is not None:
        return np.dtype(contract.target.dtype)
    return np.dtype(np.int64 if all(float(label or 0).is_integer() for label in labels) else np.float64)


def _label_column(source: DataSource, labels: list[str | None], dtype: np.dtype[Any]) -> NDArray[Any]:
    if None in labels:
        raise source.error("some rows have no target: they were recorded before `target` was set; rename the source")
    if dtype.kind == "U":
        return np.array(labels, object)
    numbers = np.array([float(label or 0) for label in labels])
    # Where one of whole numbers is not, the judge says it.
    is_whole = bool(((numbers == np.floor(numbers)) & (np.abs(numbers) < _INT64_ENDS)).all())
    return numbers.astype(np.int64) if dtype.kind == "i" and is_whole else numbers


def _is_numeral(label: str) -> bool:
    """Whether a label is a number and no name; ON and OFF are names."""
    return number(label) is not None and label.lower() not in TRUTHS


def _numbers(text: object) -> list[float] | None:
    """The numbers of a row; None where its text holds something else."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(type(each) in (int, float) for each in found):
        return None
    with suppress(OverflowError):
        return [float(each) for each in found]
    return None


def _read(source: DataSource, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a query on this source's recordings, one by one; none before the agent has ever recorded."""
    if not source.path.exists():
        return
    trouble: BaseException | None = None
    # A full disk has no room for what SQLite keeps beside the file: then what is in the file itself is read.
    for way in ("mode=ro", "immutable=1"):
        num_read = 0
        try:
            uri = f"file:{quote(str(source.path.absolute()))}?{way}"
            with closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as connection:
                connection.text_factory = text_or_bytes
                for row in connection.execute(query, (source.name,)):
                    num_read += 1
                    yield row
                return
        except FAULTS as error:
            trouble = trouble or error
            if num_read:
                break
    raise source.error(f"cannot read the recordings in {source.path}: {trouble}") from trouble


def _trim(connection: sqlite3.Connection, source: DataSource, now_s: float) -> None:
    plan = source.recording
    assert plan is not None
    oldest = int(now_s - plan.keep_days * _DAY_S)
    connection.execute("DELETE FROM rows WHERE source = ? AND slot < ?", (source.name, oldest))
    # The slot of the newest row that is one too many; ties go with it.
    surplus = connection.execute(
        "SELECT slot FROM rows WHERE source = ? ORDER BY slot DESC LIMIT 1 OFFSET ?", (source.name, plan.max_rows)
    ).fetchone()
    if surplus is not None:
        connection.execute("DELETE FROM rows WHERE source = ? AND slot <= ?", (source.name, surplus[0]))
