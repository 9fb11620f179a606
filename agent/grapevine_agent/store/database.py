"""What the agent keeps in SQLite: records, sequences, memberships, metrics history and small settings.

Write-ahead logging with `synchronous = NORMAL`: a killed process loses nothing that was committed; a
power cut may lose the last commits, never the file. That is enough, because what others hold us to
heals by itself: a sequence continues from the clock, and records are announced again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grapevine_agent.store.durable import move_aside
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Metrics, Share

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_SEQUENCES_READ = 100_000
READ_RECORDS = 1_000  # at a time
READ_BYTES = 2_000_000  # at a time, of their envelopes
METRICS_KEPT = 5_000  # lines per task: some 80 bytes each in the file
METRICS_KEPT_IN_ALL = 50_000  # an agent may have taken part in any number of tasks
_PRUNE_EVERY = 256  # additions between two prunings of the metrics
_LARGEST_INTEGER = (1 << 63) - 1  # of a column
_SESSION = "session"  # our own session shares the table of sequences; no topic is named so

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
    """One SQLite connection behind a lock, so that any thread may call. Every method raises `StoreError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._additions = 0
        self._connection = _open_or_start_afresh(path)

    def close(self) -> None:
        """Close the file; further calls raise `StoreError`."""
        with self._lock:
            self._connection.close()

    # --- records ----------------------------------------------------------------------------------

    def put_record(self, record: StoredRecord) -> bool:
        """Keep a record, unless one with a higher sequence is held on its topic; then return False."""
        if not 0 <= record.sequence <= _LARGEST_INTEGER or not 0 <= record.expires_at_ms <= _LARGEST_INTEGER:
            raise StoreError(f"record on {record.topic!r}: sequence and expiry must be from 0 to 2^63 - 1; drop it")
        with self._write("record") as connection:
            cursor = connection.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (topic) DO UPDATE SET author = excluded.author, sequence = excluded.sequence, "
                "expires_at_ms = excluded.expires_at_ms, envelope = excluded.envelope "
                "WHERE excluded.sequence >= records.sequence",
                (record.topic, record.author, record.sequence, record.expires_at_ms, record.envelope),
            )
            return cursor.rowcount > 0

    def records(self) -> list[StoredRecord]:
        """All records, by topic."""
        return sorted(self.each_record(), key=lambda stored: stored.topic)

    def each_record(self) -> Iterator[StoredRecord]:
        """All records: reviews first, then the others, each by topic; so many as fill `READ_BYTES` are read at a time."""
        for is_review in (True, False):
            after = ""
            while rows := self._read(_SOME_RECORDS, (after, is_review, READ_RECORDS, READ_BYTES)):
                after = rows[-1][0]
                for t, a, s, e, b in rows:
                    yield StoredRecord(topic=t, author=a, sequence=s, expires_at_ms=e, envelope=b)

    def delete_record(self, topic: str) -> None:
        """Forget the record on a topic, if there is one."""
        with self._write("record") as connection:
            connection.execute("DELETE FROM records WHERE topic = ?", (topic,))

    def forget_record(self, topic: str, sequence: int) -> None:
        """Forget a record that ran out, and keep its sequence: nothing older on its topic is news again.

        It stands among our own sequences: those are of topics below our own id, this is of another peer's.
        """
        with self._write("record") as connection:
            connection.execute("DELETE FROM records WHERE topic = ?", (topic,))
            connection.execute(
                "INSERT INTO sequences VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET "
                "sequence = max(sequences.sequence, excluded.sequence)",
                (topic, min(sequence, _LARGEST_INTEGER)),
            )

    def forget_sequence(self, topic: str) -> None:
        """Forget the sequence that was kept of a record that ran out."""
        with self._write("sequence") as connection:
            connection.execute("DELETE FROM sequences WHERE topic = ?", (topic,))

    def newest_sequences(self) -> dict[str, int]:
        """The newest sequence of every manifest and review that we know to have run out, by topic below the root."""
        rows = self._read(
            "SELECT topic, sequence FROM sequences WHERE topic LIKE 'peer/%/task/%/review' "
            "OR topic LIKE 'peer/%/task/%/manifest' ORDER BY sequence DESC LIMIT ?",
            (MAX_SEQUENCES_READ,),
        )
        return dict(rows)

    def delete_expired_records(self, now_ms: int) -> int:
        """Forget the records that have expired, and return how many."""
        with self._write("records") as connection:
            return connection.execute(
                "DELETE FROM records WHERE expires_at_ms > 0 AND expires_at_ms <= ?", (now_ms,)
            ).rowcount

    # --- our own sequences ------------------------------------------------------------------------

    def next_sequence(self, topic: str, now_ms: int) -> int:
        """The sequence of our next record on `topic`: the last one plus 1, or the clock if that is ahead.

        It is on disk before it is returned, so no sequence is used twice; and a peer that lost its
        state goes on from the clock.
        """
        with self._write("sequence") as connection:
            # All rows are fetched, for SQLite commits only what has run to its end.
            ((sequence,),) = connection.execute(
                "INSERT INTO sequences VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET "
                "sequence = max(sequences.sequence + 1, excluded.sequence) RETURNING sequence",
                (topic, now_ms),
            ).fetchall()
            return int(sequence)

    def next_session(self, now_ms: int) -> int:
        """A session number larger than all that came before: one for each start of the service."""
        return self.next_sequence(_SESSION, now_ms)

    # --- memberships ------------------------------------------------------------------------------

    def set_membership(self, task: str, state: str, now_ms: int) -> None:
        """Remember what was decided of a task, e.g. "joined", "left" or "declined"."""
        with self._write("membership") as connection:
            connection.execute("INSERT OR REPLACE INTO memberships VALUES (?, ?, ?)", (task, state, now_ms))

    def memberships(self) -> dict[str, str]:
        """What was decided, by task."""
        return dict(self._read("SELECT task, state FROM memberships ORDER BY changed_at_ms, task"))

    def forget_task(self, task: str) -> None:
        """Forget the decision on a task, and its metrics."""
        with self._write("membership") as connection:
            connection.execute("DELETE FROM memberships WHERE task = ?", (task,))
            connection.execute("DELETE FROM metrics WHERE task = ?", (task,))

    # --- metrics ----------------------------------------------------------------------------------

    def add_metrics(self, peer: str, at_ms: int, metrics: Metrics) -> None:
        """Append to a task's history, of which the newest `METRICS_KEPT` entries are kept."""
        # NumPy's scalars come in here too; a NaN loss is kept, for it is news.
        line = json.dumps(asdict(metrics), default=float)
        with self._write("metrics") as connection:
            connection.execute(
                "INSERT INTO metrics (task, peer, at_ms, line) VALUES (?, ?, ?, ?)", (metrics.task, peer, at_ms, line)
            )
            self._additions += 1
            if self._additions % _PRUNE_EVERY == 0:
                self._prune_metrics(connection)

    def metrics(self, task: str, limit: int = 100) -> list[MetricsEntry]:
        """The newest `limit` entries of a task's history, oldest first."""
        limit = max(0, min(limit, METRICS_KEPT))
        rows = self._read(
            "SELECT peer, at_ms, line FROM metrics WHERE task = ? ORDER BY id DESC LIMIT ?", (task, limit)
        )
        entries: list[MetricsEntry] = []
        for peer, at_ms, line in reversed(rows):
            try:
                entries.append(MetricsEntry(peer=peer, at_ms=at_ms, metrics=_metrics(json.loads(line))))
            except (TypeError, ValueError):
                continue  # a line from a version with other fields: history, not state
        return entries

    def _prune_metrics(self, connection: sqlite3.Connection) -> None:
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

    # --- settings ---------------------------------------------------------------------------------

    def set_setting(self, key: str, value: str) -> None:
        """Keep a small text under a key: which MQTT version a broker speaks, whether we are paused."""
        with self._write("setting") as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def setting(self, key: str) -> str | None:
        """The text under a key, or None."""
        rows = self._read("SELECT value FROM settings WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    # --- plumbing ---------------------------------------------------------------------------------

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except (sqlite3.Error, OverflowError) as error:
                raise self._failed("read", error) from error

    @contextmanager
    def _write(self, what: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._connection:  # commits, or rolls back on an error
                    yield self._connection
            except (sqlite3.Error, OverflowError) as error:
                raise self._failed(f"write the {what} to", error) from error

    def _failed(self, did: str, error: Exception) -> StoreError:
        if _is_corrupt(error):
            remedy = "the file is damaged; restart the agent, which moves it aside and starts a fresh one"
        else:
            remedy = "check free space and permissions"
        return StoreError(f"{self.path}: could not {did} it ({error}); {remedy}")


def _metrics(line: dict[str, Any]) -> Metrics:
    shares = tuple(Share(**share) for share in line.pop("shares", ()))
    return Metrics(**line, shares=shares)


def _open_or_start_afresh(path: Path) -> sqlite3.Connection:
    """Open the database; one that is damaged is moved aside, with its log, and a new one is made."""
    try:
        return _open(path)
    except sqlite3.Error as error:
        if not _is_corrupt(error):
            raise StoreError(f"{path}: cannot be opened ({error}); check its owner and free space") from error
        reason = str(error)
    now_s = time.time()
    aside = move_aside(path, now_s)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            # Kept beside the file under the names that SQLite looks for, so that tools can still recover it.
            log.rename(aside.with_name(aside.name + suffix))
    logger.error(
        "%s was damaged (%s), was moved to %s, and a fresh one was made: records come back from the brokers, "
        "but decisions on tasks have to be made again",
        path,
        reason,
        aside,
    )
    try:
        return _open(path)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be made ({error}); check its owner and free space") from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 1048576")
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()
        if damage != ("ok",):
            raise _Damaged(str(damage))
        _prepare_schema(connection, path)
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    with suppress(OSError):  # not our file: the folder around it is what keeps others out
        path.chmod(0o600)
    return connection


def _prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by a newer Grapevine (schema {version}, this one knows {SCHEMA_VERSION}); "
            "upgrade, or move the file away"
        )
    if version < SCHEMA_VERSION:
        # One transaction: killed in between, the next start finds an empty file and does it again.
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


class _Damaged(sqlite3.DatabaseError):
    """What `quick_check` found."""


def _is_corrupt(error: Exception) -> bool:
    """Whether the file itself is at fault, and not the disk, its permissions or another process."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _Damaged) or (
        code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    )
