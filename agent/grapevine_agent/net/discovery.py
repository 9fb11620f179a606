"""Brokers that say on the local network that they are there: DNS-SD over mDNS (RFC 6763, 6762), through `zeroconf`.

    browse    whoever announces `_mqtt._tcp.local.`, with what its TXT record says
    announce  a broker of our own, until it is withdrawn

The TXT keys that mean something here:

    root     the topic root of the Grapevine that this broker is for
    version  what it speaks, "5" or "3.1.1"; without it that is found out
    peer     of an elected broker: which peer hosts it (`core/overlay/election.py`)
    rank     and where it stands among others of its kind

Anybody on the network can say any of it. So nothing here is believed further than that it may be worth a try: who
connects sends no secrets, and what comes from there is signed or dropped. IPv4 only, as brokers in houses are.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grapevine_agent.net.urls import BrokerUrl, Version
from grapevine_proto import distribution
from grapevine_proto.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

logger = logging.getLogger(__name__)

SERVICE: Final = "_mqtt._tcp.local."
MOST_ANNOUNCED: Final = 64  # that are remembered; a network has a handful
ASK_MS: Final = 3_000
_MOST_TEXT = 128  # characters of a value


@dataclass(frozen=True, kw_only=True)
class AnnouncedBroker:
    """One that was announced. All of it is a stranger's word."""

    name: str  # of the service; nothing else has it
    addresses: tuple[str, ...]  # IPv4
    port: int
    host: str = ""  # `hub.local`
    root: str = ""
    version: Version = "auto"
    peer: str = ""
    rank: str = ""

    def url(self, address: str) -> BrokerUrl:
        """Where it is found."""
        return BrokerUrl(host=address, port=self.port, version=self.version, is_found=True)


def check_installed() -> None:
    """Raise `ConfigError`, with what to install, where brokers cannot be looked for."""
    if importlib.util.find_spec("zeroconf") is None:
        msg = f"mqtt.discover needs zeroconf, which is not installed here: {distribution.to_add_extra('discovery')}"
        raise ConfigError(msg)


class Discovery:
    """See the module's docstring. Everything happens in the event loop.

    Args:
        address: Ours, on the network that is listened to; empty: on all of them.
        changed: Called when something was announced or withdrawn.
    """

    def __init__(self, *, address: str, changed: Callable[[], None]) -> None:
        self._address = address
        self._changed = changed
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._own: AsyncServiceInfo | None = None
        self._announced: dict[str, AnnouncedBroker] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    @property
    def announced(self) -> tuple[AnnouncedBroker, ...]:
        """Those that are announced now, in the order in which they were heard of."""
        return tuple(self._announced.values())

    async def open(self) -> None:
        """Begin to listen. Raises `BrokerError` where the network does not allow it."""
        from zeroconf import InterfaceChoice, IPVersion  # noqa: PLC0415 - an extra
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf  # noqa: PLC0415

        interfaces = [self._address] if self._address else InterfaceChoice.All
        try:
            self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._heard])
        except (OSError, RuntimeError) as error:
            await self.close()
            where = f" on {self._address}" if self._address else ""
            raise BrokerError(f"brokers cannot be looked for by mDNS{where}: {error}") from error

    async def close(self) -> None:
        """Withdraw what is announced, and listen no more."""
        await self.withdraw()
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._zeroconf is not None:
            await self._zeroconf.async_close()
        self._browser = self._zeroconf = None
        self._announced.clear()

    async def announce(self, name: str, *, addresses: tuple[str, ...], port: int, text: Mapping[str, str]) -> None:
        """Say that a broker of ours is there. `name` is one level of a DNS name; `text` is its TXT record.

        Raises:
            BrokerError: That cannot be said.
        """
        from zeroconf import Error  # noqa: PLC0415 - an extra
        from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

        if self._zeroconf is None:
            raise BrokerError("mDNS is not open")
        await self.withdraw()
        info = AsyncServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=port,
            properties=dict(text),
            server=f"{name}.local.",
            parsed_addresses=list(addresses),
        )
        try:
            # The name holds a peer id: nobody else has it, and there is nothing to ask for first.
            await (await self._zeroconf.async_register_service(info, cooperating_responders=True))
        except (OSError, Error) as error:
            raise BrokerError(f"the broker cannot be announced by mDNS: {error}") from error
        self._own = info

    async def withdraw(self) -> None:
        """Say that it goes."""
        own, self._own = self._own, None
        if own is not None and self._zeroconf is not None:
            with contextlib.suppress(OSError):  # nobody can be told: it runs out
                await (await self._zeroconf.async_unregister_service(own))

    def _heard(
        self,
        zeroconf: Zeroconf,
        service_type: str,  # noqa: ARG002 - there is one
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if (asking := self._asking.pop(name, None)) is not None:
            asking.cancel()
        if state_change.name == "Removed":
            if self._announced.pop(name, None) is not None:
                self._changed()
        elif name in self._announced or len(self._announced) + len(self._asking) < MOST_ANNOUNCED:
            self._asking[name] = asyncio.create_task(self._ask(zeroconf, name), name="mdns")

    async def _ask(self, zeroconf: Zeroconf, name: str) -> None:
        """Where it is, and what it says of itself."""
        from zeroconf import Error, IPVersion  # noqa: PLC0415 - an extra
        from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

        try:
            info = AsyncServiceInfo(SERVICE, name)
            if not await info.async_request(zeroconf, ASK_MS):
                return
            addresses = tuple(info.parsed_addresses(IPVersion.V4Only))
            found = read_service(name, addresses, info.port, info.server or "", info.properties)
        except (Error, OSError, ValueError) as error:
            logger.debug("an mDNS service is not understood: %a", str(error))
            return
        finally:
            if self._asking.get(name) is asyncio.current_task():
                del self._asking[name]
        if found is not None and self._announced.get(name) != found:
            self._announced[name] = found
            self._changed()


def read_service(
    name: str, addresses: tuple[str, ...], port: int | None, server: str, text: Mapping[bytes, bytes | None]
) -> AnnouncedBroker | None:
    """What a service says, as far as it can be meant; None if nobody could connect to it."""
    usable = tuple(dict.fromkeys(each for each in addresses if _is_usable(each)))[:8]
    if not usable or port is None or not 0 < port < 65_536:
        return None
    versions: dict[str, Version] = {"5": "5", "3.1.1": "3.1.1"}
    return AnnouncedBroker(
        name=name,
        addresses=usable,
        port=port,
        host=server.rstrip(".").lower()[:_MOST_TEXT],
        root=_value(text, b"root"),
        version=versions.get(_value(text, b"version"), "auto"),
        peer=_value(text, b"peer"),
        rank=_value(text, b"rank"),
    )


def _is_usable(address: str) -> bool:
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return not (parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved)


def _value(text: Mapping[bytes, bytes | None], key: bytes) -> str:
    """A value of a TXT record; empty where it is absent, long or no text."""
    value = text.get(key) or b""
    return value.decode("ascii", "replace") if len(value) <= _MOST_TEXT and value.isascii() else ""
