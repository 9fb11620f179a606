"""How far a simulation has come, on stderr: a line that moves on a terminal, one every tenth of the way elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

REFRESH_S = 0.1  # of a terminal's line, in wall time
PLAIN_STEPS = 10  # lines of a whole simulation where no terminal is
MEMORY = 0.1  # of the whole work: what was done longer ago hardly counts for the pace
BAR_CELLS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast work gets done, as sums over the past in which older work fades.

    Work is counted in runs: 1.5 is one seed done and half of the next one's virtual time.
    """

    work: float
    wall_s: float
    faded_work: float = 0.0
    faded_wall_s: float = 0.0


def advance(pace: Pace, *, work: float, wall_s: float, total: float) -> Pace:
    """The pace after more work. What was done before fades by 1/e with every `MEMORY` of the `total` work.

    No progress changes nothing: the time waited counts for the next.
    """
    done = work - pace.work
    if done <= 0:
        return pace
    fading = math.exp(-done / (MEMORY * total))
    return Pace(
        work=work,
        wall_s=wall_s,
        faded_work=fading * pace.faded_work + done,
        faded_wall_s=fading * pace.faded_wall_s + (wall_s - pace.wall_s),
    )


def seconds_left(pace: Pace, *, total: float) -> float | None:
    """Wall seconds from the last progress to the end of `total` work; None while there is no pace yet."""
    if pace.faded_work <= 0:
        return None
    return max(0.0, total - pace.work) * pace.faded_wall_s / pace.faded_work


def duration(seconds: float) -> str:
    """Seconds as people say them: two units at most."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


class Progress:
    """Tells an onlooker how far a simulation is. Use it in a `with`, so that an error leaves the terminal in order.

    It holds a console and is no part of a checkpoint: a simulation that goes on makes a new one, and the pace is then
    that of what is done since.
    """

    def __init__(
        self, scenario: str, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if console is None:
            from rich.console import Console  # noqa: PLC0415 - only for whoever watches

            console = Console(stderr=True, highlight=False)
        self._scenario = scenario
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._num_rounds = 0
        self._num_seeds = 1
        self._duration_s: float | None = None
        self._started_s = 0.0
        self._pace: Pace | None = None
        self._shown_s = -math.inf  # when the terminal's line was drawn last
        self._plain_steps = 0  # tenths already told

    def start(self, total_rounds: int, seeds: int, *, duration_s: float | None = None) -> None:
        """Begin: so many rounds in each of so many seeds, and one seed's virtual time where it is known."""
        self._num_rounds, self._num_seeds, self._duration_s = total_rounds, seeds, duration_s
        self._started_s = self._clock()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live  # noqa: PLC0415 - only for whoever watches

            # Drawn when we say so: no thread beside the simulation's own.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def update(
        self,
        seed_index: int,
        round: int,  # noqa: A002 - as in a reading
        time_s: float,
        note: str = "",
        *,
        num_messages: int | None = None,
    ) -> None:
        """Tell how far it is: `round` rounds done in seed `seed_index` (from 0). Call it often: it is cheap."""
        now_s = self._clock()
        total = float(self._num_seeds)
        work = seed_index + self._share(round, time_s)
        if self._pace is None:
            # A run that goes on from a checkpoint begins in the midst: only what is done from here on has a pace.
            fresh = seed_index == 0 and round <= 1
            self._pace = Pace(work=0.0 if fresh else work, wall_s=self._started_s if fresh else now_s)
            self._plain_steps = 0 if fresh else int(PLAIN_STEPS * work / total)
        self._pace = advance(self._pace, work=work, wall_s=now_s, total=total)
        if self._live is not None:
            if now_s - self._shown_s >= REFRESH_S:
                from rich.text import Text  # noqa: PLC0415 - only for whoever watches

                self._shown_s = now_s
                text = Text(
                    self._line(seed_index, round, time_s, note, num_messages), no_wrap=True, overflow="ellipsis"
                )
                self._live.update(text, refresh=True)
        elif (steps := int(PLAIN_STEPS * work / total + 1e-9)) > self._plain_steps:
            self._plain_steps = steps
            self._print(self._line(seed_index, round, time_s, note, num_messages))

    def finish(self) -> None:
        """End: the moving line goes, and one says how long it took."""
        self._stop()
        self._print(f"{self._scenario}: done in {duration(self._clock() - self._started_s)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _share(self, num_done: int, time_s: float) -> float:
        """How much of the present seed is done: of its virtual time, else of its rounds."""
        of = time_s / self._duration_s if self._duration_s else num_done / max(1, self._num_rounds)
        return min(1.0, max(0.0, of))

    def _line(self, seed_index: int, num_done: int, time_s: float, note: str, num_messages: int | None) -> str:
        assert self._pace is not None
        total = float(self._num_seeds)
        share = self._pace.work / total
        parts = [f"{math.floor(100 * share + 1e-9):d} %"]
        if self._num_seeds > 1:
            parts.append(f"seed {seed_index + 1} of {self._num_seeds}")
        of = f" of {self._num_rounds}" if self._num_rounds else ""  # none: the time ends it
        parts.append(f"round {num_done}{of} (virtual {duration(time_s)})")
        if num_messages is not None:
            parts.append(f"{num_messages:,} messages")
        if note:
            parts.append(note)
        left_s = seconds_left(self._pace, total=total)
        parts.append("time left unknown" if left_s is None else f"{duration(left_s)} left")
        filled = round(BAR_CELLS * share)
        bar = f"{'━' * filled}{'─' * (BAR_CELLS - filled)} " if self._live is not None else ""
        return f"{self._scenario} {bar}{', '.join(parts)}"

    def _print(self, text: str) -> None:
        # One line, however wide: what reads this is a file or a program.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
