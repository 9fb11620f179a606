"""What happens is told: to the log, to counters, and to whoever listens.

    core, shell ─▶ tell ─┬▶ the log; what comes often once a minute, and each time at the level `debug`
                         ├▶ counts, by kind, and what was rejected by its reason
                         └▶ the ring: the newest 2,000 ─▶ listeners, each at its own place

A listener has no queue of its own. Whoever reads too slowly to keep up with the ring is told how many it has missed,
and goes on with the oldest that is left: it costs its place and nothing more. Strangers can send what is rejected as
fast as a broker lets them: of these some a second are told one by one, and stand for the others of their reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Self

from grapevine_agent.core.events import Event, Level, Missed, Rejected, to_json
from grapevine_agent.core.moment import Moment
from grapevine_agent.service.seldom import Seldom
from grapevine_proto.errors import RequestError
from grapevine_proto.quotas import Bucket

logger = logging.getLogger(__name__)

RING: Final = 2_000  # events that are kept
MAX_LISTENERS: Final = 32
REJECTED_PER_S: Final = 10.0  # that are told one by one …
REJECTED_BURST: Final = 50  # … and so many after a quiet time
_BATCH: Final = 64  # events that a listener takes at a time
_LEVELS: Final[dict[Level, int]] = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


@dataclass
class _Told:
    number: int
    at_ms: int
    event: Event


class Telling:
    """See the module's docstring. Called from the event loop alone.

    Args:
        peer: Who tells it: this agent's id.
        began_ms: When it started (wall clock): numbers begin again with each start.
    """

    def __init__(self, peer: str, began_ms: int) -> None:
        self.number = 0  # of the newest event
        self.counts: Counter[str] = Counter()  # by kind, since the start
        self.rejected: Counter[str] = Counter()  # by reason
        self._peer = peer
        self._began_ms = began_ms
        self._seldom = Seldom()
        self._ring: deque[_Told] = deque(maxlen=RING)
        self._may_reject = Bucket(per_s=REJECTED_PER_S, burst=REJECTED_BURST)
        self._held: dict[str, Rejected] = {}  # not told yet, by the reason: how many, and the newest
        self._listeners: set[Listener] = set()

    def tell(self, event: Event, now: Moment) -> None:
        """Something happened."""
        if isinstance(event, Rejected):
            self._reject(event, now)
        else:
            self.counts[event.kind] += 1
            self._note(event, now)

    def settle(self, now: Moment) -> None:
        """Time passed: what was held back in a flood is told, as far as it is time for that."""
        while self._held and self._may_reject.take(1, now.monotonic_s):
            self._note(self._held.pop(next(iter(self._held))), now)

    @property
    def num_listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def listen(self, after: int | None = None) -> Listener:
        """Listen from now on, or first to what came after number `after`. Raises RequestError: there are too many.

        A number that is not reached yet is of an earlier start: then all that is kept of this one comes first.
        """
        if len(self._listeners) >= MAX_LISTENERS:
            raise RequestError(
                f"{MAX_LISTENERS} programs listen to this agent's events already; end one, such as a dashboard"
            )
        at = self.number if after is None else after if after <= self.number else 0
        listener = Listener(self, at)
        self._listeners.add(listener)
        return listener

    # --- for listeners ------------------------------------------------------------------------------

    @property
    def about(self) -> dict[str, Any]:
        """Who tells this, and what number its newest event has."""
        return {"peer": self._peer, "number": self.number, "began_ms": self._began_ms}

    def after(self, number: int) -> list[dict[str, Any]]:
        """Some of what came after this number, as JSON, and how many of it are not there any more."""
        oldest = self.number - len(self._ring) + 1
        found = list(islice(self._ring, max(0, number + 1 - oldest), max(0, number + 1 - oldest) + _BATCH))
        if number + 1 < oldest:
            found.insert(0, _Told(oldest - 1, found[0].at_ms, Missed(num=oldest - 1 - number)))
        return [to_json(each.event, number=each.number, at_ms=each.at_ms, peer=self._peer) for each in found]

    def forget(self, listener: Listener) -> None:
        """It listens no more."""
        self._listeners.discard(listener)

    # ------------------------------------------------------------------------------------------------

    def _reject(self, event: Rejected, now: Moment) -> None:
        self.counts[event.kind] += event.num
        self.rejected[event.reason] += event.num
        before = self._held.pop(event.reason, None)
        if before is not None:
            event = replace(event, num=before.num + event.num)
        if self._may_reject.take(1, now.monotonic_s):
            self._note(event, now)
        else:
            self._held[event.reason] = event

    def _note(self, event: Event, now: Moment) -> None:
        level = event.level
        if event.often and not self._seldom.may_say(event.often, now.monotonic_s):
            level = "debug"
        if logger.isEnabledFor(_LEVELS[level]):
            logger.log(_LEVELS[level], "%s", event.text)
        self.number += 1
        self._ring.append(_Told(self.number, now.wall_ms, event))
        for listener in self._listeners:
            listener.wake()


class Listener:
    """One that listens: gives events as JSON, one by one, for as long as it is asked. `close` it."""

    def __init__(self, telling: Telling, number: int) -> None:
        self._telling = telling
        self._number = number
        self._has_news = asyncio.Event()
        self._waiting: deque[dict[str, Any]] = deque()

    def wake(self) -> None:
        """There is something new."""
        self._has_news.set()

    def close(self) -> None:
        """It listens no more."""
        self._telling.forget(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._waiting:
            self._has_news.clear()
            if self._number == self._telling.number:
                await self._has_news.wait()
            self._waiting.extend(self._telling.after(self._number))
            self._number = self._waiting[-1]["number"] if self._waiting else self._number
        return self._waiting.popleft()
