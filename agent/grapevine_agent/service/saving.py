"""What the core wants kept goes to disk in order, on one thread beside the event loop.

What the disk does not take waits in memory, the newest of each thing, and is written when the disk takes it again:
of each topic one record, of each task one model and one decision, and a bounded number of weights and metrics.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias, TypeVar

from grapevine_agent.core import effects as fx
from grapevine_agent.service.unsaved import Unsaved
from grapevine_agent.store import Store, StoredModel, StoredRecord
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]  # what kind, and which one of it

RECORDS, WEIGHTS, MODELS, DECISIONS, METRICS = "records", "initial weights", "models", "decisions", "metrics"
MOST_WAITING_METRICS: Final = 500
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024  # of initial weights; who needs others fetches them again
LARGEST_COUNTER: Final = (1 << 63) - 1


class Saver:
    """Takes the effects that save something. On a disk that takes nothing, learning goes on in memory."""

    def __init__(self, store: Store, unsaved: Unsaved | None = None) -> None:
        self._store = store
        self._unsaved = unsaved or Unsaved()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._lock = threading.Lock()
        self._waiting: dict[Key, fx.Effect] = {}  # oldest first
        self._num_metrics = 0

    def save(self, effect: fx.Effect) -> None:
        """Queue one effect. A newer one of the same thing takes the place of one that still waits."""
        kind, name = _key(effect)
        with self._lock:
            if kind == METRICS:
                self._num_metrics += 1
                name = str(self._num_metrics)  # each is a line of its own
            self._waiting[kind, name] = effect
            self._make_room(kind)
        if self._unsaved.may_try(kind):
            self._submit()

    def retry(self) -> None:
        """Try what waits again, if its pause is over."""
        with self._lock:
            kinds = {kind for kind, _ in self._waiting}
        if any(self._unsaved.is_in_trouble(kind) and self._unsaved.may_try(kind) for kind in kinds):
            self._submit()

    async def load_model(self, task: str) -> fx.SavedModel | None:
        """The newest saved model of a task, be it in memory; None where there is none that can be read."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load_model, task)

    async def get_blob(self, digest: str) -> bytes | None:
        """The bytes with this SHA-256, be they in memory; None where there are none that can be read."""
        with self._lock:
            waiting = self._waiting.get((WEIGHTS, digest))
        if isinstance(waiting, fx.SaveBlob):
            return waiting.content
        return await asyncio.to_thread(readable, lambda: self._store.get_blob(digest), lambda: None)

    async def finish(self) -> None:
        """Return when everything is on disk that the disk takes."""
        await asyncio.to_thread(self._thread.submit(self._write_waiting, last=True).result)
        await asyncio.to_thread(self._thread.shutdown)
        if self._waiting:
            kinds = ", ".join(dict.fromkeys(kind for kind, _ in self._waiting))
            logger.warning("%d of these were not saved and are lost: %s", len(self._waiting), kinds)

    # --- on the thread --------------------------------------------------------------------------------

    def _submit(self) -> None:
        self._thread.submit(self._write_waiting).add_done_callback(_log_failure)

    def _write_waiting(self, *, last: bool = False) -> None:
        """Write what waits, oldest first; of a kind that the disk does not take, one is tried."""
        with self._lock:
            waiting = list(self._waiting.items())
        refused: set[str] = set()
        for key, effect in waiting:
            kind = key[0]
            if kind in refused or not (last or self._unsaved.may_try(kind)):
                refused.add(kind)
                continue
            try:
                self._write(effect)
            except StoreError as error:
                self._unsaved.failed(kind, error)
                refused.add(kind)
            except Exception:
                logger.exception("%s: not saved", kind)
                self._done(key, effect)
            else:
                self._done(key, effect)
        with self._lock:
            left = {kind for kind, _ in self._waiting}
        for kind in {key[0] for key, _ in waiting} - refused - left:
            self._unsaved.saved(kind)

    def _done(self, key: Key, effect: fx.Effect) -> None:
        with self._lock:
            if self._waiting.get(key) is effect:  # else a newer one has come
                del self._waiting[key]

    def _write(self, effect: fx.Effect) -> None:
        store = self._store
        match effect:
            case fx.SaveRecord(received=received):
                store.put_record(
                    StoredRecord(
                        topic=received.topic.below_root(),
                        author=received.message.sender,
                        sequence=received.message.sequence,
                        expires_at_ms=received.message.expires_at_ms,
                        envelope=received.envelope,
                    )
                )
            case fx.ForgetRecord(received=received, remembered=None):
                store.delete_record(received.topic.below_root())
            case fx.ForgetRecord(received=received, remembered=int() as sequence):
                store.forget_record(received.topic.below_root(), sequence)
            case fx.ForgetSequence(topic=topic):
                store.forget_sequence(topic.below_root())
            case fx.SaveBlob(content=content):
                store.put_blob(content)
            case fx.SaveModel():
                store.save_model(effect.task, StoredModel(vectors=effect.vectors, metadata=dict(effect.counters)))
            case fx.SaveConsent(task=task, joined=joined):
                store.set_membership(task, "joined" if joined else "left", _wall_ms())
            case fx.SaveMetrics(metrics=metrics):
                store.add_metrics("self", _wall_ms(), metrics)

    def _load_model(self, task: str) -> fx.SavedModel | None:
        with self._lock:
            waiting = self._waiting.get((MODELS, task))
        if isinstance(waiting, fx.SaveModel):
            return fx.SavedModel(vectors=waiting.vectors, counters=waiting.counters)
        stored = readable(lambda: self._store.load_model(task), lambda: None)
        if stored is None:
            return None
        counters = {name: value for name, value in stored.metadata.items() if isinstance(value, int)}
        odd = next((name for name, value in counters.items() if not 0 <= value <= LARGEST_COUNTER), None)
        if odd is not None:
            logger.error("the saved model of %s is not used: its %s is %d", task, odd, counters[odd])
            return None
        return fx.SavedModel(vectors=stored.vectors, counters=counters)

    # --- bounds ---------------------------------------------------------------------------------------

    def _make_room(self, kind: str) -> None:
        """Of what is not the newest of one thing, the oldest goes. The lock is held."""
        if kind == METRICS:
            found = [key for key in self._waiting if key[0] == METRICS]
            for key in found[: max(0, len(found) - MOST_WAITING_METRICS)]:
                del self._waiting[key]
        elif kind == WEIGHTS:
            sizes = {
                key: len(effect.content) for key, effect in self._waiting.items() if isinstance(effect, fx.SaveBlob)
            }
            while len(sizes) > 1 and sum(sizes.values()) > MOST_WAITING_BYTES:
                oldest = next(iter(sizes))
                del self._waiting[oldest], sizes[oldest]


def readable(read: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """What `read` gives; what `otherwise` makes, and a line in the log, where the disk does not give it."""
    try:
        return read()
    except StoreError as error:
        logger.warning("%s", error)
        return otherwise()


def readable_each(read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What `read` gives, as far as the disk gives it; a line in the log where it does not."""
    try:
        yield from read()
    except StoreError as error:
        logger.warning("%s", error)


def _key(effect: fx.Effect) -> Key:
    match effect:
        case fx.SaveRecord(received=received) | fx.ForgetRecord(received=received):
            return RECORDS, received.topic.below_root()
        case fx.ForgetSequence(topic=topic):
            return RECORDS, f"sequence of {topic.below_root()}"
        case fx.SaveBlob(digest=digest):
            return WEIGHTS, digest
        case fx.SaveModel(task=task):
            return MODELS, task
        case fx.SaveConsent(task=task):
            return DECISIONS, task
        case fx.SaveMetrics(metrics=Metrics()):
            return METRICS, ""
    raise TypeError(f"{type(effect).__name__} saves nothing")


def _wall_ms() -> int:
    return int(time.time() * 1000)


def _log_failure(done: Future[None]) -> None:
    if (error := done.exception()) is not None:
        logger.error("not saved", exc_info=error)
