"""Subscriptions that bring much at once: one after the other, each once the one before has fallen quiet.

A broker sends all that it retains for a filter in one go, and what finds no place in its queue for us is gone for good,
without a word: Mosquitto's own limits are 20 messages in flight and 1,000 that wait, ejabberd's are 1,000 in all. So
these filters are subscribed at QoS 0, which most brokers write to the socket as fast as it takes them, and in turn,
so that each has the queue for itself. What was retained of each is counted, since whoever got close to 1,000 may lack
some. It comes behind `Connected`, and behind all other subscriptions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from grapevine_agent.net.events import Listening

QUIET_S = 0.1  # without another retained message, after the broker has granted the subscription
LONGEST_S = 20.0  # whatever still comes


class _Subscribes(Protocol):
    async def subscribe(self, filters: list[tuple[str, int]]) -> tuple[str, ...]:
        """Those that the broker refused."""


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter without # takes in a topic (MQTT 3.1.1, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(a in ("+", b) for a, b in zip(wanted, levels, strict=True))


@dataclass(kw_only=True)
class InTurn:
    """See the module's docstring. `arrived` may be called from any thread.

    Args:
        clock: Monotonic seconds.
        quiet_s: So long nothing retained comes any more.
    """

    clock: Callable[[], float]
    quiet_s: float = QUIET_S
    filters: dict[str, None] = field(default_factory=dict)  # subscribed at each connection, in this order
    _due: deque[str] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _current: str = ""
    _num_retained: int = 0
    _last_s: float = 0.0

    def add(self, topic_filter: str) -> None:
        """Subscribe when its turn comes; again, if it was before: all that is retained comes again."""
        self.filters[topic_filter] = None
        if topic_filter not in self._due:
            self._due.append(topic_filter)
        self._wake.set()

    def remove(self, topic_filter: str) -> None:
        """Subscribe to it no more."""
        self.filters.pop(topic_filter, None)
        if topic_filter in self._due:
            self._due.remove(topic_filter)

    def arrived(self, topic: str) -> None:
        """A retained message came."""
        if self._current and matches(self._current, topic):
            self._num_retained += 1
            self._last_s = self.clock()

    async def run(self, connection: _Subscribes, say: Callable[[Listening], object]) -> None:
        """Subscribe to all over a new connection, and to what is added. Raises ConnectionLostError at its end."""
        self._due = deque(self.filters)
        while True:
            while self._due:
                say(await self._listen(connection, self._due.popleft()))
            self._wake.clear()
            await self._wake.wait()

    async def _listen(self, connection: _Subscribes, topic_filter: str) -> Listening:
        self._current, self._num_retained = topic_filter, 0
        try:
            refused = await connection.subscribe([(topic_filter, 0)])
            began_s = self._last_s = self.clock()
            while not refused and (now_s := self.clock()) < min(self._last_s + self.quiet_s, began_s + LONGEST_S):
                await asyncio.sleep(self._last_s + self.quiet_s - now_s)
        finally:
            self._current = ""
        is_last = not self._due
        return Listening(
            filter=topic_filter, num_retained=self._num_retained, is_refused=bool(refused), is_last=is_last
        )
