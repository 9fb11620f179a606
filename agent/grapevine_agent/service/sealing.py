"""Signs what we say; what is large, beside the event loop when its turn to leave has come.

A message gets its number when it is sealed, in the loop: of two that leave in order, the second has the larger one.
"""

from __future__ import annotations

from collections.abc import Callable

from grapevine_agent.core.effects import Publish
from grapevine_agent.service import clock
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.sealer import Sealer
from grapevine_proto.bodies import num_bytes
from grapevine_proto.codec import SealedApart
from grapevine_proto.parts import LARGE, Payload
from grapevine_proto.topics import Topic


class Sealing:
    """See the module's docstring.

    Args:
        sealer: Numbers and signs.
        beside: Where what is large is signed.
        goes_apart: Whether large fields of so many bytes travel apart from their message.
        hold: Keeps them for who asks, and gives the message.
    """

    def __init__(
        self,
        sealer: Sealer,
        beside: Beside,
        *,
        goes_apart: Callable[[int, Topic], bool] = lambda _num_bytes, _topic: False,
        hold: Callable[[Publish, SealedApart], bytes] = lambda _publish, sealed: sealed.payload,
    ) -> None:
        self._sealer = sealer
        self._beside = beside
        self._goes_apart = goes_apart
        self._hold = hold

    async def payload_of(self, publish: Publish) -> Payload:
        """The signed payload; in parts if it is large: its vectors must not be modified until it has left."""
        size = num_bytes(publish.body)
        if self._goes_apart(size, publish.topic):
            seal_apart = self._sealer.numbered_apart(publish, clock.now().wall_ms)
            return self._hold(publish, await self._beside.run(seal_apart) if size >= LARGE else seal_apart())
        seal = self._sealer.numbered(publish, clock.now().wall_ms)
        if size < LARGE:
            return bytes(seal())
        return await self._beside.run(seal)
