"""Which server of a group gets a member's newest update, and whether one that is there has it.

Servers of one group share the members among themselves. An update goes to one of them, by one of two ways:

    shared   to the group's topic, where the broker gives it to whichever server is next (MQTT 5, shared subscriptions)
    direct   to the inbox of one server: the first in an order that a hash of the two ids makes, the member's own
             (rendezvous hashing: who goes moves its own members only, and these to all the others alike)

A broker acknowledges what it will lose with a server that dies: Mosquitto drops its queue. So a server says itself that
it has taken an update, and what a member wants is a state, looked at again and again:

    my newest version is held by a server that can be reached, in the session in which it said so

While that is not so the update is offered: at first by the shared way where there is one, then directly to one server
after the other, after pauses that double. A server that dies, restarts or falls silent is no holder any more, and what
it had, merged or not, is offered to another. Nothing is kept for it but a few numbers: what is offered again is the
model as it is by then, under the version that it had. A server takes a version of a session once.

Offers by the shared way that nobody acknowledges, several times in a row, are a sign that the broker gives them to
somebody who is none of these servers, or to nobody: it is not used for a while then.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.bulk import APART_BYTES

PATIENCE_HEARTBEATS: Final = 3.0  # of a server, for its word; and what the update takes on a slow line
SLOW_BYTES_PER_S: Final = 100_000.0
LONGEST_S: Final = 60.0
MAX_MISSES: Final = 3  # in a row, by the shared way
AVOIDED_S: Final = 600.0  # the shared way, then


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An update is to go to one server of a group: to this one, or to whichever takes it at this broker."""

    group: str
    server: str = ""
    broker: int = 0


@dataclass(slots=True)
class _Offered:
    """What one group was offered last."""

    version: int = 0
    num: int = 0  # times
    num_direct: int = 0
    again_s: float = 0.0
    was_shared: bool = False  # the last time
    holder: str = ""
    session: int = 0  # of the holder
    misses: int = 0
    shared_from_s: float = 0.0


@dataclass(kw_only=True)
class Offers:
    """See the module's docstring. `update_bytes`: about, of one."""

    peer: str  # ourselves
    servers: Mapping[str, ServerLink]
    members: Members
    update_bytes: float
    _offered: dict[str, _Offered] = field(default_factory=dict)

    def due(self, version: int, now_s: float) -> list[Offer]:
        """What is to be offered now, to each group whose servers can be reached; it is taken to be."""
        if not version or not self.servers:
            return []
        offers = (self._next(group, live, version, now_s) for group, live in sorted(self._groups().items()))
        return [offer for offer in offers if offer is not None]

    def receipt(self, server: str, version: int, session: int) -> None:
        """A server says, in this session of it, that it has taken a version of ours."""
        link = self.servers.get(server)
        offered = self._offered.get(link.group) if link is not None else None
        if offered is None or offered.version != version:
            return
        offered.holder, offered.session = server, session
        if offered.was_shared:
            offered.misses = 0

    def deadline_s(self) -> float:
        """When something is to be offered again, monotonic."""
        if not self._offered:
            return math.inf
        live = self._groups()
        waiting = (each.again_s for group, each in self._offered.items() if group in live and not each.holder)
        return min(waiting, default=math.inf)

    def holder(self, group: str) -> str:
        """Who said that it has our newest version; empty: nobody yet."""
        return self._offered[group].holder if group in self._offered else ""

    def _groups(self) -> dict[str, list[str]]:
        """The servers of each group that can be reached."""
        groups: dict[str, list[str]] = {}
        for peer, link in self.servers.items():
            if link.group and link.state == "reachable" and self.members.session_of(peer):
                groups.setdefault(link.group, []).append(peer)
        return groups

    def _next(self, group: str, live: list[str], version: int, now_s: float) -> Offer | None:
        offered = self._offered.setdefault(group, _Offered())
        if offered.version != version:
            offered.version, offered.num, offered.num_direct, offered.holder = version, 0, 0, ""
        elif offered.holder:
            if offered.holder in live and self.members.session_of(offered.holder) == offered.session:
                return None
            offered.num, offered.num_direct, offered.holder = 0, 0, ""
        elif now_s < offered.again_s:
            return None
        elif offered.was_shared:
            offered.misses += 1
            if offered.misses >= MAX_MISSES:
                offered.misses, offered.shared_from_s = 0, now_s + AVOIDED_S
        is_first, offered.num = offered.num == 0, offered.num + 1
        offered.again_s = now_s + self._patience_s(live, offered.num)
        broker = self._shared_by(group, live) if is_first and now_s >= offered.shared_from_s else None
        offered.was_shared = broker is not None
        if broker is not None:
            return Offer(group=group, broker=broker)
        order = in_order(self.peer, live)
        offered.num_direct += 1
        return Offer(group=group, server=order[(offered.num_direct - 1) % len(order)])

    def _patience_s(self, live: Iterable[str], num: int) -> float:
        """How long a server may take to say that it has the update, the `num`th time that it is offered."""
        heartbeat_s = max(self.servers[peer].heartbeat_s for peer in live)
        first_s = PATIENCE_HEARTBEATS * heartbeat_s + self.update_bytes / SLOW_BYTES_PER_S
        return min(first_s * 2.0 ** min(num - 1, 16), max(first_s, LONGEST_S))

    def _shared_by(self, group: str, live: list[str]) -> int | None:
        """The broker at which all of a group's servers take updates from their topic; None: there is none."""
        brokers = self.members.reach.brokers
        if brokers is None or self.update_bytes > APART_BYTES:
            return None  # in chunks, which one receiver asks for
        for peer, link in self.servers.items():
            if link.group == group and peer not in live and brokers.meets(peer):
                return None  # a broker still gives it a part, and it may be frozen
        if not all(self.servers[peer].takes_shared for peer in live):
            return None
        return brokers.shared_by(live, self.update_bytes)


def in_order(member: str, servers: Iterable[str]) -> list[str]:
    """Servers in a member's own order, the same wherever and whenever it is made."""
    return sorted(servers, key=lambda server: (_score(member, server), server), reverse=True)


def _score(member: str, server: str) -> bytes:
    return hashlib.sha256(f"{member}/{server}".encode()).digest()
