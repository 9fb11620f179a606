"""How long the event loop stands: what everybody waits for who waits for this process.

A timer in the loop is due every `EVERY_S`. How much later it comes is a *stop*: for so long nothing else in the loop
had its turn either, be it that something stood in the loop, or that another thread kept the interpreter. A stop that
begins between two timers is seen from the next one on. While the machine is asleep, monotonic time stands still.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

EVERY_S: Final = 0.05  # a wake-up takes 0.05 ms, on a small board 0.3 ms
SPANS: Final = 10  # the longest stop of each is kept
SPAN_S: Final = 60.0


class Stops:
    """The longest stop of the last `SPANS` spans, and of all. Times are monotonic seconds. Sans-IO."""

    def __init__(self, *, span_s: float = SPAN_S) -> None:
        self.longest_s = 0.0
        self._span_s = span_s
        self._spans: deque[tuple[int, float]] = deque(maxlen=SPANS)  # number of the span, its longest stop

    def saw(self, late_s: float, now_s: float) -> None:
        """Something came so much later than it was due."""
        number = int(now_s / self._span_s)
        if not self._spans or self._spans[-1][0] != number:
            self._spans.append((number, 0.0))
        self._spans[-1] = (number, max(self._spans[-1][1], late_s))
        self.longest_s = max(self.longest_s, late_s)

    def lately_s(self, now_s: float) -> float:
        """The longest of the last ten minutes."""
        oldest = int(now_s / self._span_s) - SPANS
        return max((late_s for number, late_s in self._spans if number > oldest), default=0.0)


async def watch(stops: Stops, *, every_s: float = EVERY_S) -> None:
    """Note the stops of the loop that this runs in, until cancelled."""
    while True:
        due_s = time.monotonic() + every_s
        await asyncio.sleep(every_s)
        now_s = time.monotonic()
        stops.saw(now_s - due_s, now_s)
