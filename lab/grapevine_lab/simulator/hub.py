"""A broker in its place: MQTT in memory, whether it runs, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from grapevine_lab.simulator.broker import MemoryBroker
from grapevine_lab.simulator.brokers import BrokerPlan
from grapevine_lab.simulator.packets import LARGEST_BYTES

MAX_QUEUED_MESSAGES: Final = 10_000  # for one client, as in the Mosquitto that we start


def _new_broker(plan: BrokerPlan) -> MemoryBroker:
    return MemoryBroker(
        max_queued_messages=MAX_QUEUED_MESSAGES, max_packet_bytes=plan.packet_limit_bytes or LARGEST_BYTES
    )


@dataclass(kw_only=True, eq=False)
class Hub:
    """See the module's docstring. `number` is its place among the scenario's brokers."""

    number: int
    plan: BrokerPlan
    broker: MemoryBroker = field(init=False)
    is_up: bool = True

    def __post_init__(self) -> None:
        self.broker = _new_broker(self.plan)

    def crash(self, *, empties: bool) -> None:
        """It is killed. What it retained is gone or not."""
        self.is_up = False
        if empties:
            self.broker = _new_broker(self.plan)
        else:
            self.broker.crash()
