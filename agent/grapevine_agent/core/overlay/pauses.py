"""Pauses before something is said again that others undo: each twice as long as the one before.

Where a broker has no rules, anybody may erase a record, again and again. It is given back at once the first time;
whoever goes on erasing it costs its author one message in a pause, and the pause grows to an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE_S = 16.0
LONGEST_PAUSE_S = 3_600.0


@dataclass(frozen=True)
class Pause:
    """When something was said last (monotonic), and how long the pause after it is."""

    at_s: float
    length_s: float = FIRST_PAUSE_S

    @property
    def over_s(self) -> float:
        """From when on it may be said again."""
        return self.at_s + self.length_s


def next_pause(last: Pause | None, now_s: float) -> Pause:
    """The pause after saying it now: twice the last one, or as at first where nobody has undone it for long."""
    if last is None or now_s - last.at_s > 2 * LONGEST_PAUSE_S:
        return Pause(now_s)
    return Pause(now_s, min(2 * last.length_s, LONGEST_PAUSE_S))
