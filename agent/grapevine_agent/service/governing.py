"""The governor's shell on a device: sensors in, what the owner said, and what is told of it.

    every `READ_EVERY_S`    sensors, beside the loop ─▶ a turn of the core, which pauses, slows down or goes on
    sent, trained           counted as it happens
    pause, resume           the owner's word: a turn of the core; kept on disk

Four readings a minute are 0.07 wake-ups a second. A board heats up within a minute, so more would find little more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.governor.budget import Budget, Held
from grapevine_agent.core.governor.changes import described
from grapevine_agent.core.governor.pauses import ALL
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.service import clock
from grapevine_agent.service.meter import Meter
from grapevine_agent.service.turns import Turns

logger = logging.getLogger(__name__)

READ_EVERY_S: Final = 15.0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How things stand. `limit` is the most urgent one that holds, by its key in `[governor]`, or "pause"; "": none.

    `since` and `until` are of that limit, in seconds since the epoch; None: none holds, or nobody knows until when.
    """

    paused: bool  # nothing trains
    slowed: bool
    limit: str
    why: str
    since: float | None
    until: float | None
    temperature_c: float | None
    battery_percent: float | None
    on_battery: bool | None
    bytes_today: int
    energy_j_today: float | None  # None: nobody knows what training draws
    training_s_today: float


class Governing:
    """See the module's docstring.

    Args:
        core: Whose governor it fills.
        turns: Whose turn it is there.
        read: Reads the sensors, given why models are not saved; called in a thread.
        why_unsaved: Why the disk takes no models, empty if it does.
        meter: What measures what the device draws; None: nothing does.
    """

    def __init__(
        self,
        *,
        core: AgentCore,
        turns: Turns,
        read: Callable[[str], Readings],
        why_unsaved: Callable[[], str],
        meter: Meter | None = None,
    ) -> None:
        self._core = core
        self._turns = turns
        self._read = read
        self._why_unsaved = why_unsaved
        self.meter = meter

    async def run(self) -> None:
        """Read the sensors, for ever. One look that fails leaves things as they were; the service goes on."""
        while True:
            try:
                await self.look()
            except Exception:
                logger.exception("the governor could not look")
            await asyncio.sleep(READ_EVERY_S)

    async def look(self) -> None:
        """Read the sensors once, and have the core do as they say."""
        readings = await asyncio.to_thread(self._look_around, self._why_unsaved())
        readings = replace(readings, knows_draw=self._knows_draw)
        await self._turns.take(
            lambda: self._core.governed(readings, clock.now()), num_bytes=self._core.tasks.largest_model_bytes
        )

    def _look_around(self, why_unsaved: str) -> Readings:
        """In a thread: what is measured, and what the sensors say."""
        if self.meter is not None:
            self.meter.look()
        return self._read(why_unsaved)

    @property
    def _knows_draw(self) -> bool:
        return self.meter is not None or bool(self._core.settings.limits.watts_training)

    def sent(self, num_bytes: int) -> None:
        """So many bytes were given to a broker."""
        self._core.governing.governor.sent(num_bytes)

    async def pause(self, for_s: float | None = None, task: str = ALL) -> Snapshot:
        """The owner pauses training, of one task or of all: for so many seconds, or until it is resumed."""
        await self._turns.take(
            lambda: self._core.pause(task, for_s, clock.now()), num_bytes=self._core.tasks.largest_model_bytes
        )
        return self.snapshot

    async def resume(self, task: str = ALL, *, keeps_single: bool = False) -> Snapshot:
        """The owner ends a pause, of one task or every one. Limits that hold go on to hold.

        With `keeps_single` only the pause of all ends, and tasks that were paused by themselves stay so.
        """
        await self._turns.take(
            lambda: self._core.resume(task, clock.now(), keeps_single=keeps_single),
            num_bytes=self._core.tasks.largest_model_bytes,
        )
        return self.snapshot

    @property
    def snapshot(self) -> Snapshot:
        """How things stand now."""
        governor = self._core.governing.governor
        budget, readings, day = governor.budget(), governor.readings, governor.day
        return Snapshot(
            paused=not budget.may_train,
            slowed=any(each.does == "slow" for each in budget.held),
            limit=budget.limit,
            why=budget.why,
            since=budget.since_ms / 1000 if budget.since_ms else None,
            until=budget.until_ms / 1000 if budget.until_ms else None,
            temperature_c=readings.temperature_c,
            battery_percent=readings.battery_percent,
            on_battery=readings.on_battery,
            bytes_today=day.bytes_sent,
            energy_j_today=day.joules if self._knows_draw else None,
            training_s_today=day.training_s,
        )

    # --- for `status` -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The snapshot as plain values, with all limits that hold and all that is measured."""
        governor, now, snapshot = self._core.governing.governor, clock.now(), self.snapshot
        readings, left = governor.readings, governor.send_bytes_left
        return {
            **vars(snapshot),
            "held": [self._told(each, now.wall_ms) for each in governor.held],
            "slow_factor": governor.budget().slow_factor,
            "send_bytes_left": None if left == float("inf") else left,
            "memory_pressure_percent": readings.memory_pressure_percent,
            "throttled": readings.throttled,
            "free_disk_mb": readings.free_disk_mb,
            "energy_by": self.energy_by,
            "not_measured": governor.not_measured(),
        }

    def of_task(self, task: str) -> dict[str, Any] | None:
        """What holds a task back, the most urgent first; None: nothing does."""
        governor, wall_ms = self._core.governing.governor, clock.now().wall_ms
        budget: Budget = governor.budget(task)
        holding = [each for each in budget.held if each.does != "send"]
        return self._told(holding[0], wall_ms) | {"paused": not budget.may_train} if holding else None

    @property
    def energy_by(self) -> str:
        """How energy is known: by which meter, or by the profile; empty: not at all."""
        if self.meter is not None:
            return f"metered by {self.meter.name}"
        limits = self._core.settings.limits
        return f"modelled by the profile {limits.profile}" if limits.watts_training else ""

    def _told(self, held: Held, wall_ms: int) -> dict[str, Any]:
        return {
            "limit": held.limit,
            "does": held.does,
            "task": held.task,
            "why": held.why,
            "since": held.since_ms / 1000,
            "until": held.until_ms / 1000 if held.until_ms else None,
            "told": described(held, wall_ms, self._core.governing.governor.readings.utc_offset_s),
        }
