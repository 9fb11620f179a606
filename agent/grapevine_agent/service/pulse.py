"""How long the event loop stands: what everybody waits for who waits for this process.

A *stop* is a time in which nothing in the loop has its turn. There are two kinds.

- Something stands in the loop itself. The loop's selector sees it: from when it returns until it is called again, what
  was due is being done. It also sees when it came back later than it was asked to. This costs no wake-up, so a device
  that has nothing to do sleeps.
- Another thread keeps the interpreter, while the loop waits for nothing in particular. Only who looks notices:
  so while something large runs beside the loop, a timer is due every `EVERY_S`, and how much later it comes is a stop.

While the machine is asleep, monotonic time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final

EVERY_S: Final = 0.05  # while something runs beside the loop
ROUNDING_S: Final = 0.002  # by which a selector may come late: its clock counts milliseconds
SPANS: Final = 10  # the longest stop of each is kept
SPAN_S: Final = 60.0


class Stops:
    """The longest stop of the last `SPANS` spans, and of all. Times are monotonic seconds. Sans-IO."""

    def __init__(self, *, span_s: float = SPAN_S) -> None:
        self.longest_s = 0.0
        self._span_s = span_s
        self._spans: deque[tuple[int, float]] = deque(maxlen=SPANS)  # number of the span, its longest stop

    def saw(self, late_s: float, now_s: float) -> None:
        """For so long nothing had its turn."""
        number = int(now_s / self._span_s)
        if not self._spans or self._spans[-1][0] != number:
            self._spans.append((number, 0.0))
        self._spans[-1] = (number, max(self._spans[-1][1], late_s))
        self.longest_s = max(self.longest_s, late_s)

    def lately_s(self, now_s: float) -> float:
        """The longest of the last ten minutes."""
        oldest = int(now_s / self._span_s) - SPANS
        return max((late_s for number, late_s in self._spans if number > oldest), default=0.0)


class WatchedSelector(selectors.DefaultSelector):
    """The selector of a loop whose stops are noted."""

    def __init__(self, stops: Stops) -> None:
        super().__init__()
        self._stops = stops
        self._returned_s: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As its base class does."""
        asked_s = time.monotonic()
        if self._returned_s is not None:
            self._stops.saw(asked_s - self._returned_s, asked_s)
        ready = super().select(timeout)
        self._returned_s = now_s = time.monotonic()
        if timeout is not None and not ready:
            late_s = now_s - asked_s - max(0.0, timeout)
            self._stops.saw(late_s if late_s > ROUNDING_S else 0.0, now_s)
        return ready


def watched_loop(stops: Stops) -> asyncio.AbstractEventLoop:
    """An event loop whose stops are noted."""
    return asyncio.SelectorEventLoop(WatchedSelector(stops))


class Pulse:
    """Beats while something runs beside the loop. Called from the loop."""

    def __init__(self, stops: Stops | None = None, *, every_s: float = EVERY_S) -> None:
        self.stops = stops or Stops()
        self._every_s = every_s
        self._num_beside = 0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def beside(self) -> Iterator[None]:
        """While something runs beside the loop."""
        self._began()
        try:
            yield
        finally:
            self._ended()

    def until_done(self, work: Future[Any]) -> None:
        """Beat until a thread has done this work."""
        loop = asyncio.get_running_loop()
        self._began()

        def done(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._ended)

        work.add_done_callback(done)

    def _began(self) -> None:
        self._num_beside += 1
        if self._num_beside == 1:
            self._beat()

    def _ended(self) -> None:
        self._num_beside -= 1
        if self._num_beside == 0 and self._timer is not None:
            self._timer.cancel()
            self._look()

    def _beat(self) -> None:
        self._due_s = time.monotonic() + self._every_s
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._beaten)

    def _beaten(self) -> None:
        self._look()
        self._beat()

    def _look(self) -> None:
        now_s = time.monotonic()
        self.stops.saw(max(0.0, now_s - self._due_s), now_s)


async def watch(stops: Stops, *, every_s: float = EVERY_S) -> None:
    """Note the stops of the loop that this runs in, whatever its selector, by a timer, until cancelled."""
    with Pulse(stops, every_s=every_s).beside():
        await asyncio.get_running_loop().create_future()
