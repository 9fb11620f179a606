"""`push-pull`: whoever sends a model is sent one back, within what would be sent anyway.

    A ── update ──▶ B      B merges it, and answers if A lacks B's model
    A ◀── answer ── B      A merges it; an answer is never answered

An answer counts as a send. It is *owed*: the next tick of the clock but one pays for it and sends nothing. Every other
tick at most pays, so half of a member's own sends go where it wants them to go, however many others pull at it; and
answers are given while at most `MOST_OWED` are owed. So in any time there are at most that many more sends than ticks.
Where everybody is alike it would be half of each; pushes come in bunches, more than are answered, and five members
gave answers with two of five sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PUSH_PULL: Final = "push-pull"
MOST_OWED: Final = 2


@dataclass(kw_only=True)
class Answering:
    """The answers of one task that are owed. See the module's docstring."""

    num_owed: int = 0
    _paid_last: bool = False

    @property
    def may_answer(self) -> bool:
        """Whether one more answer is within what is sent."""
        return self.num_owed < MOST_OWED

    def answered(self) -> None:
        """An answer was sent."""
        self.num_owed += 1

    def takes_tick(self) -> bool:
        """A send is due. Returns whether it was made before, as an answer."""
        self._paid_last = self.num_owed > 0 and not self._paid_last
        self.num_owed -= self._paid_last
        return self._paid_last
