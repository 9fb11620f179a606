"""What the core wants kept goes to disk in order, on one thread beside the event loop.

Lines of metrics are history and no state: they wait for each other, and many are written at once, because a database
writes whole pages. What the disk does not take waits in memory, the newest of each thing, and is written when the disk
takes it again: of each topic one record, of each task one model and one decision, and a bounded number of weights and
metrics.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeAlias, TypeVar

from grapevine_agent.core import effects as fx
from grapevine_agent.service.pulse import Pulse
from grapevine_agent.service.unsaved import Unsaved
from grapevine_agent.store.database import MetricsEntry, StoredRecord
from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.room import Tenants
from grapevine_agent.store.store import Store
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]  # what kind, and which one of it
Piece: TypeAlias = list[tuple[Key, fx.Effect]]  # of one kind, written in one go

RECORDS, WEIGHTS, MODELS, DECISIONS, METRICS = "records", "initial weights", "models", "decisions", "metrics"
GOVERNOR = "governor"  # of decisions, what its owner paused; the name of the setting, too
MOST_WAITING_METRICS: Final = 500
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024  # of initial weights; who needs others fetches them again
LARGEST_COUNTER: Final = (1 << 63) - 1


class Saver:
    """Takes the effects that save something. On a disk that takes nothing, learning goes on in memory.

    Args:
        store: Where to.
        unsaved: What the disk does not take, where it is known already.
        metrics_every_s: Lines of metrics are written so often at most.
        pulse: Notices who keeps the loop waiting; then everything is called from the loop.
    """

    def __init__(
        self,
        store: Store,
        unsaved: Unsaved | None = None,
        *,
        metrics_every_s: float = 0.0,
        pulse: Pulse | None = None,
    ) -> None:
        self._pulse = pulse
        self._store = store
        self._unsaved = unsaved or Unsaved()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._lock = threading.Lock()
        self._waiting: dict[Key, fx.Effect] = {}  # oldest first
        self._num_metrics = 0
        self._heard_ms: dict[Key, int] = {}  # when a line of metrics came, that waits
        self._metrics_every_s = metrics_every_s
        self._metrics_at_s = -math.inf  # monotonic

    def save(self, effect: fx.Effect) -> None:
        """Queue one effect. A newer one of the same thing takes the place of one that still waits."""
        kind, name = _key(effect)
        with self._lock:
            if kind == METRICS:
                self._num_metrics += 1
                name = str(self._num_metrics)  # each is a line of its own
                self._heard_ms[kind, name] = _wall_ms()
            self._waiting[kind, name] = effect
            self._make_room(kind)
        if self._unsaved.may_try(kind) and (kind != METRICS or self._metrics_due()):
            self._submit()

    def retry(self) -> None:
        """Try what waits again, if its pause is over; write lines of metrics, if it is their time."""
        with self._lock:
            kinds = {kind for kind, _ in self._waiting}
        due = (METRICS in kinds and self._metrics_due(), *map(self._unsaved.is_in_trouble, kinds))
        if any(due) and any(map(self._unsaved.may_try, kinds)):
            self._submit()

    def _metrics_due(self) -> bool:
        return time.monotonic() >= self._metrics_at_s + self._metrics_every_s

    async def load_model(self, task: str) -> fx.SavedModel | None:
        """The newest saved model of a task, be it in memory; None where there is none, or none that is whole.

        Raises StoreError where the disk cannot say.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load_model, task)

    async def get_blob(self, digest: str) -> bytes | None:
        """The bytes with this SHA-256, be they in memory; None where there are none that can be read."""
        with self._lock:
            waiting = self._waiting.get((WEIGHTS, digest))
        if isinstance(waiting, fx.SaveBlob):
            return waiting.content
        return await asyncio.to_thread(readable, lambda: self._store.get_blob(digest), lambda: None)

    async def forget(self, task: str, *, weights: str, but_decision: str) -> None:
        """Delete what is kept of a task, and what waits to be: see `Store.forget_task`. Raises StoreError."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._forget, task, weights, but_decision)

    async def make_room(self, tenants: Tenants) -> list[str]:
        """Keep the state folder within its bound: see `Store.make_room`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._store.make_room, tenants)

    async def why_not_saved(self, kind: str) -> str:
        """Why something of this kind is not on disk, once all that waits was tried; empty: it is."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write_waiting)
        with self._lock:
            waits = any(kind == each for each, _ in self._waiting)
        return (self._unsaved.reason(kind) or "the disk is busy") if waits else ""

    async def finish(self) -> None:
        """Return when everything is on disk that the disk takes."""
        await asyncio.to_thread(self._thread.submit(self._write_waiting, last=True).result)
        await asyncio.to_thread(self._thread.shutdown)
        if self._waiting:
            kinds = ", ".join(dict.fromkeys(kind for kind, _ in self._waiting))
            logger.warning("%d of these were not saved and are lost: %s", len(self._waiting), kinds)

    # --- on the thread --------------------------------------------------------------------------------

    def _submit(self) -> None:
        writing = self._thread.submit(self._write_waiting)
        writing.add_done_callback(_log_failure)
        if self._pulse is not None:
            self._pulse.until_done(writing)

    def _write_waiting(self, *, last: bool = False) -> None:
        """Write what waits, oldest first, metrics together; of a kind that the disk does not take, one is tried."""
        with self._lock:
            waiting = list(self._waiting.items())
        pieces: list[Piece] = [[each] for each in waiting if each[0][0] != METRICS]
        if metrics := [each for each in waiting if each[0][0] == METRICS and (last or self._metrics_due())]:
            pieces.append(metrics)
        refused: set[str] = set()
        for piece in pieces:
            kind = piece[0][0][0]
            if kind in refused or not (last or self._unsaved.may_try(kind)):
                refused.add(kind)
                continue
            try:
                if kind == METRICS:
                    self._write_metrics(piece)
                else:
                    self._write(piece[0][1])
            except StoreError as error:
                self._unsaved.failed(kind, error)
                refused.add(kind)
                continue
            except Exception:
                logger.exception("%s: not saved", kind)
            for key, effect in piece:
                self._done(key, effect)
        with self._lock:
            left = {kind for kind, _ in self._waiting}
        for kind in {piece[0][0][0] for piece in pieces} - refused - left:
            self._unsaved.saved(kind)

    def _write_metrics(self, piece: Piece) -> None:
        with self._lock:
            entries = [
                MetricsEntry(peer="self", at_ms=self._heard_ms.get(key, 0), metrics=effect.metrics)
                for key, effect in piece
                if isinstance(effect, fx.SaveMetrics)
            ]
        self._store.add_all_metrics(entries)
        self._metrics_at_s = time.monotonic()

    def _forget(self, task: str, weights: str, but_decision: str) -> None:
        with self._lock:
            gone = [
                key
                for key, effect in self._waiting.items()
                if key in ((MODELS, task), (MODELS, _best_of(task)), (WEIGHTS, weights))
                or (isinstance(effect, fx.SaveMetrics) and effect.metrics.task == task)
            ]
            for key in gone:
                self._drop(key)
        self._store.forget_task(task, weights=weights, but_decision=but_decision)

    def _done(self, key: Key, effect: fx.Effect) -> None:
        with self._lock:
            if self._waiting.get(key) is effect:  # else a newer one has come
                self._drop(key)

    def _drop(self, key: Key) -> None:
        """The lock is held."""
        del self._waiting[key]
        self._heard_ms.pop(key, None)

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
            case fx.SaveBest():
                facts = {**effect.counters, **effect.figures}
                store.save_best(effect.task, StoredModel(vectors=effect.vectors, metadata=facts))
            case fx.SaveConsent(task=task, joined=joined):
                store.set_membership(task, "joined" if joined else "left", _wall_ms())
            case fx.SaveGovernor(state=state):
                store.set_setting(GOVERNOR, state)

    def _load_model(self, task: str) -> fx.SavedModel | None:
        with self._lock:
            waiting, waiting_best = self._waiting.get((MODELS, task)), self._waiting.get((MODELS, _best_of(task)))
        if isinstance(waiting_best, fx.SaveBest):
            best: fx.SavedModel | None = fx.SavedModel(
                vectors=waiting_best.vectors, counters=waiting_best.counters, figures=waiting_best.figures
            )
        else:
            best = _as_saved(task, readable(lambda: self._store.load_best(task), lambda: None))
        if isinstance(waiting, fx.SaveModel):
            return fx.SavedModel(vectors=waiting.vectors, counters=waiting.counters, best=best)
        saved = _as_saved(task, self._store.load_model(task))
        return replace(saved, best=best) if saved is not None else None

    # --- bounds ---------------------------------------------------------------------------------------

    def _make_room(self, kind: str) -> None:
        """Of what is not the newest of one thing, the oldest goes. The lock is held."""
        if kind == METRICS:
            found = [key for key in self._waiting if key[0] == METRICS]
            for key in found[: max(0, len(found) - MOST_WAITING_METRICS)]:
                self._drop(key)
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
        case fx.SaveBest(task=task):
            return MODELS, _best_of(task)
        case fx.SaveConsent(task=task):
            return DECISIONS, task
        case fx.SaveGovernor():
            return DECISIONS, GOVERNOR
        case fx.SaveMetrics(metrics=Metrics()):
            return METRICS, ""
    raise TypeError(f"{type(effect).__name__} saves nothing")


def _best_of(task: str) -> str:
    return f"{task}/best"  # no task is named so


def _as_saved(task: str, stored: StoredModel | None) -> fx.SavedModel | None:
    """What the store holds; None where there is nothing, or nothing that can be used."""
    if stored is None:
        return None
    counters = {name: value for name, value in stored.metadata.items() if isinstance(value, int)}
    odd = next((name for name, value in counters.items() if not 0 <= value <= LARGEST_COUNTER), None)
    if odd is not None:
        logger.error("a saved model of %s is not used: its %s is %d", task, odd, counters[odd])
        return None
    figures = {name: value for name, value in stored.metadata.items() if isinstance(value, float)}
    return fx.SavedModel(vectors=stored.vectors, counters=counters, figures=figures)


def _wall_ms() -> int:
    return int(time.time() * 1000)


def _log_failure(done: Future[None]) -> None:
    if (error := done.exception()) is not None:
        logger.error("not saved", exc_info=error)
