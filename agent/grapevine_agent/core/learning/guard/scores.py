"""What is known of a sender from all its updates: how far it usually goes along with the crowd.

One update says little where everybody has a few classes only. Over many, an honest sender's models are before the
crowd's centre along its movement, since they are the newest and were just trained, and those of one who
unlearns, who holds others back or trains on wrong labels are not. So each sender has a *score*: the exponential mean of
the widths that its updates were before the centre, each between −4 and 4. A score far below the other senders'
counts against it: below `LOW` of their median, and `FEW` of their own deviations below it, so that where honest senders
differ much nobody is turned away for it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from grapevine_agent.core.learning.guard.crowd import AS_DEVIATION, MOST

FORGETS: Final = 0.08  # the weight of the newest update in a score
LEAST_UPDATES: Final = 4  # of a sender, before its score counts
LEAST_SENDERS: Final = 4  # with such a score, before they have a median
LARGEST: Final = 4.0  # widths that count for one update
LOW: Final = 0.4
FEW: Final = 2.5
LOOKS_EACH: Final = 8  # updates: a score changes slowly, and the middle of more than as many senders more slowly still
LEAST_DEVIATION: Final = 0.12  # widths: a score of updates that scatter by half a width or more says no more


@dataclass(frozen=True)
class _Score:
    mean: float = 0.0
    num: int = 0

    def after(self, widths: float) -> _Score:
        weight = max(FORGETS, 1 / (self.num + 1))
        return _Score(self.mean + weight * (widths - self.mean), self.num + 1)


@dataclass
class Scores:
    """See the module's docstring. The newest `MOST` senders are remembered."""

    _of: OrderedDict[str, _Score] = field(default_factory=OrderedDict)
    _usual: tuple[float, float] | None = None  # the middle of all scores and their deviation, as last looked at
    _num_noted: int = 0  # since then

    def note(self, sender: str, widths: float) -> bool:
        """An update was so many widths before the centre. Returns whether its sender is one that holds others back."""
        score = self._of.get(sender, _Score()).after(min(LARGEST, max(-LARGEST, widths)))
        self._of[sender] = score
        self._of.move_to_end(sender)
        if len(self._of) > MOST:
            self._of.popitem(last=False)
        self._num_noted += 1
        if score.num < LEAST_UPDATES:
            return False
        if self._usual is None or self._num_noted >= LOOKS_EACH or len(self._of) < LOOKS_EACH:
            self._look()
        if self._usual is None:
            return False
        middle, deviation = self._usual
        return score.mean < min(LOW * middle, middle - FEW * deviation)

    def _look(self) -> None:
        """At all senders' scores."""
        self._num_noted, self._usual = 0, None
        known = [each.mean for each in self._of.values() if each.num >= LEAST_UPDATES]
        if len(known) >= LEAST_SENDERS and (middle := median(known)) > 0:
            self._usual = middle, max(AS_DEVIATION * median([abs(each - middle) for each in known]), LEAST_DEVIATION)
