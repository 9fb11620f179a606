"""How long something takes, learned from how long it has taken: a mean, a deviation, and from them a limit (RFC 6298).

    deviation ← deviation + 2g · (|mean − x| − deviation)
    mean      ← mean + g · (x − mean)
    limit     = mean + 4 · deviation

TCP has g = 1/8 (section 2): it learns from one line. What is learned here comes from many peers, so g is smaller where
one sample says less.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class LearnedTime:
    """See the module's docstring. All in one unit, whichever."""

    mean: float  # at first a guess
    deviation: float
    gain: float = 1 / 8

    def saw(self, took: float) -> None:
        """It took so long."""
        self.deviation += 2 * self.gain * (abs(self.mean - took) - self.deviation)
        self.mean += self.gain * (took - self.mean)

    @property
    def limit(self) -> float:
        """Only seldom does it take longer."""
        return self.mean + 4 * self.deviation
