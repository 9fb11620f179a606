"""What is said when what the governor allows has changed: one line each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.governor.budget import Held
from grapevine_agent.core.governor.times import clock_words

OWNERS: Final = "pause"  # the name of the limit that is the owner's word
_BEGINS: Final = {
    "pause": "training is paused",
    "slow": "training is slowed down to a quarter of its time",
    "send": "no more models are sent today",
}
_ENDS: Final = {
    "pause": "training goes on",
    "slow": "training goes on at its own pace",
    "send": "models are sent again",
}
_STILL: Final = {"pause": "training is still paused", "slow": "training is still slowed down", "send": ""}


@dataclass(kw_only=True)
class Changes:
    """Remembers what was said."""

    _told: dict[tuple[str, str], Held] = field(default_factory=dict)  # by limit and task

    def between(self, held: Iterable[Held], wall_ms: int, utc_offset_s: int) -> list[str]:
        """The lines for what began and what ended since the last call."""
        now = {(each.limit, each.task): each for each in held}
        before, self._told = self._told, now
        lines = [
            f"{_BEGINS[each.does]}: {described(each, wall_ms, utc_offset_s)}"
            for key, each in now.items()
            if key not in before or (before[key].until_ms != each.until_ms and each.limit == OWNERS)
        ]
        for key, each in before.items():
            if key in now:
                continue
            others = [other for other in now.values() if other.does == each.does and other.task in ("", each.task)]
            state = f"{_STILL[each.does]} ({others[0].limit})" if others else _ENDS[each.does]
            over = "its owner's pause is over" if each.limit == OWNERS else f"{each.limit} holds no more"
            lines.append(f"{state}: {over}")
        return lines


def described(held: Held, wall_ms: int, utc_offset_s: int) -> str:
    """A limit that holds, in words: `it is 83 °C hot, 80 °C is the limit [pause_above_c]`."""
    until = f", until {clock_words(held.until_ms, wall_ms, utc_offset_s)}" if held.until_ms else ""
    return f"{held.why}{until} [{held.limit}]"
