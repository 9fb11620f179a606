"""When to gossip, and with whom.

Sends are a Poisson process (Algorithm 1 of the scale-robust paper: exponential availability with
rate λ_i), targets are uniform over the live members that can be reached. By that paper's Theorem 1
staleness stays bounded as the number n of members grows if each one's rate grows as log n, which is
the default policy.

`every-round` is for the synchronous baselines, and for papers that work so: no clock runs, and what
a round has made is sent to every neighbour at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

EVERY_ROUND = "every-round"
SEND_RATE_POLICIES: dict[str, Callable[[int], float]] = {
    "constant": lambda _n: 1.0,
    "log-log-n": lambda n: max(1.0, math.log(max(1.0, math.log(max(1, n))))),
    "log-n": lambda n: max(1.0, math.log(max(1, n))),
    "linear": lambda n: float(max(1, n)),
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

    def pick(self, members: Sequence[str]) -> str | None:
        """A member, uniformly, or None where there is none."""
        return members[int(self.rng.integers(len(members)))] if members else None


def send_rate(*, policy: str, sends_per_round: float, round_interval_s: float, num_members: int) -> float:
    """Sends per second: r0·f(n) per round interval, `num_members` counting oneself."""
    return sends_per_round * SEND_RATE_POLICIES[policy](num_members) / round_interval_s
