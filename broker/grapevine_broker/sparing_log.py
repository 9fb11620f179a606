"""A log that says a thing a few times a minute, and then how often it held its tongue."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TextIO

NUM_LINES = 5
PERIOD_S = 60.0
_MAX_CHARACTERS = 4000  # of one record, traceback and all: some of it may be a stranger's words


@dataclass(slots=True)
class _Place:
    """What one line of code has logged in the running period."""

    began_s: float
    num_written: int = 0
    num_held_back: int = 0
    last: str = ""


class SparingLog(logging.StreamHandler[TextIO]):
    """Writes the first few records of each place in the code in each period, and one summary of the rest.

    A place is a line of code: their number is finite, whatever strangers send.

    Args:
        stream: Where to write; None: standard error.
        num_lines: How many records of a place are written in a period.
        period_s: Its length in seconds, by the records' own times.
    """

    def __init__(self, stream: TextIO | None = None, *, num_lines: int = NUM_LINES, period_s: float = PERIOD_S) -> None:
        super().__init__(stream)
        self._num_lines = num_lines
        self._period_s = period_s
        self._places: dict[tuple[str, int], _Place] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        key = record.pathname, record.lineno
        place = self._places.get(key)
        if place is None or place.began_s + self._period_s <= record.created:
            if place is not None:
                self._sum_up(place)
            place = self._places[key] = _Place(record.created)
        if place.num_written < self._num_lines:
            place.num_written += 1
            super().emit(record)
        else:
            place.num_held_back += 1
            place.last = record.getMessage()[:200]

    def format(self, record: logging.LogRecord) -> str:
        """Write out a record, or its beginning."""
        return super().format(record)[:_MAX_CHARACTERS]

    def sum_up(self, now_s: float) -> None:
        """Write the summaries that are due, for places that have fallen silent.

        Args:
            now_s: The time, on the clock of `time.time`; infinite for all that there are.
        """
        for place in list(self._places.values()):
            if place.began_s + self._period_s <= now_s:
                self._sum_up(place)

    def _sum_up(self, place: _Place) -> None:
        if place.num_held_back:
            num_held_back, place.num_held_back = place.num_held_back, 0
            line = f"… {num_held_back} more like it in {self._period_s:g} s, the last one: {place.last}"
            super().emit(logging.LogRecord(__name__, logging.WARNING, __file__, 0, line, None, None))
