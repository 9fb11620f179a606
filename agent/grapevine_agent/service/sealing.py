"""Signs what we say; what is large, beside the event loop when its turn to leave has come.

A message gets its number when it is sealed, in the loop: of two that leave in order, the second has the larger one.
"""

from __future__ import annotations

from grapevine_agent.core.effects import Publish
from grapevine_agent.service import clock
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.sealer import Sealer
from grapevine_proto.bodies import num_bytes
from grapevine_proto.parts import LARGE, Payload


class Sealing:
    """See the module's docstring."""

    def __init__(self, sealer: Sealer, beside: Beside) -> None:
        self._sealer = sealer
        self._beside = beside

    async def payload_of(self, publish: Publish) -> Payload:
        """The signed payload; in parts if it is large: its vectors must not be modified until it has left."""
        seal = self._sealer.numbered(publish, clock.now().wall_ms)
        if num_bytes(publish.body) < LARGE:
            return bytes(seal())
        return await self._beside.run(seal)
