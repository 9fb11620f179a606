"""Members that have said that they sleep, and until when: not counted on, not suspected, and not given up before.

    member ── "offline, until …" ──▶ asleep ── heard in a newer session ──▶ awake: it gets what it lacks
                                       │
                                       └── `GRACE_HEARTBEATS` after its time ──▶ overdue: a suspect, which is probed

A sleeper is offline, which keeps it out of everything that is for those who can be reached: the sample, n, gossip. It
is more than that in three things. What it has is remembered (`Peer.life`). Where room is made in the book it is kept,
while no more than half of the book sleeps. And when it is overdue it is asked once more before it is taken for gone:
perhaps only its word was lost. What it gets when it is awake, and from whom, is `learning/woken`'s.

Whoever says that it sleeps and goes on sending is heard as before, and sent nothing: of its session that was the last
word. Nobody is kept for longer than a day, and never more than the book has room for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

GRACE_HEARTBEATS = 10.0  # as much as a peer may be late that says so itself


@dataclass(kw_only=True)
class Sleepers:
    """See the module's docstring. Times are monotonic seconds."""

    heartbeat_s: float
    _until_s: dict[str, float] = field(default_factory=dict)
    _woken: dict[str, None] = field(default_factory=dict)
    _overdue_s: float = math.inf  # nobody is before

    def __contains__(self, peer: str) -> bool:
        return peer in self._until_s

    def __len__(self) -> int:
        return len(self._until_s)

    def fell_asleep(self, peer: str, until_s: float) -> None:
        """A member says that it sleeps until then."""
        self._woken.pop(peer, None)
        self._until_s[peer] = until_s
        self._overdue_s = min(self._overdue_s, self._ends_s(until_s))

    def woke(self, peer: str) -> bool:
        """A member is online. Whether it had slept until now."""
        if self._until_s.pop(peer, None) is None:
            return False
        self._woken[peer] = None
        return True

    def forget(self, peer: str) -> None:
        """It is gone."""
        self._until_s.pop(peer, None)
        self._woken.pop(peer, None)

    def take_woken(self) -> list[str]:
        """Who woke up since this was last asked."""
        found, self._woken = list(self._woken), {}
        return found

    def take_overdue(self, now_s: float) -> list[str]:
        """Who should be back, and is not. They are sleepers no more."""
        if now_s < self._overdue_s:
            return []
        found = [peer for peer, until_s in self._until_s.items() if self._ends_s(until_s) <= now_s]
        for peer in found:
            del self._until_s[peer]
        self._overdue_s = min(map(self._ends_s, self._until_s.values()), default=math.inf)
        return found

    def deadline_s(self) -> float:
        """When there is somebody to take."""
        return -math.inf if self._woken else self._overdue_s

    def _ends_s(self, until_s: float) -> float:
        return until_s + GRACE_HEARTBEATS * self.heartbeat_s
