"""What the core wants kept goes to disk in order, on one thread beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor

from grapevine_agent.core import effects as fx
from grapevine_agent.store import Store, StoredModel, StoredRecord
from grapevine_proto.errors import StoreError
from grapevine_proto.topics import Topic

logger = logging.getLogger(__name__)


class Saver:
    """Takes the effects that save something. A full disk is logged; learning goes on in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saver")
        self._models: dict[str, fx.SaveModel] = {}  # the newest of each task that waits for the thread

    def save(self, effect: fx.Effect) -> None:
        """Queue one effect. A newer model of a task takes the place of one that still waits."""
        if isinstance(effect, fx.SaveModel):
            waiting = effect.task in self._models
            self._models[effect.task] = effect
            if waiting:
                return
        self._thread.submit(self._save, effect).add_done_callback(_log_failure)

    def _save(self, effect: fx.Effect) -> None:
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
                store.delete_record(_name(received.topic))
            case fx.ForgetRecord(received=received, remembered=int() as sequence):
                store.forget_record(_name(received.topic), sequence)
            case fx.ForgetSequence(topic=topic):
                store.forget_sequence(_name(topic))
            case fx.SaveBlob(content=content):
                store.put_blob(content)
            case fx.SaveModel(task=task):
                newest = self._models.pop(task)
                store.save_model(task, StoredModel(vectors=newest.vectors, metadata=dict(newest.counters)))
            case fx.SaveConsent(task=task, joined=joined):
                store.set_membership(task, "joined" if joined else "left", _wall_ms())
            case fx.SaveMetrics(metrics=metrics):
                store.add_metrics("self", _wall_ms(), metrics)

    async def load_model(self, task: str) -> fx.SavedModel | None:
        """The saved model of a task, after everything that was queued before it was written."""
        stored = await asyncio.get_running_loop().run_in_executor(self._thread, self._store.load_model, task)
        if stored is None:
            return None
        counters = {name: value for name, value in stored.metadata.items() if isinstance(value, int)}
        return fx.SavedModel(vectors=stored.vectors, counters=counters)

    async def finish(self) -> None:
        """Return when everything is on disk."""
        await asyncio.to_thread(self._thread.shutdown)


def _name(topic: Topic) -> str:
    return topic.below_root()


def _wall_ms() -> int:
    return int(time.time() * 1000)


def _log_failure(done: Future[None]) -> None:
    error = done.exception()
    if isinstance(error, StoreError):
        logger.warning("not saved: %s", error)
    elif error is not None:
        logger.error("not saved", exc_info=error)
