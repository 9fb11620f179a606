"""From the outbox to the broker, several at a time.

    outbox ─to_make─▶ a large message is made ─made─▶ outbox
    outbox ─take─▶ (an answer is made, one by one) ─▶ transport ─┬▶ acknowledged, or refused ─▶ outbox.sent
                                                                 └▶ lost ─▶ due again at the next connection

How many are under way at once is the outbox's to decide, and how long each may be is the connection's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from grapevine_agent.core.effects import Publish
from grapevine_agent.net.failures import ConnectionLostError, NotAllowedError
from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.net.transport import Transport
from grapevine_agent.service import clock
from grapevine_agent.service.answers import Answers
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.transfers.giving import Gift
from grapevine_proto.errors import BrokerError, StoreError
from grapevine_proto.parts import Payload

logger = logging.getLogger(__name__)

SMALL_BYTES = 4_096
SMOOTHING = 0.1


class Sending:
    """See the module's docstring. `run()` is its one task."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        transport: Transport,
        answers: Answers,
        sealing: Sealing,
        chunk: Callable[[Gift], Payload | None] = lambda _gift: None,
        sent: Callable[[int], None] = lambda _num_bytes: None,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._answers = answers
        self._sealing = sealing
        self._chunk = chunk
        self._sent = sent
        self._to_make: Waiting | None = None  # what is being made
        self._wake = asyncio.Event()
        self._making = asyncio.Lock()  # of answers: one in memory at a time
        self._is_open = False
        self._is_leaving = False
        self._connection = 0  # counts them: what an earlier one failed to do says nothing about this one
        self._group: asyncio.TaskGroup | None = None
        self._told_of = ""  # the broker of which was said that it refuses records of others
        self.delay_s = math.inf  # what an acknowledgement of something small takes, a moving mean; inf: none came yet

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    def connected(self, max_in_flight: int) -> None:
        """There is a new connection: what the last one did not acknowledge goes again."""
        self._outbox.connected(max_in_flight, clock.now().wall_ms)
        self._connection += 1
        self._is_open = True
        self._wake.set()

    async def run(self) -> None:
        """Publish what is due, for ever."""
        async with asyncio.TaskGroup() as self._group:
            while True:
                self._send_due()
                await self._wake.wait()
                self._wake.clear()

    async def leave(self, goodbye: Sequence[tuple[str, bytes]], within_s: float) -> None:
        """Send what there is room for, retained messages as the last ones behind it, and then nothing more."""
        self._send_due()
        self._is_leaving = True
        await asyncio.sleep(0)  # what was taken above is handed over first
        last = [asyncio.create_task(self._transport.publish(topic, payload, retain=True)) for topic, payload in goodbye]
        if last:
            said, unsaid = await asyncio.wait(last, timeout=within_s)
            for task in unsaid:
                task.cancel()
            await asyncio.gather(*said, *unsaid, return_exceptions=True)

    def _send_due(self) -> None:
        if self._group is None or self._is_leaving:
            return
        while self._is_open and self._transport.connected_to is not None:
            waiting = self._outbox.take(clock.now().monotonic_s)
            if waiting is None:
                self._make_first(self._group)
                return
            self._group.create_task(self._send(waiting, self._connection))

    def _make_first(self, group: asyncio.TaskGroup) -> None:
        """Have the large message made whose turn is next: one at a time."""
        if self._to_make is None:
            self._to_make = self._outbox.to_make(clock.now().monotonic_s)
            if self._to_make is not None:
                group.create_task(self._make_message(self._to_make))

    async def _make_message(self, waiting: Waiting) -> None:
        try:
            assert isinstance(waiting.order, Publish)
            self._outbox.made(waiting, await self._sealing.payload_of(waiting.order))
        finally:
            self._to_make = None
        self._wake.set()

    async def _send(self, waiting: Waiting, connection: int) -> None:
        try:
            payload = waiting.payload if waiting.order is None else await self._make(waiting)
            if payload is not None:
                began_s = time.monotonic()
                self._sent(len(waiting.topic) + len(payload))  # an attempt that fails has used the line, too
                await self._transport.publish(waiting.topic, payload, qos=waiting.qos, retain=waiting.retain)
                if waiting.qos and len(payload) < SMALL_BYTES:
                    self._took(time.monotonic() - began_s)
        except ConnectionLostError as error:
            logger.debug("not published: %s", error)
            if connection == self._connection:
                self._is_open = False
            return
        except StoreError as error:
            logger.warning("not sent: %s", error)
        except BrokerError as error:  # too large for this broker, or refused: it would never go
            self._given_up(waiting, error)
        self._outbox.sent(waiting)
        if waiting.lane == "answer" and waiting.order is not None:
            self._answers.sent()
        self._wake.set()

    def _given_up(self, waiting: Waiting, error: BrokerError) -> None:
        """Say so. That only its author may put a record back is no fault: it is said once of a broker."""
        if not isinstance(error, NotAllowedError):
            logger.warning("given up: %s: %s", waiting.topic, error)
        elif waiting.lane != "answer" or not waiting.retain:
            logger.warning(
                "given up: %s: %s; its access rules are to let this device write there: see grapevine doctor",
                waiting.topic,
                error,
            )
        elif (url := str(self._transport.connected_to)) != self._told_of:
            self._told_of = url
            logger.info(
                "%s lacks %s, and lets nobody but its author put it back: peers give it to who asks. Of others nothing "
                "more is said",
                url,
                waiting.topic,
            )
        else:
            logger.debug("not put back: %s: %s", waiting.topic, error)

    def _took(self, seconds: float) -> None:
        first = self.delay_s == math.inf
        self.delay_s = seconds if first else (1 - SMOOTHING) * self.delay_s + SMOOTHING * seconds

    async def _make(self, waiting: Waiting) -> Payload | None:
        if isinstance(waiting.order, Gift):
            return self._chunk(waiting.order)
        async with self._making:
            return await self._answers.payload_of(waiting)
