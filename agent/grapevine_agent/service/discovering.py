"""Looks for brokers on the local network, where the owner asks for it, and hands over which to connect to.

    mDNS (`net/discovery.py`) ─▶ which are worth it (`choosing.py`) ─▶ the service connects to them
                             └─▶ all are silent (`hosting.py`) ─▶ one of our own

What was found and then withdrawn is left, unless nobody else has us: then its connection ends when it does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

from grapevine_agent.net.discovery import AnnouncedBroker, Discovery
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_agent.service.choosing import Choice, Configured, Surroundings, is_elected
from grapevine_agent.service.hosting import Hosting, Seen
from grapevine_proto.errors import BrokerError

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
LOOK_UP_EVERY_S: Final = 60.0  # networks, and what names mean
TRY_AGAIN_S: Final = 30.0
_LOOK_UP_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Search:
    """What the owner asks for."""

    root: str
    peer: str  # ourselves
    configured: tuple[BrokerUrl, ...]
    takes_any: bool = False
    address: str = ""  # of ours, on the network to look at; empty: all
    hosts: bool = False
    host_after_s: float = 30.0


class Discovering:
    """See the module's docstring. `run()` is its one task.

    Args:
        search: What the owner asks for.
        use: Called with the brokers that were found, whenever these are others.
        met: The brokers that have us.
    """

    def __init__(
        self,
        search: Search,
        *,
        use: Callable[[Sequence[BrokerUrl]], Awaitable[None]],
        met: Callable[[], frozenset[BrokerUrl]],
    ) -> None:
        self._search = search
        self._use = use
        self._met = met
        self._changed = asyncio.Event()
        self._discovery = Discovery(address=search.address, changed=self._changed.set)
        self._choice = Choice(root=search.root, takes_any=search.takes_any)
        self._configured: tuple[Configured, ...] = ()
        self._around = Surroundings()
        self._look_up_at_s = 0.0
        self._used: tuple[BrokerUrl, ...] = ()
        self.found: dict[BrokerUrl, AnnouncedBroker] = {}
        self.trouble = ""  # why nothing is found
        self.hosting: Hosting | None = None
        if search.hosts:
            self.hosting = Hosting(
                root=search.root,
                peer=search.peer,
                after_s=search.host_after_s,
                address=search.address,
                addresses=lambda: self._around.addresses,
                discovery=self._discovery,
            )

    async def run(self) -> None:
        """Look, for ever. What the network does not allow is tried again."""
        try:
            while not await self._is_open():
                await asyncio.sleep(TRY_AGAIN_S)
            while True:
                await self._look()
                await self._wait()
        except Exception as error:
            self.trouble = f"looking for brokers has failed, and ended: {error}"
            raise
        finally:
            if self.hosting is not None:
                await self.hosting.close()
            await self._discovery.close()

    def status(self) -> dict[str, Any]:
        """For the owner."""
        election = self.hosting.election if self.hosting is not None else None
        own = self.hosting.url if self.hosting is not None else None
        return {
            "trouble": self.trouble,
            "found": [str(url) for url in self._used],
            "hosting": str(own) if own is not None else "",
            "standing": election.standing if election is not None else "",
            "why": election.why if election is not None else "",
        }

    async def _is_open(self) -> bool:
        try:
            await self._discovery.open()
        except BrokerError as error:
            if str(error) != self.trouble:
                logger.warning("%s", error)
            self.trouble = str(error)
            return False
        self.trouble = ""
        return True

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _look(self) -> None:
        now_s = clock.now().monotonic_s
        if now_s >= self._look_up_at_s:
            self._look_up_at_s = now_s + LOOK_UP_EVERY_S
            self._around = _surroundings()
            self._configured = tuple([await _configured(each) for each in self._search.configured])
        others = [each for each in self._discovery.announced if each.peer != self._search.peer]
        met = self._met()
        self.found = self._choice.of(others, self._configured, self._around, met=met, now_s=now_s)
        if self.hosting is not None:
            await self._host(self.hosting, met)
        own = self.hosting.url if self.hosting is not None else None
        wanted = (*((own,) if own is not None else ()), *self.found)
        last = tuple(url for url in self._used if url not in wanted and met == {url})
        if (now_used := (*wanted, *last)) != self._used:
            for url in set(now_used) - {*self._used, own}:
                logger.info("a broker was found: %s", url)
            self._used = now_used
            await self._use(now_used)

    async def _host(self, hosting: Hosting, met: frozenset[BrokerUrl]) -> None:
        elected = {each.peer: url for url, each in self.found.items() if is_elected(each, self._search.root)}
        ordinary = (url for url in self.found if url not in elected.values())
        await hosting.look(
            Seen(
                met=frozenset(url for url in met if url != hosting.url),
                ordinary=(*self._search.configured, *ordinary),
                elected=elected,
            )
        )


def _surroundings() -> Surroundings:
    """This device's addresses and networks."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found = [
        each
        for name, addresses in psutil.net_if_addrs().items()
        for each in addresses
        if name in up and each.family == socket.AF_INET and not ipaddress.ip_address(each.address).is_loopback
    ]
    return Surroundings(
        addresses=frozenset(each.address for each in found),
        networks=tuple(
            ipaddress.IPv4Network(f"{each.address}/{each.netmask}", strict=False) for each in found if each.netmask
        ),
    )


async def _configured(url: BrokerUrl) -> Configured:
    """What the name of its host means now; its name alone where that is not known."""
    try:
        async with asyncio.timeout(_LOOK_UP_S):
            known = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return Configured(url=url, addresses=frozenset((url.host,)))
    return Configured(url=url, addresses=frozenset((url.host, *(str(each[4][0]) for each in known))))
