"""Whose heartbeats are listened to: a sample of max(16, ⌈3 ln n⌉) members, everybody in turn.

Heartbeats of everybody would be n² deliveries. Drawn at random, some would be overlooked for long (as SWIM probes its
members in turn: Das et al., DSN 2002, section 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.effects import Effect, Subscribe, Unsubscribe
from grapevine_agent.core.overlay.peer import Peer
from grapevine_proto.topics import PeerTopic

SAMPLE_ALL_BELOW = 16  # in a small overlay everybody is in the sample


@dataclass(kw_only=True)
class Sample:
    """See the module's docstring. `since_s` says who is in it, and since when."""

    rng: np.random.Generator
    since_s: dict[str, float] = field(default_factory=dict)
    _heard_since_s: float = -math.inf  # nobody in it was silent for longer, when somebody last looked

    def draw(self, peers: Mapping[str, Peer], now_s: float, *, anew: bool, prefer_useful: bool) -> None:
        """Fill it, or draw it anew, among those who count. Useful peers, if they are preferred, have half of it."""
        online = sorted(peer.id for peer in peers.values() if peer.is_counted)
        held = set(self.since_s)
        if len(online) <= SAMPLE_ALL_BELOW:
            wanted = set(online)
        else:
            size = max(SAMPLE_ALL_BELOW, math.ceil(3 * math.log(len(online))))
            wanted = set() if anew else held & set(online)
            if prefer_useful:
                useful = [peer for peer in online if peer not in wanted and peers[peer].updated_s]
                wanted |= self._some_of(useful, (size - len(wanted)) // 2, peers)
            wanted |= self._some_of([peer for peer in online if peer not in wanted], size - len(wanted), peers)
        for peer in held - wanted:
            del self.since_s[peer]
            if peer in peers:
                peers[peer].sampled_until_s = now_s
        for peer in wanted - held:
            self.since_s[peer] = now_s

    def was_heard_since(self, limit_s: float, peers: Mapping[str, Peer]) -> bool:
        """Whether everybody in it was, or was not in it for so long."""
        if self._heard_since_s < limit_s:
            times = [max(peers[peer].last_heard_s, since_s) for peer, since_s in self.since_s.items() if peer in peers]
            self._heard_since_s = min(times, default=math.inf)
        return self._heard_since_s >= limit_s

    def _some_of(self, candidates: list[str], num: int, peers: Mapping[str, Peer]) -> set[str]:
        """Those that were not listened to for longest; at random among equals."""
        shuffled = [candidates[k] for k in self.rng.permutation(len(candidates))]
        shuffled.sort(key=lambda peer: math.inf if peer in self.since_s else peers[peer].sampled_until_s)
        return set(shuffled[: max(0, num)])


@dataclass(kw_only=True)
class ListenedTo:
    """Whose heartbeats are subscribed to."""

    peers: set[str] = field(default_factory=set)

    def change(self, wanted: set[str]) -> list[Effect]:
        """From now on these, and nobody else."""
        held, self.peers = self.peers, wanted
        if held == wanted:
            return []
        return [
            *(Unsubscribe(filter=PeerTopic(peer, "heartbeat").below_root()) for peer in sorted(held - wanted)),
            *(Subscribe(filter=PeerTopic(peer, "heartbeat").below_root(), qos=0) for peer in sorted(wanted - held)),
        ]
