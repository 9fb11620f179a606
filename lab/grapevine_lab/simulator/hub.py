"""A broker in its place: MQTT in memory, whether it runs, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from grapevine_lab.simulator.broker import MemoryBroker
from grapevine_lab.simulator.brokers import BrokerPlan

MAX_QUEUED_MESSAGES: Final = 10_000  # for one client, as in the Mosquitto that we start


def _new_broker() -> MemoryBroker:
    return MemoryBroker(max_queued_messages=MAX_QUEUED_MESSAGES)


@dataclass(kw_only=True, eq=False)
class Hub:
    """See the module's docstring. `number` is its place among the scenario's brokers."""

    number: int
    plan: BrokerPlan
    broker: MemoryBroker = field(default_factory=_new_broker)
    is_up: bool = True

    def crash(self, *, empties: bool) -> None:
        """It is killed. What it retained is gone or not."""
        self.is_up = False
        if empties:
            self.broker = _new_broker()
        else:
            self.broker.crash()
