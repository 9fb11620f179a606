"""What the owner paused: everything, or single tasks, for a while or until it is resumed.

In a process a pause lasts by the monotonic clock, so no step of the wall clock makes it longer or shorter. Across a
restart it ends when the wall clock says so, and lasts no longer than it was to last in all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from grapevine_agent.core.moment import Moment

ALL: Final = ""  # all tasks
MOST_PAUSES: Final = 10_000
STEP_MS: Final = 2_000  # of the wall clock, by which it was set and does not just run


@dataclass(frozen=True, kw_only=True)
class Pause:
    """`until_s` is monotonic; inf: until it is resumed. `since_ms` and `until_ms` say the same by the wall clock."""

    label: str  # of the task; empty: of all
    since_ms: int
    until_s: float
    until_ms: int  # 0: until it is resumed


@dataclass(kw_only=True)
class Pauses:
    """By task, `ALL` for all of them. See the module's docstring."""

    held: dict[str, Pause] = field(default_factory=dict)

    def begin(self, task: str, label: str, for_s: float | None, now: Moment) -> None:
        """The owner pauses a task, or all; an earlier pause of the same is replaced."""
        before = self.held.get(task)
        since_ms = before.since_ms if before is not None else now.wall_ms
        if for_s is None:
            pause = Pause(label=label, since_ms=since_ms, until_s=math.inf, until_ms=0)
        else:
            until_s, until_ms = now.monotonic_s + for_s, now.wall_ms + math.ceil(1000 * for_s)
            pause = Pause(label=label, since_ms=since_ms, until_s=until_s, until_ms=until_ms)
        self.held[task] = pause
        if len(self.held) > MOST_PAUSES:
            self.held.pop(next(each for each in self.held if each != ALL))

    def end(self, task: str, *, keeps_single: bool = False) -> bool:
        """The owner resumes a task, or with `ALL` everything that is paused. Whether anything was.

        With `keeps_single` `ALL` ends the pause of all alone: those of single tasks go on.
        """
        ended = list(self.held) if task == ALL and not keeps_single else [each for each in (task,) if each in self.held]
        for each in ended:
            del self.held[each]
        return bool(ended)

    def look(self, now: Moment) -> bool:
        """End those that are over. Whether there were any."""
        over = [task for task, pause in self.held.items() if now.monotonic_s >= pause.until_s]
        for task in over:
            del self.held[task]
        for task, pause in self.held.items():
            until_ms = now.wall_ms + math.ceil(1000 * (pause.until_s - now.monotonic_s)) if pause.until_ms else 0
            if abs(until_ms - pause.until_ms) > STEP_MS:  # the wall clock was set: all of the pause moves along
                since_ms = pause.since_ms + until_ms - pause.until_ms
                self.held[task] = replace(pause, since_ms=since_ms, until_ms=until_ms)
        return bool(over)

    def deadline_s(self) -> float:
        """When the next one is over, monotonic."""
        return min(pause.until_s for pause in self.held.values()) if self.held else math.inf

    def to_save(self) -> dict[str, Any]:
        """As plain values."""
        return {
            task: {"label": each.label, "since_ms": each.since_ms, "until_ms": each.until_ms}
            for task, each in self.held.items()
        }

    def restore(self, saved: Mapping[str, Any], now: Moment) -> None:
        """Take what `to_save` gave. What is damaged is left out."""
        for task, each in list(saved.items())[:MOST_PAUSES]:
            if not isinstance(task, str) or not isinstance(each, dict):
                continue
            label, since_ms, until_ms = each.get("label"), each.get("since_ms"), each.get("until_ms")
            if not isinstance(label, str) or type(since_ms) is not int or type(until_ms) is not int:
                continue
            left_s = min(until_ms - now.wall_ms, until_ms - since_ms) / 1000 if until_ms else math.inf
            if left_s > 0:
                self.held[task] = Pause(
                    label=label,
                    since_ms=min(since_ms, now.wall_ms) if until_ms else since_ms,
                    until_s=now.monotonic_s + left_s,
                    until_ms=now.wall_ms + math.ceil(1000 * left_s) if until_ms else 0,
                )
