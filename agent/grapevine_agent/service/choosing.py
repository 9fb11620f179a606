"""Which of the brokers that are announced are worth a connection. Pure: `discovering.py` has the network.

    its TXT record names our root, or the owner wrote discover = "any"
    the owner has not configured it: not the same host and port, and no host that the owner reaches by TLS
    it is one of the first four; who did not take us in for a minute gives way to others

Addresses are compared, not names: `hub.local` and 192.168.1.5 are one broker. Of several addresses of one service the
one on a network of ours is taken, since others may be those of a bridge on its machine, and of ours as well.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.overlay.election import rank_of
from grapevine_agent.net.discovery import AnnouncedBroker
from grapevine_agent.net.urls import BrokerUrl

MOST_FOUND: Final = 4
GIVES_WAY_AFTER_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What this device has of networks: its own addresses, and which networks these are on."""

    addresses: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network, ...] = ()

    def best_of(self, addresses: Sequence[str]) -> str:
        """The address by which to reach somebody who has these."""

        def order(address: str) -> int:
            if address in self.addresses:
                return 1  # it is on this device, or a bridge of its own that every device has
            return 0 if any(ipaddress.IPv4Address(address) in each for each in self.networks) else 2

        return min(addresses, key=order)


@dataclass(frozen=True, kw_only=True)
class Configured:
    """A broker of the owner's, and what its host's name means."""

    url: BrokerUrl
    addresses: frozenset[str]

    def is_at(self, announced: AnnouncedBroker, own: Collection[str]) -> bool:
        """Whether it is the one that was announced, or on its host and reached by TLS."""
        named = self.url.host.lower().rstrip(".") == announced.host
        met = any(each in self.addresses for each in announced.addresses)
        here = self._is_here and any(each in own or _is_loopback(each) for each in announced.addresses)
        return (named or met or here) and (self.url.has_tls or self.url.port == announced.port)

    @property
    def _is_here(self) -> bool:
        return any(_is_loopback(each) for each in self.addresses)


def is_elected(announced: AnnouncedBroker, root: str) -> bool:
    """Whether it is one of our own kind: its rank is that of the peer that it names."""
    return bool(announced.peer) and announced.root == root and announced.rank == rank_of(root, announced.peer)


@dataclass(kw_only=True)
class Choice:
    """See the module's docstring. Times are monotonic seconds."""

    root: str
    takes_any: bool = False
    _tried: dict[BrokerUrl, float] = field(default_factory=dict)  # → since when it does not take us in

    def of(
        self,
        announced: Iterable[AnnouncedBroker],
        configured: Sequence[Configured],
        around: Surroundings,
        *,
        met: Collection[BrokerUrl],
        now_s: float,
    ) -> dict[BrokerUrl, AnnouncedBroker]:
        """Those to connect to, in this order. `met`: the brokers that have us."""
        acceptable: dict[BrokerUrl, AnnouncedBroker] = {}
        for each in announced:
            is_ours = self.takes_any or each.root == self.root
            if is_ours and not any(one.is_at(each, around.addresses) for one in configured):
                acceptable.setdefault(each.url(around.best_of(each.addresses)), each)
        self._tried = {url: now_s if url in met else since for url, since in self._tried.items() if url in acceptable}

        def order(url: BrokerUrl) -> tuple[bool, bool]:
            has_had_its_turn = now_s - self._tried.get(url, now_s) >= GIVES_WAY_AFTER_S
            return has_had_its_turn, not is_elected(acceptable[url], self.root)

        chosen = sorted(acceptable, key=order)[:MOST_FOUND]
        for url in chosen:
            self._tried.setdefault(url, now_s)
        return {url: acceptable[url] for url in chosen}


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
