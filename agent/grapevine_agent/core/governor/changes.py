"""What is said when what the governor allows has changed: one event each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.events import Paused, Resumed
from grapevine_agent.core.governor.budget import Held
from grapevine_agent.core.governor.times import clock_words

OWNERS: Final = "pause"  # the name of the limit that is the owner's word


@dataclass(kw_only=True)
class Changes:
    """Remembers what was said."""

    _told: dict[tuple[str, str], Held] = field(default_factory=dict)  # by limit and task

    def between(self, held: Iterable[Held], wall_ms: int, utc_offset_s: int) -> list[Paused | Resumed]:
        """What began and what ended since the last call."""
        now = {(each.limit, each.task): each for each in held}
        before, self._told = self._told, now
        told: list[Paused | Resumed] = [
            Paused(
                task=each.task,
                limit=each.limit,
                does=each.does,
                why=each.why,
                until_ms=each.until_ms,
                until=_until(each, wall_ms, utc_offset_s),
            )
            for key, each in now.items()
            if key not in before or (before[key].until_ms != each.until_ms and each.limit == OWNERS)
        ]
        for key, each in before.items():
            if key in now:
                continue
            others = [other for other in now.values() if other.does == each.does and other.task in ("", each.task)]
            why = "its owner's pause is over" if each.limit == OWNERS else f"{each.limit} holds no more"
            still = others[0].limit if others else ""
            told.append(Resumed(task=each.task, limit=each.limit, does=each.does, why=why, still=still))
        return told


def described(held: Held, wall_ms: int, utc_offset_s: int) -> str:
    """A limit that holds, in words: `it is 83 °C hot, 80 °C is the limit [pause_above_c]`."""
    until = _until(held, wall_ms, utc_offset_s)
    return f"{held.why}{f', until {until}' if until else ''} [{held.limit}]"


def _until(held: Held, wall_ms: int, utc_offset_s: int) -> str:
    return clock_words(held.until_ms, wall_ms, utc_offset_s) if held.until_ms else ""
