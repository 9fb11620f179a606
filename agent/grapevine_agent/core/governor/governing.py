"""The governor as the core has it: what it decides, what is said of that, and what is kept across a restart."""

from __future__ import annotations

from typing import Final

from grapevine_agent.core.effects import Effect, SaveGovernor
from grapevine_agent.core.events import Unmeasured
from grapevine_agent.core.governor.changes import Changes
from grapevine_agent.core.governor.governor import Governor
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.governor.rules import not_measured
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import GovernorLimits

SAVE_EVERY_S: Final = 300.0  # a day's counters: a kill costs so much of them


class Governing:
    """See the module's docstring. Every method returns what the shell is to do.

    `is_silent`: a command that connects for itself trains nothing, and says nothing of what keeps it from that.
    """

    def __init__(self, *, limits: GovernorLimits, is_silent: bool = False) -> None:
        self._is_silent = is_silent
        self.governor = Governor(limits=limits)
        self._changes = Changes()
        self._has_read = False
        self._save_at_s = 0.0

    def restore(self, saved: str | None, now: Moment, *, utc_offset_s: int | None = None) -> None:
        """What an earlier life kept. What holds because of it is said at the first tick.

        `utc_offset_s`: of local time; None: as in that life, until the sensors are read.
        """
        self.governor.restore(saved, now, utc_offset_s=utc_offset_s)

    def read(self, readings: Readings, now: Moment) -> list[Effect]:
        """What the sensors say now."""
        self.governor.read(readings, now)
        unmeasured: list[Effect] = []
        if not self._has_read:
            self._has_read = True
            lacking = not_measured(self.governor.limits, self.governor.readings)
            unmeasured = [Unmeasured(limit=limit, why=why) for limit, why in lacking]
        is_due = now.monotonic_s >= self._save_at_s
        if is_due:
            self._save_at_s = now.monotonic_s + SAVE_EVERY_S
        return [*unmeasured, *self._told(now), *(self._kept() if is_due else ())]

    def tick(self, now: Moment) -> list[Effect]:
        """Time passed."""
        self.governor.look(now)
        return self._told(now)

    def change(self, limits: GovernorLimits, now: Moment) -> list[Effect]:
        """The owner has set other limits; what was used of the day stays."""
        self.governor.limits = limits
        return self.tick(now)

    def pause(self, task: str, label: str, for_s: float | None, now: Moment) -> list[Effect]:
        """The owner pauses a task, or all."""
        self.governor.pause(task, label, for_s, now)
        return [*self._told(now), *self._kept()]

    def resume(self, task: str, now: Moment, *, keeps_single: bool = False) -> list[Effect]:
        """The owner resumes a task, or all; with `keeps_single`, what is paused by itself stays so."""
        self.governor.resume(task, now, keeps_single=keeps_single)
        return [*self._told(now), *self._kept()]

    def goodbye(self) -> list[Effect]:
        """The process ends."""
        return self._kept()

    def deadline_s(self, now: Moment) -> float:
        """When `tick` may have something to do next, monotonic."""
        return self.governor.deadline_s(now)

    def _told(self, now: Moment) -> list[Effect]:
        told = self._changes.between(self.governor.held, now.wall_ms, self.governor.readings.utc_offset_s)
        return [] if self._is_silent else [*told]

    def _kept(self) -> list[Effect]:
        state = self.governor.to_save()
        return [SaveGovernor(state=state)] if state else []
