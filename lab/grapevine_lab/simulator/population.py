"""The devices of a world, by number and by peer."""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.core.learning.learning import Learning
from grapevine_lab.simulator.device import Device


@dataclass
class Population:
    """See the module's docstring."""

    devices: list[Device] = field(default_factory=list)
    _by_peer: dict[str, int] = field(default_factory=dict)

    def add(self, device: Device) -> None:
        """Take a device in, as the next one."""
        assert device.index == len(self.devices)
        self.devices.append(device)
        self._by_peer[device.peer] = device.index

    def index_of(self, peer: str) -> int:
        """A peer's number, -1 for one that is no device of this world."""
        return self._by_peer.get(peer, -1)

    def version_of(self, peer: str, task: str) -> int:
        """A peer's own updates so far; 0 if it takes no part."""
        index = self.index_of(peer)
        learner = self.devices[index].learner(task) if index >= 0 else None
        return learner.model.version if learner is not None else 0

    def learners(self, task: str) -> list[tuple[Device, Learning]]:
        """Everybody who takes part in a task now."""
        found = ((device, device.learner(task)) for device in self.devices)
        return [(device, learner) for device, learner in found if learner is not None]
