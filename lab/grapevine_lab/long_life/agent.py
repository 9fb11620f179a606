"""`python -m grapevine_lab.long_life.agent ROLE HEARTBEAT_S CONFIG FILE`: a service whose wall clock somebody can set.

The device's own service, in this process; only where it asks for the time, the seconds that stand in FILE are added
to the wall clock. The monotonic clock is left alone, as it is when somebody sets a computer's clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from grapevine_agent import serve
from grapevine_agent.core.moment import Moment
from grapevine_agent.service import clock

LOOK_EVERY_S = 0.2


class SetClock:
    """A clock that is ahead of the right one by what stands in a file; behind it if that is negative."""

    def __init__(self, right: Callable[[], Moment], file: Path) -> None:
        self._right = right
        self._file = file
        self._ahead_ms = 0
        self._look_at_s = 0.0

    def now(self) -> Moment:
        """The present moment, as this device has it."""
        right = self._right()
        if right.monotonic_s >= self._look_at_s:
            self._look_at_s = right.monotonic_s + LOOK_EVERY_S
            self._ahead_ms = int(1000 * read_ahead_s(self._file))
        return Moment(monotonic_s=right.monotonic_s, wall_ms=right.wall_ms + self._ahead_ms)


def read_ahead_s(file: Path) -> float:
    """What stands in the file; 0 where there is none."""
    try:
        return float(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0.0


def set_clock(file: Path, ahead_s: float) -> None:
    """Set the clock of whoever reads this file: at once and as a whole, as a clock is set."""
    beside = file.with_suffix(f".{time.monotonic_ns()}")
    beside.write_text(repr(ahead_s), encoding="ascii")
    beside.replace(file)


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM."""
    *ours, file = arguments
    clock.now = SetClock(clock.now, Path(file)).now
    return serve.main(ours)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
