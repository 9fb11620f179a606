"""What becomes of a task whose work fails here: it is tried again, after pauses that grow from minutes to hours.

    at work ── three failures of a kind in a row ──▶ set back ── its pause is over, or the owner joins it ──▶ at work

A device works for years, and much of what fails does so for a while: a disk that is not mounted, a trainer that is
being updated, memory that another program has taken. So no failure is for ever, and none is tried without end at the
pace of its work. A pause is as long as the first one again once the work that had failed has been done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.events import failure_words

MAX_FAILURES: Final = 3  # in a row and of one kind before a task is set back
QUICK_PAUSE_S: Final = 5.0  # before the second try; the third waits twice as long
FIRST_PAUSE_S: Final = 120.0
LONGEST_PAUSE_S: Final = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a task cannot go on now. `kind`: what of its work failed."""

    kind: str
    why: str
    worked: bool = False  # since the task was joined, this kind of work was done at least once
    is_lasting: bool = False  # trying again gives the same, until the owner has changed something


@dataclass(kw_only=True)
class Trials:
    """How the work of one task went since it was joined, by kind."""

    failure: Failure | None = None  # once there were too many
    _failures: dict[str, int] = field(default_factory=dict)  # in a row
    _worked: set[str] = field(default_factory=set)

    def succeeded(self, kind: str) -> None:
        """One piece of work was done."""
        self._failures[kind] = 0
        self._worked.add(kind)

    def failed(self, kind: str, error: str) -> int:
        """One piece of work was not done. Returns how many were not, in a row."""
        self._failures[kind] = num = self._failures.get(kind, 0) + 1
        if num >= MAX_FAILURES:
            self.failure = Failure(kind=kind, why=failure_words(kind, error, num), worked=kind in self._worked)
        return num

    def is_last_chance(self, kind: str) -> bool:
        """Whether one more failure of this kind sets the task back."""
        return self._failures.get(kind, 0) == MAX_FAILURES - 1

    def pause_s(self, kind: str) -> float:
        """How long this kind of work is not to be asked for after its last failure."""
        return QUICK_PAUSE_S * self._failures.get(kind, 0)


@dataclass(frozen=True, kw_only=True)
class Setback:
    """A task that is not tried before `until_s` (monotonic); `num` so many times in a row it came to that."""

    kind: str
    why: str
    num: int
    until_s: float

    @classmethod
    def after(cls, before: Setback | None, failure: Failure, now_s: float) -> Setback:
        """What follows from a failure; `before` is the last time that it came to that."""
        goes_on = before is not None and before.kind == failure.kind and not failure.worked
        num = before.num + 1 if before is not None and goes_on else 1
        pause_s = math.inf if failure.is_lasting else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(num - 1, 30))
        return cls(kind=failure.kind, why=failure.why, num=num, until_s=now_s + pause_s)

    def is_over(self, now_s: float) -> bool:
        """Whether the task may be tried again."""
        return now_s >= self.until_s

    def reason(self, now_s: float) -> str:
        """Why the task is not joined now, and when it will be tried again, for its owner; empty if it may be."""
        if self.is_over(now_s):
            return ""
        if math.isinf(self.until_s):
            return f"{self.why}; grapevine join tries it again"
        return f"{self.why}; the next try is in {_in_words(self.until_s - now_s)} (at once: grapevine join)"


def _in_words(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    if minutes < 120:
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{seconds / 3600:.1f} hours"
