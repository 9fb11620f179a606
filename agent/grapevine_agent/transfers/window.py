"""How many chunks to have under way at once: as many as fill the line, and not one more.

A chunk that waits behind others on its way makes everything else wait too: on a line of 20 Mbit/s four chunks are a
fifth of a second. So the window grows only while the answers to several chunks take no longer than the answer to one:
then the line is long rather than narrow, and waiting for each answer leaves it empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MORE: Final = 1.3  # times the time that one chunk takes: up to there a wider window costs nothing
LESS: Final = 1.8  # and from there it only makes others wait
FORGET: Final = 1.01  # the shortest time counts for so much more with each chunk: a line may have become slower
LONGEST_S: Final = 60.0
SHORTEST_S: Final = 3.0
TIMES: Final = 6.0  # so many times the usual time: then a chunk is taken for lost


@dataclass(kw_only=True)
class Window:
    """The window of one transfer: `size` chunks of at most `most`. Times are seconds from asking to the whole chunk."""

    most: int
    size: int = 1
    _shortest_s: float = math.inf
    _usual_s: float = 0.0
    _num_lost: int = 0  # in a row

    def arrived(self, took_s: float) -> None:
        """A chunk is here."""
        self._num_lost = 0
        self._shortest_s = min(self._shortest_s * FORGET, took_s)
        self._usual_s = took_s if self._usual_s == 0 else 0.75 * self._usual_s + 0.25 * took_s
        if took_s <= MORE * self._shortest_s:
            self.size = min(self.most, self.size + 1)
        elif took_s > LESS * self._shortest_s:
            self.size = max(1, self.size - 1)

    def lost(self) -> None:
        """A chunk did not come in time."""
        self._num_lost += 1
        self.size = 1

    @property
    def patience_s(self) -> float:
        """How long to wait for a chunk."""
        return min(LONGEST_S, max(SHORTEST_S, TIMES * self._usual_s) * 2.0 ** min(self._num_lost, 6))
