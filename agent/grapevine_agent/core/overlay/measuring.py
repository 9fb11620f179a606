"""How long a message to each member and its answer take, where the owner's scope asks for it (`within_ms`).

Suspects are probed anyway (`suspicion`), and each answer is a round trip. Where nothing is lost nobody is suspected,
though, so members are probed for this alone: a few in a heartbeat interval, those first who were not asked for longest.
Nobody is suspected by it: the probe names no incarnation, and a missing answer says nothing.

What is kept of a peer is the shortest of its last few round trips: what the way takes, and not what its processor, or
ours, was busy with meanwhile. A peer can make itself seem farther, by waiting, and hardly nearer: an answer has to
name the number in our probe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.peer import KEPT_TRIPS

MOST_AT_A_TIME = 8  # probes in a heartbeat interval
AGAIN_HEARTBEATS = 12.0  # between two of them to the same peer, once it has answered a few times


@dataclass(kw_only=True)
class Measuring:
    """See the module's docstring. Times are monotonic seconds."""

    members: Members
    _next_s: float = -math.inf

    def due(self, now_s: float) -> list[str]:
        """Whom to probe now."""
        members = self.members
        if members.reach.scope.within_ms == math.inf or now_s < self._next_s:
            return []
        self._next_s = now_s + members.heartbeat_s
        again_s = now_s - AGAIN_HEARTBEATS * members.heartbeat_s
        wanted = [
            known
            for known in members.peers.values()
            if known.is_counted and known.incarnation and (len(known.trips_s) < KEPT_TRIPS or known.asked_s <= again_s)
        ]
        wanted.sort(key=lambda known: known.asked_s)
        asked = wanted[:MOST_AT_A_TIME]
        for known in asked:
            known.asked_s = now_s
        return [known.id for known in asked]
