"""The governor: whether this device may train now, how fast, and what it may still send today. Enforced, not advised.

    the shell's sensors ── Readings ──▶ ┐                  ┌─▶ each round: may it begin? how soon the next one?
    what was sent, and drawn ─────────▶ │ Governor: limits │
    the clock: quiet hours, midnight ─▶ │  ▶ those held    │ ─▶ each send of a model: are there bytes left?
    the owner: pause, resume ─────────▶ ┘                  └─▶ `status`, one line of the log at each change

It decides, and knows no sensor: the service fills it from sysfs, the simulator from a scenario, and both run this.

A limit of a sensor that holds does so for `LEAST_HELD_S` at least, and until its reading is better by a margin
(`rules`): what flaps would start and stop trainers. Quiet hours, a day's budgets and the owner's word are exact.

What is paused is training. Whoever is paused is there: it says its heartbeats, answers, takes models and merges them,
and passes on what it has. Bytes bound what it sends of models; the small messages of presence go on, and count.

Bytes are counted when they leave, which is after they were decided on. So a decision is a promise, which holds until
as much has left, or for a while (`promises`). What is given to who asks, and travels in chunks, is promised chunk by
chunk, as they are asked for: who never fetches holds nothing back.

To peers that are no members, and for others, whose messages a gateway carries, goes `OTHERS_SHARE` of a day at most.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from grapevine_agent.core.governor.budget import SLOW, Budget, Held
from grapevine_agent.core.governor.changes import OWNERS
from grapevine_agent.core.governor.day import Day
from grapevine_agent.core.governor.pauses import ALL, Pauses
from grapevine_agent.core.governor.promises import Promises
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.governor.rules import Found, not_measured, sensed
from grapevine_agent.core.governor.times import day_ends_ms, next_quiet_ms, quiet_until_ms
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import GovernorLimits

MIB: Final = 1 << 20
LEAST_HELD_S: Final = 60.0
OTHERS_SHARE: Final = 0.5
_CLOCKED: Final = ("quiet_hours", "energy_kj_per_day", "upload_mb_per_day")  # exact: nothing here flaps


@dataclass(kw_only=True)
class Governor:
    """See the module's docstring. `held`: the limits of all tasks that hold, the most urgent first."""

    limits: GovernorLimits = field(default_factory=GovernorLimits)
    readings: Readings = field(default_factory=Readings)
    day: Day = field(default_factory=Day)
    pauses: Pauses = field(default_factory=Pauses)
    held: tuple[Held, ...] = ()
    _began_s: dict[str, float] = field(default_factory=dict)  # of those in `held`, monotonic
    _promises: Promises = field(default_factory=Promises)
    _refused: float = 0.0  # bytes of a model of ours for which today's were too few
    _saved: str = ""

    # --- what it is told --------------------------------------------------------------------------

    def read(self, readings: Readings, now: Moment) -> None:
        """What the sensors say now."""
        self.readings = readings
        self.look(now)

    def sent(self, num_bytes: int) -> None:
        """So much has left this device, in one message or a part of one. A shell may call it beside a turn."""
        self.day.bytes_sent += num_bytes
        self._promises.sent(num_bytes)

    def trained(self, seconds: float, joules: float) -> None:
        """A step took so long, and so much: 0 where nobody knows."""
        self.day.training_s += max(0.0, seconds)
        self.day.joules += max(0.0, joules) if math.isfinite(joules) else 0.0

    def pause(self, task: str, label: str, for_s: float | None, now: Moment) -> None:
        """The owner pauses a task, or all with an empty one; `for_s` None: until it is resumed."""
        self.pauses.begin(task, label, for_s, now)
        self.look(now)

    def resume(self, task: str, now: Moment, *, keeps_single: bool = False) -> bool:
        """The owner ends a pause of a task; with an empty one, every pause, or that of all alone. Was there one?"""
        was_paused = self.pauses.end(task, keeps_single=keeps_single)
        self.look(now)
        return was_paused

    def look(self, now: Moment) -> None:
        """Which limits hold now."""
        self.pauses.look(now)
        if self.day.look(now, self.readings.utc_offset_s):
            self._refused = 0.0
        found = {each.limit: each for each in self._found(now)}
        before = {each.limit: each for each in self.held if not each.task}
        for limit, each in before.items():
            is_exact = limit in _CLOCKED or limit == OWNERS
            if limit not in found and not is_exact and now.monotonic_s - self._began_s[limit] < LEAST_HELD_S:
                found[limit] = Found(limit=limit, does=each.does, why=each.why)  # a little longer
        self._began_s = {limit: self._began_s.get(limit, now.monotonic_s) for limit in found}
        self.held = (
            *(
                Held(
                    limit=each.limit,
                    does=each.does,
                    why=each.why,
                    since_ms=each.since_ms or (before[each.limit].since_ms if each.limit in before else now.wall_ms),
                    until_ms=each.until_ms,
                )
                for each in sorted(found.values(), key=_urgency)
            ),
            *self._paused_tasks(),
        )

    def _found(self, now: Moment) -> list[Found]:
        limits, day, offset_s = self.limits, self.day, self.readings.utc_offset_s
        found = sensed(limits, self.readings, {each.limit for each in self.held})
        if (pause := self.pauses.held.get(ALL)) is not None:
            why = "its owner paused it"
            since_ms, until_ms = pause.since_ms, pause.until_ms
            found.append(Found(limit=OWNERS, does="pause", why=why, until_ms=until_ms, since_ms=since_ms))
        if until_ms := quiet_until_ms(limits.quiet_hours, now.wall_ms, offset_s):
            found.append(Found(limit="quiet_hours", does="pause", why="these are quiet hours", until_ms=until_ms))
        midnight_ms = day_ends_ms(now.wall_ms, offset_s)
        if limits.joules_per_day and day.joules >= limits.joules_per_day:
            why = f"training drew {day.joules / 1e3:,.1f} kJ today, of {limits.joules_per_day / 1e3:,g}"
            found.append(Found(limit="energy_kj_per_day", does="pause", why=why, until_ms=midnight_ms))
        if limits.upload_bytes_per_day and limits.upload_bytes_per_day - day.bytes_sent < max(1.0, self._refused):
            why = f"{day.bytes_sent / MIB:,.1f} MB were sent today, of {limits.upload_bytes_per_day / MIB:,g}"
            found.append(Found(limit="upload_mb_per_day", does="send", why=why, until_ms=midnight_ms))
        return found

    def _paused_tasks(self) -> list[Held]:
        return [
            Held(
                limit=OWNERS,
                does="pause",
                why=f"its owner paused {pause.label}",
                since_ms=pause.since_ms,
                until_ms=pause.until_ms,
                task=task,
            )
            for task, pause in self.pauses.held.items()
            if task != ALL
        ]

    # --- what it is asked -------------------------------------------------------------------------

    def budget(self, task: str = "") -> Budget:
        """What a task may do as things stand; with an empty one, what is true of all."""
        held = tuple(each for each in self.held if each.task in ("", task))
        slow = SLOW if any(each.does == "slow" for each in held) else 1.0
        return Budget(
            may_train=not any(each.does == "pause" for each in held),
            slow_factor=slow / self.limits.duty_cycle,
            interval_factor=slow,
            send_bytes_left=self.send_bytes_left,
            held=held,
        )

    @property
    def send_bytes_left(self) -> float:
        """What may still be sent today; inf: there is no limit."""
        most = self.limits.upload_bytes_per_day
        promised = self._promises.num_bytes  # first: what leaves meanwhile is counted twice, and not never
        return max(0.0, most - self.day.bytes_sent - promised) if most else math.inf

    def may_send(self, num_bytes: float, now: Moment) -> bool:
        """Whether a model of ours, of this size, may be sent. If so it is as good as sent."""
        if not self.limits.upload_bytes_per_day:
            return True
        self._look_at_promises(now)
        if num_bytes > self.send_bytes_left:
            if num_bytes > self.limits.upload_bytes_per_day - self.day.bytes_sent:
                self._refused = num_bytes
            return False
        if num_bytes >= self._refused:
            self._refused = 0.0
        self._promises.make(num_bytes, now.monotonic_s)
        return True

    def may_give(self, num_bytes: int, now: Moment, *, is_member: bool, at_once: int | None = None) -> bool:
        """Whether so much may be given to who asks, or carried for others (no members).

        If so, `at_once` of it is as good as sent; None: all. The rest is asked for anew when it is fetched.
        """
        most = self.limits.upload_bytes_per_day
        if not most:
            return True
        self._look_at_promises(now)
        left = self.send_bytes_left
        if not is_member:
            left = min(left, OTHERS_SHARE * most - self.day.bytes_given)
        if num_bytes > left:
            return False
        promised = num_bytes if at_once is None else at_once
        self._promises.make(promised, now.monotonic_s)
        self.day.bytes_given += 0 if is_member else promised
        return True

    def _look_at_promises(self, now: Moment) -> None:
        """Forget those that are over, and what was of another day."""
        self._promises.look(now.monotonic_s)
        if self.day.look(now, self.readings.utc_offset_s):
            self._refused = 0.0

    @property
    def is_spent(self) -> bool:
        """Whether today's bytes are spent: what is large and was promised before does not go on either."""
        most = self.limits.upload_bytes_per_day
        return 0 < most <= self.day.bytes_sent

    def not_measured(self) -> list[str]:
        """The owner's limits that nothing on this device can be held against, in words."""
        return [f"{limit}: {why}" for limit, why in not_measured(self.limits, self.readings)]

    def deadline_s(self, now: Moment) -> float:
        """When `look` may find something new by the clock alone, monotonic."""
        if not self.held and not self.limits.quiet_hours:
            return self.pauses.deadline_s()
        offset_s, wall_ms = self.readings.utc_offset_s, now.wall_ms
        changes_ms = [float(each.until_ms) for each in self.held if each.until_ms and each.limit in _CLOCKED]
        if self.limits.quiet_hours:
            changes_ms.append(next_quiet_ms(self.limits.quiet_hours, wall_ms, offset_s))
        next_s = now.monotonic_s + (min(changes_ms, default=math.inf) - wall_ms) / 1000
        return min(next_s, self.pauses.deadline_s())

    # --- across a restart -------------------------------------------------------------------------

    def to_save(self) -> str:
        """What is to be kept, as JSON; empty where that is kept as it is."""
        state = json.dumps({"day": self.day.to_save(), "pauses": self.pauses.to_save()})
        if state == self._saved:
            return ""
        self._saved = state
        return state

    def restore(self, saved: str | None, now: Moment, *, utc_offset_s: int | None = None) -> None:
        """Take what `to_save` gave in an earlier life. A text that is damaged is a fresh start.

        `utc_offset_s`: of local time; None: as in that life. By a wrong one this day would look like another.
        """
        try:
            state = json.loads(saved or "{}")
        except (ValueError, RecursionError):
            state = {}
        self.day = Day.restored(_table(state, "day"))
        offset_s = self.day.utc_offset_s if utc_offset_s is None else utc_offset_s
        self.readings = replace(self.readings, utc_offset_s=offset_s)
        self.pauses.restore(_table(state, "pauses"), now)
        self.look(now)


def _table(state: object, key: str) -> Mapping[str, Any]:
    table = state.get(key) if isinstance(state, dict) else None
    return table if isinstance(table, dict) else {}


_ORDER: Final = {"pause": 0, "slow": 1, "send": 2}


def _urgency(found: Found) -> tuple[int, bool]:
    """Pauses first, and the owner's before all others."""
    return _ORDER[found.does], found.limit != OWNERS
