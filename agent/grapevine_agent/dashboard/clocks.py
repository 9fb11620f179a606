"""Times that run on where a clock was set: a device without a battery for its clock begins in 1970.

An agent tells `clock-set`; what it told before has times of the clock as it was. Curves cannot go on with either: they
would be as long as the step, or wait for a time that was there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from grapevine_agent.core.moment import Moment
from grapevine_agent.dashboard.words import id_in, number_in, time_in

MOST_CLOCKS: Final = 5_000
LEAST_STEP_MS: Final = 2_000  # what is less is a clock that is kept right

Line = Mapping[str, Any]


class Clocks:
    """The clocks of those who tell events, each as it went when its first event was told."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}  # time of the newest event, and how far the clock was set back

    def steady(self, line: Line) -> Line:
        """The same event with a time that does not jump where the clock was set."""
        at_ms, peer = time_in(line, "at_ms"), id_in(line, "peer")
        if at_ms is None:
            return line
        last_ms, back_ms = self._known.pop(peer, (at_ms, 0))
        if line.get("event") == "clock-set":
            step_ms = round(1000 * (number_in(line, "step_s") or 0))
            # In a simulation the times are the world's, whatever a node's clock says.
            if abs(at_ms + back_ms - step_ms - last_ms) < abs(at_ms + back_ms - last_ms):
                back_ms -= step_ms
        self._known[peer] = at_ms + back_ms, back_ms
        if len(self._known) > MOST_CLOCKS:
            del self._known[next(iter(self._known))]
        return {**line, "at_ms": at_ms + back_ms} if back_ms else line

    def back_ms(self, peer: str) -> int:
        """How far a clock is behind what its first events would have it."""
        return self._known.get(peer, (0, 0))[1]


def by_todays_clock(lines: Iterable[Line], peer: str) -> list[Line]:
    """What an agent told in order, with the times that its clock would have shown as it goes now."""
    clocks = Clocks()
    told = [clocks.steady(line) for line in lines]
    back_ms = clocks.back_ms(peer)
    if not back_ms:
        return told
    return [line if (at_ms := time_in(line, "at_ms")) is None else {**line, "at_ms": at_ms - back_ms} for line in told]


class Steps:
    """Notices that this machine's own clock was set."""

    def __init__(self, now: Callable[[], Moment]) -> None:
        self._now = now
        self._apart_ms = self._apart()

    def since(self) -> int:
        """By how many milliseconds it was set since this was asked last; 0: it was not."""
        before, self._apart_ms = self._apart_ms, self._apart()
        step_ms = self._apart_ms - before
        return step_ms if abs(step_ms) >= LEAST_STEP_MS else 0

    def _apart(self) -> int:
        now = self._now()
        return now.wall_ms - round((now.monotonic_s + now.suspended_s) * 1000)
