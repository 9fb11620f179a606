"""Asking for the initial weights of a task that was joined: whom, and when.

A task is approved everywhere at the same moment, and so everybody wants its weights at once, while only its
publisher has them. So who joins waits a moment, the longer the more peers are there (`FOR_EACH_PEER_S`), and then
asks somebody at random among those who say that they have them: whoever got them gives them on. It asks again, and
somebody else, when an answer could have come; the same one after pauses that double, since each answers the
same peer seldom (`overlay.answers`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.overlay.answers import ANSWER_BYTES_PER_S
from grapevine_proto.bulk import APART_BYTES
from grapevine_proto.manifest import WeightsRef

ASK_EVERY_S = 3.0  # and as long as the weights take at the rate at which answers are given
FOR_EACH_PEER_S = 0.02  # of the time within which a crowd begins to ask
BEGIN_WITHIN_S = 10.0  # at the most
FIRST_PAUSE_S = 6.0  # before the same one is asked again
LONGEST_PAUSE_S = 48.0
WAIT_S = 60.0  # a blob that comes later was not asked for
IN_VAIN_S = 300.0  # after which what the task holds of the device is lent to others
JITTER = (0.75, 1.25)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody who was asked: until when an answer is expected, when to ask again, and how long the pause was."""

    until_s: float
    again_s: float
    pause_s: float


@dataclass(kw_only=True)
class WeightsWanted:
    """See the module's docstring. Times are monotonic seconds."""

    weights: WeightsRef
    rng: np.random.Generator
    ask_at_s: float = math.inf  # not before it is known that the disk does not have them
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _began_s: float = math.inf

    def begin(self, num_peers: int, now_s: float) -> None:
        """The disk does not have them; so many peers may want them too."""
        self._began_s = now_s
        within_s = min(BEGIN_WITHIN_S, FOR_EACH_PEER_S * num_peers)
        self.ask_at_s = now_s + float(self.rng.uniform(0.0, within_s))

    def ask(self, holders: Iterable[str], now_s: float) -> str | None:
        """Whom to ask now, of those who may have them; None: nobody yet."""
        num_bytes = min(self.weights.num_bytes, APART_BYTES)  # of what is larger a notice comes first, and says so
        every_s = (ASK_EVERY_S + num_bytes / ANSWER_BYTES_PER_S) * float(self.rng.uniform(*JITTER))
        self.ask_at_s = now_s + every_s
        there = set(holders)
        self._asked = {p: a for p, a in self._asked.items() if p in there or a.until_s > now_s}
        free = sorted(peer for peer in there if peer not in self._asked or self._asked[peer].again_s <= now_s)
        if not free:
            return None
        holder = free[int(self.rng.integers(len(free)))]
        before = self._asked.get(holder)
        pause_s = FIRST_PAUSE_S if before is None else min(2 * before.pause_s, LONGEST_PAUSE_S)
        again_s = now_s + max(every_s, pause_s * float(self.rng.uniform(*JITTER)))
        self._asked[holder] = _Asked(now_s + WAIT_S, again_s, pause_s)
        return holder

    @property
    def has_asked(self) -> bool:
        """Whether somebody was asked already: what lies on disk was looked at before."""
        return bool(self._asked)

    def in_vain(self, now_s: float) -> bool:
        """Whether they were asked for so long in vain, and are not on their way now."""
        return now_s - self._began_s >= IN_VAIN_S and self.ask_at_s < math.inf

    def coming(self, sender: str) -> None:
        """They are on their way from a peer, and may take their time: nobody else is asked meanwhile."""
        self.ask_at_s = math.inf
        asked = self._asked[sender]
        self._asked[sender] = _Asked(math.inf, asked.again_s, asked.pause_s)

    def failed(self, sender: str, now_s: float) -> None:
        """What was on its way from a peer will not come: another one is asked."""
        self.ask_at_s = now_s
        if (asked := self._asked.get(sender)) is not None:
            self._asked[sender] = _Asked(now_s, asked.again_s, asked.pause_s)

    def expects(self, sender: str, now_s: float) -> bool:
        """Whether an answer of this peer's was asked for."""
        asked = self._asked.get(sender)
        return asked is not None and asked.until_s >= now_s
