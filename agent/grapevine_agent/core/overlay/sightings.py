"""Which members have come, are late, or are gone since somebody last looked: `PeerChanged` events.

Only members count, who are taken in at a bounded rate: what strangers say of themselves is no event. `members` says of
whom something has changed; what that comes to is looked at when it is asked for, so a peer that is suspected and
answers within a moment has not changed at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from grapevine_agent.core.events import PeerChanged, Sighting
from grapevine_agent.core.overlay.peer import Peer
from grapevine_agent.core.overlay.sleepers import Sleepers


@dataclass(kw_only=True)
class Sightings:
    """See the module's docstring."""

    changed: dict[str, None] = field(default_factory=dict)  # of whom something may be told
    _told: dict[str, tuple[Sighting, str]] = field(default_factory=dict)  # and the name that it had then
    _suspects: frozenset[str] = frozenset()

    def look(self, peers: Mapping[str, Peer], suspects: Collection[str], sleepers: Sleepers) -> list[PeerChanged]:
        """What has changed since the last look."""
        if suspects or self._suspects:
            now = frozenset(suspects)
            self.changed.update(dict.fromkeys(sorted(now ^ self._suspects)))
            self._suspects = now
        if not self.changed:
            return []
        changed, self.changed = self.changed, {}
        told = []
        for peer in changed:
            known = peers.get(peer)
            before = self._told.get(peer)
            if known is None or not known.is_member:
                if before is not None:
                    del self._told[peer]
                    told.append(PeerChanged(other=peer, name=before[1], state="gone"))
                continue
            state = _state_of(known, suspects, sleepers)
            name = known.announcement.name
            if before != (state, name):
                self._told[peer] = (state, name)
                told.append(PeerChanged(other=peer, name=name, state=state))
        return told


def _state_of(known: Peer, suspects: Collection[str], sleepers: Sleepers) -> Sighting:
    if known.id in sleepers:
        return "asleep"
    if not known.online:
        return "offline"
    if known.is_silent:
        return "silent"
    return "suspect" if known.id in suspects else "alive"
