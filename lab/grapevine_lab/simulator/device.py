"""One simulated device: the core, and what the service would keep around it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.service.sealer import Sealer
from grapevine_lab.simulator.keys import Holder, Numbering, PeerKey
from grapevine_lab.simulator.network import Link
from grapevine_proto.codec import Received
from grapevine_proto.quotas import SenderQuota

LOG_LINES = 50  # that are kept of each device


@dataclass(frozen=True, kw_only=True)
class Power:
    """What a device draws in each state, in watts."""

    idle_w: float = 0.0
    training_w: float = 0.0
    radio_w: float = 0.0


@dataclass
class Disk:
    """What survives a device that is switched off."""

    records: dict[str, Received] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, fx.SavedModel] = field(default_factory=dict)
    consents: dict[str, bool] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class Device:
    """See the module's docstring. `index` is its place in the world; `seat`, in the trainer, -1 for none."""

    index: int
    key: PeerKey
    settings: CoreSettings
    link: Link
    seat: int = -1
    step_s: float = 0.01  # that an optimiser step takes here
    exponential: bool = False  # whether training takes an exponential time of that mean
    power: Power = Power()
    disk: Disk = field(default_factory=Disk)
    running: bool = False  # the process
    online: bool = False  # its connection
    rejected: Counter[str] = field(default_factory=Counter)  # reasons of what was dropped
    filters: dict[str, int] = field(default_factory=dict)  # subscribed to, with their QoS
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    training_s: float = 0.0
    on_s: float = 0.0  # time that it was switched on, until `on_since_s`
    on_since_s: float = 0.0
    ticket: int = 0  # of the training that is under way; 0: none
    tick_stamp: int = 0  # of the only tick in the clock's queue that counts
    tick_s: float = float("inf")
    draining: bool = False  # something waits for the link to be free
    connection: int = 0  # counts connections: what was on its way to an earlier one is lost
    away: bool = False  # no connection is to be had
    acks: deque[tuple[float, Waiting]] = field(default_factory=deque)  # on their way, and when they arrive
    ack_is_awaited: bool = False  # something waits for the first of them

    def __post_init__(self) -> None:
        self.numbering = Numbering()
        self.sealer = Sealer(Holder(self.key), self.numbering)
        self.outbox = Outbox()
        self.quotas = SenderQuota()
        self.core: AgentCore | None = None

    @property
    def peer(self) -> str:
        """Its peer id."""
        return self.key.peer_id

    def boot(self, rng: np.random.Generator) -> AgentCore:
        """Start the process: a new core, and an empty outbox."""
        self.core = AgentCore(settings=self.settings, rng=rng)
        self.outbox = Outbox()
        self.quotas = SenderQuota()
        self.filters = {}
        self.running = True
        return self.core

    def learner(self, task: str) -> Learning | None:
        """Its part in a task, while it has one."""
        return self.core.tasks.learning.get(task) if self.core is not None else None

    def joules(self, now_s: float) -> float:
        """Energy drawn so far: each state's draw times the time spent in it, training and radio above idle."""
        on_s = self.on_s + (now_s - self.on_since_s if self.running else 0.0)
        return (
            self.power.idle_w * on_s
            + max(0.0, self.power.training_w - self.power.idle_w) * self.training_s
            + max(0.0, self.power.radio_w - self.power.idle_w) * self.link.radio_s
        )
