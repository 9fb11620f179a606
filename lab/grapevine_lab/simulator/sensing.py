"""Who has a governor, and which of its processes reads its sensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.core.governor.readings import Readings
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.events import Sense
from grapevine_lab.simulator.surroundings import Surroundings, SurroundingsPlan, is_governed


@dataclass
class Sensing:
    """See the module's docstring."""

    plan: SurroundingsPlan
    nodes: dict[int, Surroundings] = field(default_factory=dict)
    _boots: dict[int, int] = field(default_factory=dict)

    def takes(self, device: Device) -> bool:
        """Whether a device has a governor. A server has none."""
        return device.settings.role == "member" and is_governed(self.plan, device.index)

    def booted(self, device: Device) -> Sense:
        """A process begins; its first look is due at once, and the event of every later one."""
        self.nodes.setdefault(device.index, Surroundings.begin(self.plan))
        boot = self._boots[device.index] = self._boots.get(device.index, 0) + 1
        return Sense(device.index, boot)

    def is_of_now(self, event: Sense) -> bool:
        """Whether it is of the process that runs."""
        return self._boots.get(event.node) == event.boot

    def look(self, device: Device, now_s: float) -> Readings:
        """What a device's sensors say now."""
        return self.nodes[device.index].look(device, now_s)

    def held_s(self) -> dict[str, float]:
        """For how long each limit held, in virtual seconds: the mean over the nodes that have a governor."""
        limits = sorted({limit for each in self.nodes.values() for limit in each.held_s})
        num = max(1, len(self.nodes))
        return {limit: sum(each.held_s.get(limit, 0.0) for each in self.nodes.values()) / num for limit in limits}
