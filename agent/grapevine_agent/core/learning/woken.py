"""A peer that slept is awake: it gets the newest model at once, from a few members, and nothing twice.

While it slept nothing was sent to it, and nothing has to be kept for it: what it has is known (`told`), and whatever
changed since is in the model as it is now. All members hear at the same moment that it is awake. If each of n sent its
model, a small device would get n of them; so each draws whether it is one of the few, with (3 + ln n)/n. That nobody
is, is then one case in 20 n, and gossip comes to it all the same.

What goes out at once counts as a send, as an answer does: later ticks of the clock pay for it (`answering`). Where more
wake up together than may be sent to ahead of the clock, the next ticks are for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from grapevine_agent.core.learning.answering import Answering

FEW: Final = 3.0
MOST_WAITING: Final = 64  # woken peers of one task: of more, gossip takes care


@dataclass(kw_only=True)
class Woken:
    """See the module's docstring, of one task."""

    _waiting: dict[str, None] = field(default_factory=dict)
    _ahead: Answering = field(default_factory=Answering)

    @property
    def may_send(self) -> bool:
        """Whether one more send is within what is sent anyway."""
        return self._ahead.may_answer

    def draws(self, num_members: int, rng: np.random.Generator) -> bool:
        """Whether we are one of the few, of so many members that may be."""
        return bool(rng.random() * num_members < FEW + math.log(max(1, num_members)))

    def add(self, peer: str) -> None:
        """It is to get our model."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting[peer] = None

    def take(self) -> str | None:
        """Who is next; None: nobody waits."""
        peer = next(iter(self._waiting), None)
        if peer is not None:
            del self._waiting[peer]
        return peer

    def sent_ahead(self) -> None:
        """One was sent to before a tick of the clock allowed it."""
        self._ahead.answered()

    def takes_tick(self) -> bool:
        """A send is due. Returns whether it was made before."""
        return self._ahead.takes_tick()
