"""With whom models are exchanged, of all who are there: the owner's *scope*.

    site         peers that say that they are at ours
    within_km    peers that say where they are, no farther away as the crow flies
    within_ms    peers whose answers take no longer; who was not measured yet is in
    brokers      peers that are themselves at one of these, where we are too

All that is set must hold. Sites and places are what a peer says of itself, so a scope saves traffic and time, and keeps
nobody out. Who says nothing of them is out: an owner who draws a circle means those in it. A time is different, since
it is us who have not asked yet (`measuring`).

Places are compared as they are announced, to a hundredth of a degree, ours too: so two peers come to the same distance,
and either takes the other or neither does. It is at most 1.6 km wrong.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.peer import Peer
from grapevine_agent.core.settings import Scope
from grapevine_proto.location import Location

EARTH_KM = 6371.0088  # mean radius (IUGG)
EVERYWHERE = Scope()
MOST_PLACES = 8_192  # whose distances are remembered: `of_task` asks for them at every send


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """What is known of where a peer is."""

    site: str = ""
    location: Location | None = None  # None: it does not say
    trip_s: float | None = None  # a message to it and its answer; None: not measured
    brokers: Collection[str] = ()  # at which it is itself, of those that we are at


@lru_cache(maxsize=MOST_PLACES)
def distance_km(one: Location, other: Location) -> float:
    """The great-circle distance of two places, by the haversine formula, in kilometres."""
    north, south = math.radians(one.latitude / 100), math.radians(other.latitude / 100)
    east = math.radians((other.longitude - one.longitude) / 100)
    half_chord = math.sin((south - north) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin(east / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half_chord)))


def why_out(scope: Scope, here: Location | None, peer: Whereabouts) -> str:
    """Why a peer is out of scope, in words for the owner; empty if it is in. `here`: where we are."""
    if scope.site and peer.site != scope.site:
        return f"is at another site, {peer.site}" if peer.site else "says no site"
    if scope.brokers and scope.brokers.isdisjoint(peer.brokers):
        return "is at none of the brokers"
    if scope.within_km < math.inf:
        if here is None or peer.location is None:
            return "does not say where it is"
        if (away_km := distance_km(here, peer.location)) > scope.within_km:
            return f"is {away_km:.0f} km away"
    if peer.trip_s is not None and peer.trip_s * 1000 > scope.within_ms:
        return f"answers after {peer.trip_s * 1000:.0f} ms"
    return ""


@dataclass(kw_only=True)
class Reach:
    """Who of the peers is in scope. Whom the owner named, and servers, always are."""

    scope: Scope
    location: Location | None
    peers: Mapping[str, Peer]
    named: Collection[str]
    brokers: Brokers | None = None  # who say where a peer is itself

    @property
    def is_everywhere(self) -> bool:
        """Whether everybody is in scope."""
        return self.scope == EVERYWHERE

    def why_out(self, peer: str) -> str:
        """Why a peer is out of scope; empty if it is in."""
        if self.is_everywhere or peer in self.named:
            return ""
        known = self.peers.get(peer)
        if known is None:
            return "is not known"
        return why_out(self.scope, self.location, self.whereabouts(known))

    def holds(self, peer: str) -> bool:
        """Whether a peer is in scope."""
        return not self.why_out(peer)

    def whereabouts(self, known: Peer) -> Whereabouts:
        """What is known of where a peer is."""
        return Whereabouts(
            site=known.announcement.site,
            location=known.announcement.location,
            trip_s=known.trip_s,
            brokers=self.brokers.met_at(known.id) if self.brokers is not None else (),
        )
