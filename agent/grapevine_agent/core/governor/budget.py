"""What the core consults at each round and each send."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from grapevine_agent.core.events import Does

SLOW: Final = 4.0  # where training is slowed: a quarter of its time


@dataclass(frozen=True, kw_only=True)
class Held:
    """A limit that holds, since when, and until when where that is known (Unix milliseconds; 0: nobody knows)."""

    limit: str  # its key in [governor]; "pause": its owner's word
    does: Does
    why: str
    since_ms: int
    until_ms: int = 0
    task: str = ""  # the only one that it is of; empty: all


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one task may do at a moment. `held`: the limits that hold, the most urgent first."""

    may_train: bool = True
    slow_factor: float = 1.0  # a step, and the rest after it, take so much more time than the step
    interval_factor: float = 1.0  # between the beginnings of rounds that train there is so much more time
    send_bytes_left: float = math.inf  # today, of everything that leaves
    held: tuple[Held, ...] = ()

    @property
    def limit(self) -> str:
        """The most urgent limit; empty: none holds."""
        return self.held[0].limit if self.held else ""

    @property
    def why(self) -> str:
        """The most urgent one in words."""
        return self.held[0].why if self.held else ""

    @property
    def since_ms(self) -> int:
        """Since when it holds; 0: none does."""
        return self.held[0].since_ms if self.held else 0

    @property
    def until_ms(self) -> int:
        """Until when, where that is known; else 0."""
        return self.held[0].until_ms if self.held else 0
