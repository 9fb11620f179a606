"""Who is shown one by one where there are too many peers, and how the others are grouped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grapevine_agent.dashboard.records import PeerKnown

MOST_SHOWN: Final = 300
MOST_GROUPS: Final = 64
FADES: Final = 0.8  # what was done before, each time that is looked again
EVERY: Final = 8  # calls of `choose` between two looks: a page that changes all the time cannot be read
_ALWAYS: Final = ("server", "reviewer", "engineer")


class Selection:
    """Chooses the most active, and keeps whom it has chosen for a while."""

    def __init__(self) -> None:
        self.chosen: set[str] = set()
        self._num_calls = 0

    def choose(self, peers: Mapping[str, PeerKnown]) -> None:
        """Choose again, where it is time to."""
        self._num_calls += 1
        if len(peers) <= MOST_SHOWN:
            self.chosen = set(peers)
            return
        self.chosen.intersection_update(peers)
        if self._num_calls % EVERY and len(self.chosen) == MOST_SHOWN:
            return
        for peer in peers.values():
            peer.activity *= FADES
        ranked = sorted(
            peers.values(),
            key=lambda each: (
                each.role not in _ALWAYS,
                -(each.activity * 1.5 + 1.0 if each.id in self.chosen else each.activity),
                each.id,
            ),
        )
        self.chosen = {each.id for each in ranked[:MOST_SHOWN]}

    def shown_as(self, peers: Mapping[str, PeerKnown], peer_id: str) -> str:
        """The id under which a peer is drawn: its own, or its group's; empty: it is not known."""
        if peer_id in self.chosen:
            return peer_id
        known = peers.get(peer_id)
        return group_of(known) if known is not None else ""

    def shown(self, peers: Mapping[str, PeerKnown]) -> dict[str, Any]:
        """How many are shown one by one, of how many, and the groups of the others."""
        groups: dict[str, dict[str, Any]] = {}
        for peer in peers.values():
            if peer.id in self.chosen:
                continue
            key = group_of(peer)
            if key not in groups and len(groups) >= MOST_GROUPS:
                key = "group:others"
            broker = min(peer.brokers, default="")
            named = " · ".join(word for word in (broker, peer.site) if word) or "elsewhere"
            group = groups.setdefault(key, {"id": key, "name": named, "num": 0, "state": {}, "broker": broker})
            group["num"] += 1
            state = peer.shown_state
            group["state"][state] = group["state"].get(state, 0) + 1
        return {"peers": len(self.chosen), "of": len(peers), "groups": list(groups.values())}


def group_of(peer: PeerKnown) -> str:
    """The id of the group that a peer is in: where it is connected, and its site."""
    return f"group:{min(peer.brokers, default='')}/{peer.site}"
