"""Who is there, how far away, and with whom models are exchanged: what `grapevine peers` and `status` show of it."""

from __future__ import annotations

import math
from typing import Any, Final

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.peer import Peer
from grapevine_agent.core.overlay.scope import distance_km
from grapevine_agent.core.settings import Scope
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService

MAX_LISTED: Final = 500  # those who are there first, and of the others who were heard last


class PeerRequests:
    """Answers about peers, for one service."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def peers(self) -> dict[str, Any]:
        """Everybody who is known, at most `MAX_LISTED`, and how many there are."""
        core, now = self._service.core, clock.now()
        known = sorted(core.members.peers.values(), key=lambda each: (not each.is_counted, -each.last_heard_s))
        return {
            "peer": self._service.identity.peer_id,
            "num_peers": len(known),
            "asleep": core.sleep.is_asleep,  # this device itself: it is connected to nobody
            "scope": scope_of(core, now),
            "peers": [_peer(each, core, now) for each in known[:MAX_LISTED]],
        }


def scope_of(core: AgentCore, now: Moment) -> dict[str, Any]:
    """The owner's scope, and how many of those who can be counted on are in it, and out."""
    members = core.members
    alive = [peer for peer in members.peers if members.is_alive(peer, now.monotonic_s)]
    why = [reason for peer in alive if (reason := members.reach.why_out(peer))]
    return {
        "site": core.settings.site,
        "at_site": sum(members.peers[peer].announcement.site == core.settings.site for peer in alive),
        "limits": limits_in_words(core.settings.scope),  # "" where everybody is in
        "num_in": len(alive) - len(why),
        "num_out": len(why),
    }


def limits_in_words(scope: Scope) -> str:
    """What holds for those in a scope: `at lakeside, within 5 km, within 40 ms`; empty where everybody is in."""
    limits = [
        f"at {scope.site}" if scope.site else "",
        f"within {scope.within_km:g} km" if scope.within_km < math.inf else "",
        f"within {scope.within_ms:g} ms" if scope.within_ms < math.inf else "",
        f"at {' or '.join(sorted(scope.brokers))}" if scope.brokers else "",
    ]
    return ", ".join(each for each in limits if each)


def _peer(known: Peer, core: AgentCore, now: Moment) -> dict[str, Any]:
    said, here = known.announcement, core.settings.location
    km = None if here is None or said.location is None else distance_km(here, said.location)
    return {
        "peer": known.id,
        "name": said.name,
        "member": known.is_member,
        "alive": core.members.is_alive(known.id, now.monotonic_s) and not core.sleep.is_away,
        "asleep": known.id in core.members.sleepers,
        "site": said.site,
        "brokers": sorted(url for url in core.brokers.met_at(known.id) if url),  # that it is at itself, of ours
        "location": None if said.location is None else [said.location.latitude / 100, said.location.longitude / 100],
        "km": None if km is None else round(km, 1),
        "trip_ms": None if known.trip_s is None else round(known.trip_s * 1e3, 1),
        "out_of_scope": core.members.reach.why_out(known.id),  # "": in
    }
