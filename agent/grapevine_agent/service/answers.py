"""Blobs and released models on their way out: behind everything else, and in memory only when their turn comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import assert_never

from grapevine_agent.core import effects as fx
from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.service import clock
from grapevine_agent.service.sealing import Sealing
from grapevine_proto import topics
from grapevine_proto.bulk import NOTICE_BYTES
from grapevine_proto.errors import StoreError
from grapevine_proto.messages import Blob, ReleasedModel
from grapevine_proto.parts import Payload
from grapevine_proto.topics import Topic

READ_WITHIN_S = 20.0  # a disk that takes longer has failed, or stands
ANSWER_DEADLINE_S = 30.0  # who waits for longer has asked somebody else


class Answers:
    """Queues answers as orders, and makes their payloads.

    One blob is held in memory at a time: all who wait for the same one are served from a single read.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        get_blob: Callable[[str], Coroutine[object, object, bytes | None]],
        sealing: Sealing,
        root: str,
        goes_apart: Callable[[int, Topic], bool] = lambda _num_bytes, _topic: False,
        read_within_s: float = READ_WITHIN_S,
    ) -> None:
        self._outbox = outbox
        self._goes_apart = goes_apart  # whether so many bytes travel apart from their message
        self._get_blob = get_blob
        self._read_within_s = read_within_s
        self._reading: asyncio.Task[bytes | None] | None = None  # what was given up, and may still block a thread
        self._sealing = sealing
        self._root = root
        self._digest = ""  # of the blob that is held
        self._content: bytes | None = None
        self.num_reads = 0

    def queue(self, order: fx.SendBlob | fx.Publish) -> bool:
        """Let somebody have a blob, or a released model, when nothing else is due. Whether there is room for it."""
        match order:
            case fx.SendBlob(task=task, digest=digest, num_bytes=num_bytes):
                thing = digest
            case fx.Publish(body=ReleasedModel(task=task, cluster=cluster) as model):
                thing, num_bytes = f"model {cluster} of {task}", model.full.nbytes + model.buffers.nbytes
            case fx.Publish():
                raise ValueError(f"{type(order.body).__name__} is no answer")
            case _:
                assert_never(order)
        if self._goes_apart(num_bytes, order.topic):
            num_bytes = NOTICE_BYTES
        deadline_s = clock.now().monotonic_s + ANSWER_DEADLINE_S
        topic = topics.build(self._root, order.topic)
        return self._outbox.answer(
            topic, deadline_s=deadline_s, order=order, thing=thing, num_bytes=max(1, num_bytes), task=task
        )

    async def payload_of(self, waiting: Waiting) -> Payload | None:
        """The sealed answer, None if there is none. Raises `StoreError` if the disk does not give it in time."""
        order = waiting.order
        if isinstance(order, fx.SendBlob):
            content = await self._blob(order.digest)
            if content is None:
                return None
            body = Blob(task=order.task, digest=order.digest, content=content)
            order = fx.Publish(topic=order.topic, body=body, receiver_session=order.receiver_session)
        assert isinstance(order, fx.Publish)
        return await self._sealing.payload_of(order)

    def sent(self) -> None:
        """An answer has left: a blob that nobody else waits for is let go."""
        if not self._outbox.owes(self._digest):
            self._digest, self._content = "", None

    async def _blob(self, digest: str) -> bytes | None:
        if self._digest != digest:
            self._digest, self._content = "", None
            self._content = await self._read(digest)
            self._digest = digest
            self.num_reads += 1
        return self._content

    async def _read(self, digest: str) -> bytes | None:
        if self._reading is not None and not self._reading.done():
            raise StoreError(f"initial weights {digest[:12]}: a read before this one has not ended; is the disk well?")
        self._reading = reading = asyncio.create_task(self._get_blob(digest))
        try:
            await asyncio.wait([reading], timeout=self._read_within_s)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        if not reading.done():
            within = f"{self._read_within_s:g} s"
            raise StoreError(f"initial weights {digest[:12]} were not read in {within}; is the disk well?")
        return reading.result()
