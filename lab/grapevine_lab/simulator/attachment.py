"""One connection of a simulated device to a broker, and all that is of it alone: compare `service/attachment.py`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.net.packet_limit import PacketLimit
from grapevine_lab.simulator.packets import OWN_PACKET_BYTES


def _own_limit() -> PacketLimit:
    return PacketLimit(own_bytes=OWN_PACKET_BYTES)


@dataclass(kw_only=True, eq=False)
class Attachment:
    """See the module's docstring. `number` is the core's for it, from 0; `broker`, the world's number of its broker."""

    number: int = 0
    broker: int = 0
    online: bool = False
    connection: int = 0  # counts connections: what was on its way to an earlier one is lost
    session: int = 0  # that the connection belongs to
    said: int = 0  # the connection's number within the session, as our state says it
    wanted: dict[str, int] = field(default_factory=dict)  # filters of its own, with their QoS
    carried: dict[str, int] = field(default_factory=dict)  # and those of whom a gateway makes known
    outbox: Outbox = field(default_factory=Outbox)
    draining: bool = False  # something waits for the link to be free
    acks: deque[tuple[float, Waiting]] = field(default_factory=deque)  # on their way, and when they arrive
    ack_is_awaited: bool = False  # something waits for the first of them
    last_arrival_s: float = 0.0
    announced_bytes: int = OWN_PACKET_BYTES  # what its broker says that it takes
    limit: PacketLimit = field(default_factory=_own_limit)  # what is learnt of one that does not say it

    def boot(self) -> None:
        """A new process knows of no subscription, and has nothing to send."""
        self.outbox = Outbox()
        self.wanted, self.carried = {}, {}
        self.limit = _own_limit()

    def max_packet_bytes(self, now_s: float) -> int:
        """The largest packet that is sent now."""
        return min(self.announced_bytes, self.limit.bytes(now_s))

    @property
    def filters(self) -> dict[str, int]:
        """Everything that it listens to."""
        return {**self.wanted, **{name: qos for name, qos in self.carried.items() if name not in self.wanted}}
