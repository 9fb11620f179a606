"""When to gossip, and with whom.

Sends are a Poisson process (Algorithm 1 of the scale-robust paper: exponential availability with
rate λ_i), targets are uniform over the live members that can be reached. By that paper's Theorem 1
staleness stays bounded as the number n of members grows if each one's rate grows as log n, which is
the default policy.

A member is somebody who was heard, which is easy to be. So n counts members whose updates were of use, and
of the others at most `UNPROVED_PER_USEFUL` for each; and while the others are the more, half of the
sends go to those who were of use. Invented members then cost traffic, and take no update from real ones.

With `token-account` ticks come as with `log-n`, and each is a send or a token: see `tokens`.

`every-round` is for the synchronous baselines, and for papers that work so: no clock runs, and what
a round has made is sent to every neighbour at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from grapevine_agent.core.learning.tokens import SAVES_FOR_NEWS

USEFUL_SHARE = 0.5  # of the sends, at least, for members whose updates were of use
UNPROVED_PER_USEFUL = 4  # members that were only heard, counted for each one that was of use
UNPROVED_AT_LEAST = 64  # counted in any case: nobody has been of use yet where everybody starts
EVERY_ROUND = "every-round"
SEND_RATE_POLICIES: dict[str, Callable[[int], float]] = {
    "constant": lambda _n: 1.0,
    "log-log-n": lambda n: max(1.0, math.log(max(1.0, math.log(max(1, n))))),
    "log-n": lambda n: max(1.0, math.log(max(1, n))),
    "linear": lambda n: float(max(1, n)),
    SAVES_FOR_NEWS: lambda n: max(1.0, math.log(max(1, n))),
    EVERY_ROUND: lambda n: float(max(0, n - 1)),
}


def harmonic(n: int) -> float:
    """H_n = Σ_{k=1}^{n} 1/k, 0 for n ≤ 0."""
    return sum(1.0 / k for k in range(1, n + 1))


def staleness_bound(*, num_members: int, update_rate: float, send_rate: float) -> float:
    """Expected staleness at most (update_rate/send_rate)·H_{n−1} (scale-robust paper, Lemma 1).

    Both rates in 1/s. Infinite where nothing is sent.
    """
    if num_members < 2:
        return 0.0
    return update_rate / send_rate * harmonic(num_members - 1) if send_rate > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The members that gossip can reach, sorted, and those among them whose updates were of use lately."""

    everybody: Sequence[str]
    useful: Sequence[str]

    @property
    def num_unproved(self) -> int:
        """How many of the others count."""
        others = len(self.everybody) - len(self.useful)
        return min(others, max(UNPROVED_AT_LEAST, UNPROVED_PER_USEFUL * len(self.useful)))

    @property
    def is_flooded(self) -> bool:
        """Whether there are more of the others than count."""
        return len(self.everybody) - len(self.useful) > self.num_unproved

    @property
    def num_counted(self) -> int:
        """N − 1: how many members there are, for all that rates are made of."""
        return len(self.useful) + self.num_unproved

    @property
    def others(self) -> list[str]:
        """Those who have not sent anything of use lately."""
        useful = set(self.useful)
        return [peer for peer in self.everybody if peer not in useful]

    def counted(self, rng: np.random.Generator) -> Sequence[str]:
        """All that count: of the others, where they are too many, some at random."""
        others = self.others
        if len(others) <= self.num_unproved:
            return self.everybody
        chosen = rng.choice(len(others), self.num_unproved, replace=False)
        return sorted([*self.useful, *(others[i] for i in chosen)])


@dataclass
class SendClock:
    """The Poisson clock of one task's sends."""

    rng: np.random.Generator
    next_s: float = math.inf

    def arm(self, now_s: float, rate: float) -> None:
        """Draw the time of the next send; `rate` in sends per second."""
        self.next_s = now_s + float(self.rng.exponential(1.0 / rate)) if rate > 0 else math.inf

    def due(self, now_s: float) -> bool:
        """Whether the next send's time has come."""
        return now_s >= self.next_s

    def pick(
        self, targets: Targets, lacking: Callable[[Sequence[str]], Sequence[str]] = lambda peers: peers
    ) -> str | None:
        """A member that lacks the model, uniformly, or None.

        Where the useful ones are the fewer, half of the time one of these; where none of the half that was drawn lacks
        it, one of the other half. But what useful ones have no use for never goes to a crowd that is too large to be
        believed. `lacking`: those of some members who do not have the model, in their order.
        """
        halves: list[Sequence[str]] = [targets.everybody]
        if 0 < 2 * len(targets.useful) < len(targets.everybody):
            halves = [targets.useful, targets.others]
            if self.rng.random() >= USEFUL_SHARE:
                halves.reverse()
            elif targets.is_flooded:
                halves.pop()
        members = next(filter(None, map(lacking, halves)), ())
        return members[int(self.rng.integers(len(members)))] if members else None


def send_rate(*, policy: str, sends_per_round: float, round_interval_s: float, num_members: int) -> float:
    """Sends per second: r0·f(n) per round interval, `num_members` counting oneself."""
    return sends_per_round * SEND_RATE_POLICIES[policy](num_members) / round_interval_s
