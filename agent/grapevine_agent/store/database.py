"""What the agent keeps in SQLite: records, sequences, memberships, metrics history and small settings.

Write-ahead logging with `synchronous = NORMAL`: a killed process loses nothing that was committed; a
power cut may lose the last commits, never the file. That is enough, because what others hold us to
heals by itself: a sequence continues from the clock, and records are announced again. What becomes of a
damaged file, and of one on a disk that takes nothing, stands in `sqlite_file`.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grapevine_agent.store.salvage import Layout, Row, Table, rows_of_copy
from grapevine_agent.store.sqlite_file import LARGEST_INTEGER, SqliteFile
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Figure, Metrics, Share

SCHEMA_VERSION = 1
MAX_SEQUENCES_READ = 100_000
READ_RECORDS = 1_000  # at a time
READ_BYTES = 2_000_000  # at a time, of their envelopes
METRICS_KEPT = 5_000  # lines per task: some 80 bytes each in the file
METRICS_KEPT_IN_ALL = 50_000  # an agent may have taken part in any number of tasks
LARGEST_SEQUENCE = 1 << 53  # of our own: the clock needs 250,000 years to get there, so more was never given
_PRUNE_EVERY = 256  # additions between two prunings of the metrics
_SESSION = "session"  # our own session shares the table of sequences; no topic is named so
_PEER = "peer"  # among the settings: whose folder this is
_PEER_ID = re.compile(r"[a-z2-7]{20}")
_OWN_TOPIC = re.compile(rf"peer/({_PEER_ID.pattern})/announcement")

_SCHEMA = """
CREATE TABLE records (
    topic TEXT PRIMARY KEY, author TEXT NOT NULL, sequence INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL, envelope BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE sequences (topic TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE memberships (task TEXT PRIMARY KEY, state TEXT NOT NULL, changed_at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, peer TEXT NOT NULL, at_ms INTEGER NOT NULL, line TEXT NOT NULL
);
CREATE INDEX metrics_by_task ON metrics (task, id);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

# After a topic, the next ones of a kind: at most so many, and so many bytes (but one record in any case).
_SOME_RECORDS = """
SELECT topic, author, sequence, expires_at_ms, envelope FROM (
    SELECT *, SUM(LENGTH(envelope)) OVER (ORDER BY topic) AS total FROM (
        SELECT * FROM records WHERE topic > ? AND (topic LIKE '%/review') = ? ORDER BY topic LIMIT ?
    )
) WHERE total - LENGTH(envelope) < ? ORDER BY topic
"""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= LARGEST_INTEGER


def _is_record(row: Row) -> bool:
    topic, author, sequence, expires_at_ms, envelope = row
    texts = isinstance(topic, str) and isinstance(author, str)
    return texts and _is_count(sequence) and _is_count(expires_at_ms) and isinstance(envelope, bytes)


def _is_metrics_line(row: Row) -> bool:
    id_, task, peer, at_ms, line = row
    return _is_count(id_) and _is_count(at_ms) and all(isinstance(text, str) for text in (task, peer, line))


LAYOUT = Layout(
    schema=_SCHEMA,
    version=SCHEMA_VERSION,
    tables=(
        Table(
            name="records",
            columns="topic, author, sequence, expires_at_ms, envelope",
            order="topic",
            is_sound=_is_record,
        ),
        Table(
            name="sequences",
            columns="topic, sequence",
            order="topic",
            is_sound=lambda row: isinstance(row[0], str) and _is_count(row[1]),
        ),
        Table(
            name="memberships",
            columns="task, state, changed_at_ms",
            order="task",
            is_sound=lambda row: isinstance(row[0], str) and isinstance(row[1], str) and isinstance(row[2], int),
        ),
        Table(
            name="settings",
            columns="key, value",
            order="key",
            is_sound=lambda row: isinstance(row[0], str) and isinstance(row[1], str),
        ),
        Table(
            name="metrics",
            columns="id, task, peer, at_ms, line",
            order="id",
            is_sound=_is_metrics_line,
            is_checked=False,
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class StoredRecord:
    """A record as it came: `envelope` is the exact bytes that its author signed. `expires_at_ms` 0: never.

    `topic` is the topic below the root.
    """

    topic: str
    author: str
    sequence: int
    expires_at_ms: int
    envelope: bytes


@dataclass(frozen=True, kw_only=True)
class MetricsEntry:
    """Metrics of a peer (ourselves included), and when they were heard."""

    peer: str
    at_ms: int
    metrics: Metrics


class Database:
    """One SQLite file behind a lock, so that any thread may call. Every method raises `StoreError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._additions = 0
        self._file = SqliteFile(path, LAYOUT, exclusive=True)

    def close(self) -> None:
        """Close the file; further calls raise `StoreError`."""
        self._file.close()

    # --- records ----------------------------------------------------------------------------------

    def put_record(self, record: StoredRecord) -> bool:
        """Keep a record, unless one with a higher sequence is held on its topic; then return False."""
        if not 0 <= record.sequence <= LARGEST_INTEGER or not 0 <= record.expires_at_ms <= LARGEST_INTEGER:
            raise StoreError(f"record on {record.topic!r}: sequence and expiry must be from 0 to 2^63 - 1; drop it")
        values = (record.topic, record.author, record.sequence, record.expires_at_ms, record.envelope)

        def put(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (topic) DO UPDATE SET author = excluded.author, sequence = excluded.sequence, "
                "expires_at_ms = excluded.expires_at_ms, envelope = excluded.envelope "
                "WHERE excluded.sequence >= records.sequence",
                values,
            )
            return cursor.rowcount > 0

        return self._file.write("record", put)

    def records(self) -> list[StoredRecord]:
        """All records, by topic."""
        return sorted(self.each_record(), key=lambda stored: stored.topic)

    def each_record(self) -> Iterator[StoredRecord]:
        """All records: reviews first, then the others, each by topic; read in parts of `READ_BYTES` at most."""
        for is_review in (True, False):
            after = ""
            while rows := self._file.read(_SOME_RECORDS, (after, is_review, READ_RECORDS, READ_BYTES)):
                for t, a, s, e, b in filter(_is_record, rows):
                    yield StoredRecord(topic=t, author=a, sequence=s, expires_at_ms=e, envelope=b)
                if not isinstance(rows[-1][0], str):
                    return  # damaged: there is no going on from it
                after = rows[-1][0]

    def delete_record(self, topic: str) -> None:
        """Forget the record on a topic, if there is one."""
        self._file.write("record", lambda to: to.execute("DELETE FROM records WHERE topic = ?", (topic,)))

    def forget_record(self, topic: str, sequence: int) -> None:
        """Forget a record that ran out, and keep its sequence: nothing older on its topic is news again.

        It stands among our own sequences: those are of topics below our own id, this is of another peer's.
        """

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM records WHERE topic = ?", (topic,))
            _raise_sequence(connection, topic, sequence)

        self._file.write("record", forget)

    def forget_sequence(self, topic: str) -> None:
        """Forget the sequence that was kept of a record that ran out."""
        self._file.write("sequence", lambda to: to.execute("DELETE FROM sequences WHERE topic = ?", (topic,)))

    def newest_sequences(self) -> dict[str, int]:
        """The newest sequence of each lasting record that we know to have run out, by topic below the root."""
        rows = self._file.read(
            "SELECT topic, sequence FROM sequences WHERE topic LIKE 'peer/%/task/%/review' "
            "OR topic LIKE 'peer/%/task/%/manifest' OR topic LIKE 'peer/%/app/%' ORDER BY sequence DESC LIMIT ?",
            (MAX_SEQUENCES_READ,),
        )
        return {topic: sequence for topic, sequence in rows if isinstance(topic, str) and _is_count(sequence)}

    def delete_expired_records(self, now_ms: int) -> int:
        """Forget the records that have expired, and return how many."""
        expired = "DELETE FROM records WHERE expires_at_ms > 0 AND expires_at_ms <= ?"
        return self._file.write("records", lambda to: to.execute(expired, (now_ms,)).rowcount)

    # --- our own sequences ------------------------------------------------------------------------

    def next_sequence(self, topic: str, now_ms: int) -> int:
        """The sequence of our next record on `topic`: the last one plus 1, or the clock if that is ahead.

        It is on disk before it is returned, so no sequence is used twice; and a peer that lost its
        state goes on from the clock.
        """
        values = (topic, now_ms, LARGEST_SEQUENCE)

        def take(connection: sqlite3.Connection) -> int:
            # All rows are fetched, for SQLite commits only what has run to its end.
            ((sequence,),) = connection.execute(
                "INSERT INTO sequences VALUES (?1, ?2) ON CONFLICT (topic) DO UPDATE SET sequence = "
                "CASE WHEN sequence < ?3 THEN max(sequence + 1, excluded.sequence) ELSE excluded.sequence END "
                "RETURNING sequence",
                values,
            ).fetchall()
            return int(sequence)

        return self._file.write("sequence", take)

    def last_sequence(self, topic: str) -> int:
        """The last sequence that was given to a record of ours on `topic`; -1 if none is known."""
        rows = self._file.read("SELECT sequence FROM sequences WHERE topic = ?", (topic,))
        return rows[0][0] if rows and _is_count(rows[0][0]) and rows[0][0] < LARGEST_SEQUENCE else -1

    def keep_sequences(self, sequences: Mapping[str, int]) -> None:
        """Remember sequences that were given out while nothing could be written."""

        def keep(connection: sqlite3.Connection) -> None:
            for topic, sequence in sequences.items():
                _raise_sequence(connection, topic, sequence)

        self._file.write("sequences", keep)

    def next_session(self, now_ms: int) -> int:
        """A session number larger than all that came before: one for each start of the service."""
        return self.next_sequence(_SESSION, now_ms)

    # --- memberships ------------------------------------------------------------------------------

    def set_membership(self, task: str, state: str, now_ms: int) -> None:
        """Remember what was decided of a task, e.g. "joined", "left" or "declined"."""
        values = (task, state, now_ms)
        self._file.write(
            "decision", lambda to: to.execute("INSERT OR REPLACE INTO memberships VALUES (?, ?, ?)", values)
        )

    def memberships(self) -> dict[str, str]:
        """What was decided, by task."""
        rows = self._file.read("SELECT task, state FROM memberships ORDER BY changed_at_ms, task")
        return {task: state for task, state in rows if isinstance(task, str) and isinstance(state, str)}

    def tasks(self) -> list[str]:
        """The tasks that a decision or metrics are kept of."""
        rows = self._file.read("SELECT task FROM memberships UNION SELECT task FROM metrics", ())
        return [task for (task,) in rows if isinstance(task, str)]

    def forget_task(self, task: str, *, but_decision: str = "") -> None:
        """Forget the decision on a task, unless it is `but_decision`, and its metrics."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM memberships WHERE task = ? AND state != ?", (task, but_decision))
            connection.execute("DELETE FROM metrics WHERE task = ?", (task,))

        self._file.write("decision", forget)

    # --- metrics ----------------------------------------------------------------------------------

    def add_metrics(self, peer: str, at_ms: int, metrics: Metrics) -> None:
        """Append one entry to a task's history."""
        self.add_all_metrics([MetricsEntry(peer=peer, at_ms=at_ms, metrics=metrics)])

    def add_all_metrics(self, entries: Sequence[MetricsEntry]) -> None:
        """Append to tasks' histories, in one go; of each the newest `METRICS_KEPT` entries are kept."""
        # NumPy's scalars come in here too; a NaN loss is kept, for it is news.
        lines = [
            (each.metrics.task, each.peer, each.at_ms, json.dumps(asdict(each.metrics), default=float))
            for each in entries
        ]
        before, self._additions = self._additions, self._additions + len(lines)
        prunes = before // _PRUNE_EVERY != self._additions // _PRUNE_EVERY

        def add(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT INTO metrics (task, peer, at_ms, line) VALUES (?, ?, ?, ?)", lines)
            if prunes:
                _prune_metrics(connection)

        self._file.write("metrics", add)

    def metrics(self, task: str, limit: int = 100) -> list[MetricsEntry]:
        """The newest `limit` entries of a task's history, oldest first."""
        limit = max(0, min(limit, METRICS_KEPT))
        rows = self._file.read(
            "SELECT peer, at_ms, line FROM metrics WHERE task = ? ORDER BY id DESC LIMIT ?", (task, limit)
        )
        entries: list[MetricsEntry] = []
        for peer, at_ms, line in reversed(rows):
            try:
                entries.append(MetricsEntry(peer=str(peer), at_ms=int(at_ms), metrics=_metrics(json.loads(line))))
            except (TypeError, ValueError, AttributeError):
                continue  # a line from a version with other fields, or a broken one: history, not state
        return entries

    # --- settings ---------------------------------------------------------------------------------

    def set_setting(self, key: str, value: str) -> None:
        """Keep a small text under a key: which MQTT version a broker speaks, whether we are paused."""
        values = (key, value)
        self._file.write("setting", lambda to: to.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", values))

    def setting(self, key: str) -> str | None:
        """The text under a key, or None."""
        rows = self._file.read("SELECT value FROM settings WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def remember_peer(self, peer: str) -> None:
        """Remember whose folder this is."""
        self.set_setting(_PEER, peer)

    def remembered_peer(self) -> str:
        """Whose folder this is; empty if nobody can tell. An older file tells by the topics that we wrote on."""
        named = self.setting(_PEER)
        if named and _PEER_ID.fullmatch(named):
            return named
        return _owner(self._file.read("SELECT topic FROM sequences WHERE topic LIKE 'peer/%/announcement'"))


def peer_of_copy(path: Path) -> str:
    """Whose database lies at `path`, without opening it; empty if nobody can tell. Never raises."""
    if not path.exists():
        return ""
    rows = rows_of_copy(path, LAYOUT)
    named = next((str(value) for key, value in rows.get("settings", []) if key == _PEER), "")
    return named if _PEER_ID.fullmatch(named) else _owner(rows.get("sequences", []))


def _owner(rows: Iterable[Row]) -> str:
    """Whose announcements were numbered; empty where it was nobody's, or more than one peer's."""
    topics = (row[0] for row in rows)
    owners = {found[1] for topic in topics if isinstance(topic, str) and (found := _OWN_TOPIC.fullmatch(topic))}
    return owners.pop() if len(owners) == 1 else ""


def _raise_sequence(connection: sqlite3.Connection, topic: str, sequence: int) -> None:
    connection.execute(
        "INSERT INTO sequences VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET "
        "sequence = max(sequences.sequence, excluded.sequence)",
        (topic, min(sequence, LARGEST_INTEGER)),
    )


def _prune_metrics(connection: sqlite3.Connection) -> None:
    for (task,) in connection.execute("SELECT DISTINCT task FROM metrics").fetchall():
        connection.execute(
            "DELETE FROM metrics WHERE task = ?1 AND id <= "
            "(SELECT id FROM metrics WHERE task = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (task, METRICS_KEPT),
        )
    connection.execute(
        "DELETE FROM metrics WHERE id <= (SELECT id FROM metrics ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (METRICS_KEPT_IN_ALL,),
    )


def _metrics(line: dict[str, Any]) -> Metrics:
    shares = tuple(Share(**share) for share in line.pop("shares", ()))
    best = line.pop("best", None)
    return Metrics(**line, shares=shares, best=Figure(**best) if best is not None else None)
