"""`token-account`: sends that are saved while there is nothing to say, and spent on news.

Danner and Jelasity, "Token Account Algorithms: The Best of the Proactive and Reactive Worlds" (ICDCS 2018). At each
tick of its clock a member would send. With an account it either does, or puts a token by; and when an update was of
use (its merge has moved the model) it spends tokens and hands the news on at once:

    a tick                 sends with the probability P(a), else a ← a + 1              (proactive)
    an update was of use   min(a, R(a)) sends, a ← a − 1 for each                       (reactive)

    P(a) = 0 for a < A, 1 for a ≥ C, (a − A)/(C − A) between         R(a) = ⌊(A − 1 + a)/A⌋

P follows their randomized account, R is of their generalized one. News so spreads in hops that wait for
nobody's clock, and a crowd in which news dies out begins to send by itself. A tick makes one send or one token and a
token one send, so in any time there are at most C more sends than ticks: the line is held to its mean rate, and the
ticks' rate is that of `log-n`, or what the owner lends of the line where that is less. What a device may draw
(`limits.watts_…`) says what training costs and holds back no send, so there is nothing to save of it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

SAVES_FOR_NEWS: Final = "token-account"
RESERVE: Final = 10  # A: tokens up to which everything is saved for news
CAPACITY: Final = 20  # C: tokens that there are at most


def proactive(tokens: int, *, reserve: int = RESERVE, capacity: int = CAPACITY) -> float:
    """P(a): the probability that a tick sends."""
    return min(max((tokens - reserve) / (capacity - reserve), 0.0), 1.0)


def reactive(tokens: int, *, reserve: int = RESERVE) -> int:
    """min(a, R(a)): how many sends an update is worth that was of use."""
    return min(tokens, (reserve - 1 + tokens) // reserve)


@dataclass(kw_only=True)
class TokenAccount:
    """The account of one task. See the module's docstring."""

    tokens: int = 0

    def tick(self, rng: np.random.Generator) -> bool:
        """A send is due. Returns whether to make it; else a token was put by."""
        if rng.random() < proactive(self.tokens):
            return True
        self.put_by()
        return False

    def put_by(self) -> None:
        """A send that was due is not made."""
        self.tokens = min(self.tokens + 1, CAPACITY)

    def spend(self) -> None:
        """A send is made in response to news."""
        self.tokens -= 1
