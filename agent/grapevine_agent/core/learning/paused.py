"""What becomes of a task while the governor does not let it train.

    training ── may not ──▶ paused: the step under way may end ── `GRACE_S` ──▶ released: it is thrown away, if it is
        ▲                      │                                                 still at work, and the trainer ends
        └────── may again ─────┴──────────────────────────────────────────────────────────┘

The model stays in memory and is saved when that is due, as always (`keeping`): limits that come and go write no more
than the owner lets them. Nothing is lost but that step. For want of memory the trainer ends at once: it is what takes
it. Merging, gossip and answers go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from grapevine_agent.core.governor.budget import Budget

GRACE_S: Final = 60.0
AT_ONCE: Final = frozenset(("memory_pressure_percent",))


@dataclass(kw_only=True)
class Paused:
    """Of one task. Times are monotonic."""

    since_s: float | None = None  # None: it may train
    is_released: bool = False
    release_s: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether it may not train."""
        return self.since_s is not None

    def look(self, budget: Budget, now_s: float) -> bool:
        """Whether the trainer is to end now."""
        if budget.may_train:
            self.since_s, self.is_released, self.release_s = None, False, math.inf
            return False
        if self.since_s is None:
            self.since_s = now_s
        if not self.is_released:
            is_urgent = any(each.limit in AT_ONCE for each in budget.held)
            self.release_s = self.since_s + (0.0 if is_urgent else GRACE_S)
            if now_s >= self.release_s:
                self.is_released, self.release_s = True, math.inf
                return True
        return False
