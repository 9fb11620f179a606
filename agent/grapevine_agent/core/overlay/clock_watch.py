"""Notices that the wall clock was set: it and the monotonic clock no longer agree on how much time has passed.

Boards without a battery start years behind or ahead and are told the time minutes later. Then

- what we said with an end is said again, since its end was counted by the wrong clock (either way);
- where the clock had been ahead, records of others were taken for expired and dropped: brokers are asked for all
  that they retain again, by subscribing again. A record whose sequence is the newest that was seen counts then, by its
  own expiry (`records`).

A machine that slept looks the same, as its monotonic clock stood still, and is treated so: what it heard before is old.
"""

from __future__ import annotations

from dataclasses import dataclass

from grapevine_agent.core.effects import Effect, Subscribe
from grapevine_agent.core.events import ClockSet
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.filters import where_records_are
from grapevine_agent.core.overlay.presence import Presence
from grapevine_agent.core.settings import CoreSettings

STEP_MS = 60_000  # less may be a clock that is being slewed, and changes nothing that lasts for days


@dataclass
class ClockWatch:
    """See the module's docstring."""

    last: Moment
    was_set_back: bool = False  # before the last tick

    def tick(self, now: Moment, presence: Presence, settings: CoreSettings) -> list[Effect]:
        """What follows from a clock that was set since the last tick; nothing if it was not."""
        passed_ms = 1000 * (now.monotonic_s - self.last.monotonic_s)
        step_ms = now.wall_ms - self.last.wall_ms - int(passed_ms)
        self.last = now
        self.was_set_back = step_ms <= -STEP_MS
        if abs(step_ms) < STEP_MS:
            return []
        presence.clock_was_set(now.monotonic_s)
        said = ClockSet(step_s=step_ms / 1000)
        if step_ms > 0:
            return [said]
        return [said, *(Subscribe(filter=each, records=True) for each in where_records_are(settings))]
