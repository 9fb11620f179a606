"""Finds out, at each connection, what the broker does with what it retains, and tells the core.

    connected ─▶ our own state is acknowledged ─▶ all filters of records have had their turn
      ─▶ something retained came for one with +  ─▶ it gives what it retains (nothing more is done)
      ─▶ nothing did: `peer/<us>/+`, for 2 s     ─▶ our state came with the retain flag: it gives
                                                 ─▶ it did not; does `peer/<us>/state`, for 2 s?

Most brokers pass without a packet more than they would have had: presence is subscribed to last, and brings our own
state back. Whatever retained comes later proves a broker better than it seemed. Where a filter brought nearly 1,000
messages, some queues are full, and some may be missing: that is told as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.net.events import Listening
from grapevine_agent.net.transport import Transport
from grapevine_proto import topics
from grapevine_proto.errors import BrokerError
from grapevine_proto.topics import PeerTopic

logger = logging.getLogger(__name__)

SURE_BELOW = 900  # messages for one filter: the smallest queue that is known holds 1,000
WAIT_S = 2.0  # for a retained message
TURNS_S = 5.0  # for the filters of records; where these bring much, that is proof enough
_LOOK_S = 0.05


class FindingOut:
    """See the module's docstring.

    Args:
        transport: Where to ask.
        root: Topic root.
        peer: Our own id.
        is_out: Whether the broker has acknowledged our record on a topic.
        tell: Called with what is known, at first and when more is.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        root: str,
        peer: str,
        is_out: Callable[[str], bool],
        tell: Callable[[BrokerAbilities], None],
    ) -> None:
        self._transport = transport
        self._state = topics.build(root, PeerTopic(peer, "state"))
        self._all_of_us = f"{root}/peer/{peer}/+"
        self._records = f"{root}/peer/"
        self._is_out = is_out
        self._tell = tell
        self._connection = 0
        self._begin()

    def _begin(self) -> None:
        self._told: BrokerAbilities | None = None
        self._came = asyncio.Event()  # something retained, through a filter with +
        self._exact = asyncio.Event()  # our state, while it is asked for without +
        self._asks_exactly = False
        self._turns_over = asyncio.Event()
        self._may_lack = False
        self._max_packet_bytes = 1_000_000
        self._shared = False

    @property
    def told(self) -> BrokerAbilities | None:
        """What is known of the broker; None: nothing yet."""
        return self._told

    def connected(self, max_packet_bytes: int, *, shared: bool = False) -> int:
        """A broker took us in, and said so much of itself; the number of the connection, for `run`."""
        self._begin()
        self._max_packet_bytes, self._shared = max_packet_bytes, shared
        self._connection += 1
        return self._connection

    def arrived(self, topic: str) -> None:
        """Something retained came."""
        if not topic.startswith(self._records):
            return  # of a sensor
        if self._asks_exactly and topic == self._state:
            self._exact.set()
            return
        self._came.set()
        if self._told is not None and not self._told.wildcard:
            self._say(replace(self._told, wildcard=True, exact=True))

    def shares_nothing(self) -> None:
        """It refuses a shared subscription."""
        self._shared = False
        if self._told is not None:
            self._say(replace(self._told, shared=False))

    def listening(self, event: Listening) -> None:
        """A filter of records has had its turn."""
        self._may_lack |= event.num_retained > SURE_BELOW
        if event.is_last:
            self._turns_over.set()
            if self._told is not None and self._may_lack and not self._told.may_lack:
                self._say(replace(self._told, may_lack=True))

    async def run(self, connection: int) -> None:
        """Find out. Ends without a word when the connection does."""
        with suppress(BrokerError):
            while not self._is_out(self._state):
                if self._is_over(connection):
                    return
                await asyncio.sleep(_LOOK_S)
            await _set_within(self._turns_over, TURNS_S)
            wildcard = self._came.is_set() or await self._brings(connection, self._all_of_us, self._came)
            if self._is_over(connection):
                return
            found = BrokerAbilities(
                wildcard=wildcard,
                may_lack=self._may_lack,
                max_packet_bytes=self._max_packet_bytes,
                shared=self._shared,
            )
            self._say(found)
            if not wildcard:
                self._asks_exactly = True
                exact = await self._brings(connection, self._state, self._exact)
                if not self._is_over(connection) and self._told == found:
                    self._say(replace(found, exact=exact))

    async def _brings(self, connection: int, topic_filter: str, came: asyncio.Event) -> bool:
        if self._is_over(connection):
            return False
        try:
            await self._transport.subscribe((topic_filter, 0))
            return await _set_within(came, WAIT_S)
        finally:
            with suppress(BrokerError):
                await self._transport.unsubscribe(topic_filter)
            self._asks_exactly = False

    def _is_over(self, connection: int) -> bool:
        return connection != self._connection or self._transport.connected_to is None

    def _say(self, found: BrokerAbilities) -> None:
        if found != self._told:
            self._told = found
            self._tell(found)


def why_not_all(found: BrokerAbilities | None) -> str:
    """What a broker cannot do, and what that means, in one line for its owner; empty if there is nothing to say."""
    if found is None:
        return ""
    if not found.wildcard and found.exact:
        return (
            "this broker gives no retained messages to wildcard subscriptions (RabbitMQ is known for it): "
            "records are asked of peers"
        )
    if not found.wildcard:
        return "this broker gives no retained messages to whoever subscribes: records are asked of peers"
    if found.may_lack:
        return (
            "this broker may not have given all the messages that it retains, there are so many: "
            "what is missing was asked of peers"
        )
    return ""


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
