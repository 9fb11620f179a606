"""The broker that this agent starts for others where all are silent, as `core/overlay/election.py` says.

It is the embedded one, open to the network: whoever is there may connect, and may do there what anybody may do at a
broker without users. That is why an owner has to ask for it. What is signed stays what it is; what is erased is given
back by those who hold it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from grapevine_agent.core.overlay.election import Election, Sight, rank_of
from grapevine_agent.net.discovery import Discovery
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_broker.embedded import EmbeddedBroker
from grapevine_broker.probe import answers_mqtt
from grapevine_proto.errors import BrokerError

logger = logging.getLogger(__name__)

PROBE_EVERY_S: Final = 3.0
_PROBE_S = 1.0
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - the owner asked for a broker that others reach


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Brokers of others, by how they count."""

    met: frozenset[BrokerUrl]  # they have us
    ordinary: tuple[BrokerUrl, ...]  # the owner's, and those that were found and are not elected
    elected: dict[str, BrokerUrl]  # by who hosts them


class Hosting:
    """See the module's docstring.

    Args:
        root: Topic root.
        peer: Our own id.
        after_s: How long every broker has to be silent.
        address: Where to listen; empty: everywhere.
        addresses: What to announce, when it is everywhere.
        discovery: Where to announce it.
    """

    def __init__(
        self,
        *,
        root: str,
        peer: str,
        after_s: float,
        address: str,
        addresses: Callable[[], frozenset[str]],
        discovery: Discovery,
    ) -> None:
        self.election = Election(root=root, peer=peer, after_s=after_s)
        self._root = root
        self._peer = peer
        self._address = address
        self._addresses = addresses
        self._discovery = discovery
        self._broker: EmbeddedBroker | None = None
        self._was_silent: set[BrokerUrl] = set()  # since we began
        self._answers: dict[BrokerUrl, bool] = {}
        self._probe_at_s = 0.0

    @property
    def url(self) -> BrokerUrl | None:
        """The broker of ours, for ourselves; None while there is none."""
        if self._broker is None:
            return None
        host = self._broker.host.replace(_EVERYWHERE, "127.0.0.1")
        return BrokerUrl(host=host, port=self._broker.port, version="3.1.1", is_found=True)

    async def look(self, seen: Seen) -> bool:
        """Do what is due. Whether there is a broker of ours now that was not, or the other way round."""
        now_s, before = clock.now().monotonic_s, self.url
        if self._broker is not None and self._broker.wait(0.0) is not None:
            self._broker = None
            self.election.failed("the broker that was hosted here ended by itself", now_s)
            logger.warning("%s", self.election.why)
            await self._discovery.withdraw()
        if self._broker is not None and now_s >= self._probe_at_s:
            await self._probe(seen)
            self._probe_at_s = clock.now().monotonic_s + PROBE_EVERY_S
        was, standing = self.election.standing, self.election.look(self._sight(seen), now_s)
        if was != standing:
            logger.info("broker of our own: %s, since %s", standing, self.election.why)
            if standing == "hosting":
                await self._begin()
            elif standing == "closing":
                await self._discovery.withdraw()  # whoever listens leaves for the others
            else:
                await self._end()
        return self.url != before

    async def close(self) -> None:
        """End it, with the service."""
        await self._discovery.withdraw()
        await self._end()

    def _sight(self, seen: Seen) -> Sight:
        ours = self.election.rank
        higher = [
            peer
            for peer, url in seen.elected.items()
            if rank_of(self._root, peer) > ours and (url in seen.met or self._answers.get(url))
        ]
        return Sight(
            is_met=bool(seen.met),
            is_back=any(
                each in seen.met or (each in self._was_silent and self._answers.get(each)) for each in seen.ordinary
            ),
            higher=max(higher, default=""),
            elected=frozenset(seen.elected),
        )

    async def _probe(self, seen: Seen) -> None:
        """Ask brokers that do not have us whether they are there."""
        urls = [each for each in (*seen.ordinary, *seen.elected.values()) if each not in seen.met]
        answers = await asyncio.gather(*map(_is_there, urls))
        self._answers = dict(zip(urls, answers, strict=True))
        self._was_silent.update(url for url, answer in self._answers.items() if not answer)

    async def _begin(self) -> None:
        self._was_silent.clear()
        self._answers.clear()
        self._probe_at_s = 0.0
        broker = None
        try:
            broker = EmbeddedBroker(host=self._address or _EVERYWHERE, is_open=True)
            await asyncio.to_thread(broker.start)
            await self._discovery.announce(
                f"grapevine-{self._peer}",
                addresses=(self._address,) if self._address else tuple(sorted(self._addresses())),
                port=broker.port,
                text={"root": self._root, "version": "3.1.1", "peer": self._peer, "rank": self.election.rank},
            )
        except BrokerError as error:
            self.election.failed(str(error), clock.now().monotonic_s)
            logger.warning("no broker is hosted here: %s", error)
            if broker is not None:
                await asyncio.to_thread(broker.stop)
        else:
            self._broker = broker
            logger.info("hosting a broker at %s", broker.url)

    async def _end(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            await asyncio.to_thread(broker.stop)


async def _is_there(url: BrokerUrl) -> bool:
    """Whether a broker answers; of one with TLS or a WebSocket, whether anybody does."""
    if url.scheme == "mqtt":
        return await asyncio.to_thread(answers_mqtt, url.host, url.port, _PROBE_S)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(url.host, url.port)
        writer.close()
        return True
    return False
