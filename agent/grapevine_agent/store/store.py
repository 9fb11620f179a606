"""The agent's state folder as one object: database, models, blobs, and the lock that makes them ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from grapevine_agent.store.blobs import DEFAULT_CAP_BYTES, Blobs
from grapevine_agent.store.database import Database, MetricsEntry, StoredRecord
from grapevine_agent.store.durable import make_state_dir, remove_leftovers
from grapevine_agent.store.lock import StateLock
from grapevine_agent.store.models import ModelFiles, StoredModel
from grapevine_agent.store.room import Contents, Room, Tenants
from grapevine_proto.messages import Metrics

UNBOUNDED = 1 << 62


class Store:
    """Everything that outlives the process, apart from its identity.

    Methods block and may be called from any thread (`asyncio.to_thread`), with one exception: two
    saves of one task's model at once. They raise `StoreError`; what was there before is then
    still there. Killing the process at any instant loses at most the call in progress.
    """

    def __init__(self, *, lock: StateLock, database: Database, models: ModelFiles, blobs: Blobs, room: Room) -> None:
        self._lock = lock
        self._room = room
        self._database = database
        self._models = models
        self._blobs = blobs

    @classmethod
    def open(cls, state_dir: Path, *, cap_bytes: int = UNBOUNDED, blob_cap_bytes: int = DEFAULT_CAP_BYTES) -> Self:
        """Open the folder, making it if need be; a damaged database is moved aside and replaced.

        `cap_bytes` bounds the whole folder (see `make_room`), and initial weights take a quarter of it at most.

        On a disk that takes nothing it opens too: then what is there is read, and each write raises `StoreError`.
        Raises `StoreError` if another process holds the folder, it cannot be made, the database is of a newer
        version, or belongs to a user whose files this one may not read.
        """
        make_state_dir(state_dir)
        lock = StateLock(state_dir / "service.lock")
        try:
            remove_leftovers(state_dir)
            models = ModelFiles(state_dir / "models")
            blobs = Blobs(state_dir / "blobs", min(blob_cap_bytes, cap_bytes // 4))
            room = Room(state_dir, models, blobs, cap_bytes)
            return cls(lock=lock, database=Database(state_dir / "grapevine.db"), models=models, blobs=blobs, room=room)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the files and let go of the folder."""
        self._database.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- records and sequences --------------------------------------------------------------------

    def put_record(self, record: StoredRecord) -> bool:
        """Keep a record, unless one with a higher sequence is held on its topic; then return False."""
        return self._database.put_record(record)

    def records(self) -> list[StoredRecord]:
        """All records, expired ones included, by topic."""
        return self._database.records()

    def each_record(self) -> Iterator[StoredRecord]:
        """The same one by one, reviews first; of many only a few are in memory at a time."""
        return self._database.each_record()

    def delete_record(self, topic: str) -> None:
        """Forget the record on a topic, if there is one."""
        self._database.delete_record(topic)

    def delete_expired_records(self, now_ms: int) -> int:
        """Forget the records that have expired, and return how many."""
        return self._database.delete_expired_records(now_ms)

    def next_sequence(self, topic: str, now_ms: int) -> int:
        """The sequence of our next record on `topic`: max(last + 1, now_ms), on disk before it is returned."""
        return self._database.next_sequence(topic, now_ms)

    def last_sequence(self, topic: str) -> int:
        """The last sequence that was given to a record of ours on `topic`; -1 if none is known."""
        return self._database.last_sequence(topic)

    def keep_sequences(self, sequences: Mapping[str, int]) -> None:
        """Remember sequences that were given out while nothing could be written."""
        self._database.keep_sequences(sequences)

    def forget_record(self, topic: str, sequence: int) -> None:
        """Forget a record that ran out, and keep its sequence: nothing older on its topic is news again."""
        self._database.forget_record(topic, sequence)

    def forget_sequence(self, topic: str) -> None:
        """Forget the sequence that was kept of a record that ran out."""
        self._database.forget_sequence(topic)

    def newest_sequences(self) -> dict[str, int]:
        """The newest sequence of every manifest and review that ran out, by topic below the root."""
        return self._database.newest_sequences()

    def next_session(self, now_ms: int) -> int:
        """A session number larger than all that came before: one for each start of the service."""
        return self._database.next_session(now_ms)

    # --- tasks ------------------------------------------------------------------------------------

    def set_membership(self, task: str, state: str, now_ms: int) -> None:
        """Remember what was decided of a task, e.g. "joined", "left" or "declined"."""
        self._database.set_membership(task, state, now_ms)

    def memberships(self) -> dict[str, str]:
        """What was decided, by task."""
        return self._database.memberships()

    def forget_task(self, task: str, *, weights: str = "", but_decision: str = "") -> None:
        """Forget a task: models, metrics, `weights` (a digest), and the decision unless it is `but_decision`."""
        self._models.delete(task)
        self._database.forget_task(task, but_decision=but_decision)
        if weights:
            self._blobs.delete(weights)

    def kept_tasks(self) -> list[str]:
        """The tasks that anything is kept of: a model, a decision, or metrics; sorted."""
        return sorted({*self._database.tasks(), *(held.task for held in self._models.on_disk())})

    def contents(self) -> Contents:
        """What lies in the folder, and the models in it."""
        return self._room.contents()

    @property
    def cap_bytes(self) -> int:
        """What the whole folder may take."""
        return self._room.cap_bytes

    def make_room(self, tenants: Tenants) -> list[str]:
        """Give up what is not in use until the folder is within its bound; what went is logged, and returned."""
        return self._room.make(tenants)

    def save_model(self, task: str, model: StoredModel) -> None:
        """Make `model` the current one of a task; the one before it is kept.

        Raises `ValueError` if a vector is not float32 and one-dimensional.
        """
        self._models.save(task, model)

    def load_model(self, task: str) -> StoredModel | None:
        """The current model of a task, the previous one if that is damaged, None if there is neither."""
        return self._models.load(task)

    def save_best(self, task: str, model: StoredModel) -> None:
        """Keep a task's best model beside its newest one. Raises like `save_model`."""
        self._models.save_best(task, model)

    def load_best(self, task: str) -> StoredModel | None:
        """The best model of a task; None if there is none, or none that is whole."""
        return self._models.load_best(task)

    def model_tasks(self) -> list[str]:
        """The tasks that a model is held of, sorted."""
        return self._models.tasks()

    # --- blobs, metrics, settings -----------------------------------------------------------------

    def put_blob(self, content: bytes) -> str:
        """Keep bytes, and return their SHA-256 (64 hex digits)."""
        return self._blobs.put(content)

    def get_blob(self, digest: str) -> bytes | None:
        """The bytes with this SHA-256, checked, or None."""
        return self._blobs.get(digest)

    def add_metrics(self, peer: str, at_ms: int, metrics: Metrics) -> None:
        """Append to a task's history, which is bounded: the oldest go first."""
        self._database.add_metrics(peer, at_ms, metrics)

    def add_all_metrics(self, entries: Sequence[MetricsEntry]) -> None:
        """The same for many entries, in one go: the disk writes little more than for one."""
        self._database.add_all_metrics(entries)

    def metrics(self, task: str, limit: int = 100) -> list[MetricsEntry]:
        """The newest `limit` entries of a task's history, oldest first."""
        return self._database.metrics(task, limit)

    def set_setting(self, key: str, value: str) -> None:
        """Keep a small text under a key."""
        self._database.set_setting(key, value)

    def setting(self, key: str) -> str | None:
        """The text under a key, or None."""
        return self._database.setting(key)

    # --- whose folder this is ---------------------------------------------------------------------

    def remember_peer(self, peer: str) -> None:
        """Remember whose folder this is."""
        self._database.remember_peer(peer)

    def remembered_peer(self) -> str:
        """Whose folder this is; empty if nobody can tell."""
        return self._database.remembered_peer()
