"""The queue between the network thread, which must never wait, and the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from grapevine_agent.net.events import Arrived, Event, Trying


class Inbound:
    """Events in order, bounded in number and bytes; what does not fit is dropped and counted.

    A single message may be larger than the bound, as long as no other bytes wait.

    `put` may be called from any thread, everything else from the loop's own. While *held*,
    arrivals are kept back: so a consumer sees `Connected` before the first retained message.

    Args:
        loop: The consumer's event loop.
        max_messages: Arrivals that may wait.
        max_bytes: Bytes of payload that may wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, max_messages: int, max_bytes: int) -> None:
        self.num_dropped = 0
        self._loop = loop
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._held: deque[Event] | None = None
        self._num_waiting = 0
        self._num_bytes = 0
        self._wake_is_due = False
        self._ready = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> bool:
        """Append an event; False if it was dropped. `Connected` and `Disconnected` always fit."""
        size = len(event.payload) + len(event.topic) if isinstance(event, Arrived) else 0
        with self._lock:
            is_full = self._num_waiting >= self._max_messages
            is_full = is_full or (self._num_bytes > 0 and self._num_bytes + size > self._max_bytes)
            if is_full and isinstance(event, Arrived | Trying):
                self.num_dropped += isinstance(event, Arrived)
                return False
            self._num_waiting += 1
            self._num_bytes += size
            if self._held is not None and isinstance(event, Arrived):
                self._held.append(event)
                return True
            self._events.append(event)
            must_wake, self._wake_is_due = not self._wake_is_due, True
        if must_wake:  # one wake-up for a burst, not one a message
            wake(self._loop, self._ready.set)
        return True

    def hold(self) -> None:
        """Keep arrivals back until `release` or `discard`."""
        with self._lock:
            self._held = deque()

    def release(self, first: Event) -> None:
        """Append `first`, then what was held back."""
        with self._lock:
            held, self._held = self._held or deque(), None
            self._events.extend([first, *held])
            self._num_waiting += 1
        self._ready.set()

    def discard(self) -> None:
        """Forget what was held back: that connection came to nothing."""
        with self._lock:
            for event in self._held or ():
                self._forget(event)
            self._held = None

    def close(self) -> None:
        """Let `get` end once everything has been read."""
        self._closed = True
        self._ready.set()

    async def get(self) -> Event | None:
        """Wait for the next event; None after the last."""
        while True:
            with self._lock:
                if self._events:
                    event = self._events.popleft()
                    self._forget(event)
                    return event
                if self._closed:
                    return None
                self._ready.clear()
                self._wake_is_due = False
            await self._ready.wait()

    def _forget(self, event: Event) -> None:
        self._num_waiting -= 1
        if isinstance(event, Arrived):
            self._num_bytes -= len(event.payload) + len(event.topic)


def wake(loop: asyncio.AbstractEventLoop, call: object, *arguments: object) -> None:
    """Call something soon in `loop` from another thread; nothing happens once the loop is closed."""
    assert callable(call)
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:  # the process is ending: nobody is left to tell
        return
