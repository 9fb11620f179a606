"""One simulated device: the core, and what the service would keep around it."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.events import Event
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.service.numbering import OwnNumbers
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.transfers.carrier import Carrier
from grapevine_lab.simulator.attachment import Attachment
from grapevine_lab.simulator.clock import WallClock
from grapevine_lab.simulator.forwarding import Forwarding
from grapevine_lab.simulator.hostile import Hostile
from grapevine_lab.simulator.keys import Holder, Numbering, PeerKey, SoundDisk
from grapevine_lab.simulator.network import Link
from grapevine_lab.simulator.tally import Tally
from grapevine_proto.codec import Received
from grapevine_proto.quotas import SenderQuota
from grapevine_proto.topics import Topic

Saved: TypeAlias = (
    fx.SaveModel
    | fx.SaveBest
    | fx.SaveBlob
    | fx.SaveRecord
    | fx.ForgetRecord
    | fx.ForgetSequence
    | fx.SaveConsent
    | fx.SaveGovernor
)

TAKEN = "taken"  # an update was not refused
LOG_LINES = 50  # events that are kept of each device
SEQUENCE_BYTES = 150  # of one on disk, with the name of its topic


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
    bests: dict[str, fx.SavedModel] = field(default_factory=dict)
    governor: str = ""
    consents: dict[str, bool] = field(default_factory=dict)
    sequences: dict[Topic, int] = field(default_factory=dict)  # of records that ran out
    parts: dict[str, bytearray] = field(
        default_factory=dict
    )  # weights that are on their way, by the digest of the bulk

    def put(self, received: Received) -> None:
        """Keep a record, unless a newer one is held on its topic."""
        held = self.records.get(received.topic.below_root())
        if held is None or held.message.sequence <= received.message.sequence:
            self.records[received.topic.below_root()] = received

    def keep(self, effect: Saved, peer: str) -> None:
        """What a device's core has saved, or forgotten. `peer`: whose device it is."""
        match effect:
            case fx.SaveModel(task=task):
                self.models[task] = fx.SavedModel(vectors=effect.vectors, counters=effect.counters)
            case fx.SaveBest(task=task):
                self.bests[task] = fx.SavedModel(
                    vectors=effect.vectors, counters=effect.counters, figures=effect.figures
                )
            case fx.SaveBlob(digest=digest, content=content):
                self.blobs[digest] = content
            case fx.SaveRecord(received=received):
                self.put(received)
            case fx.ForgetRecord(received=received, remembered=remembered):
                self.records.pop(received.topic.below_root(), None)
                if remembered is not None and received.message.sender != peer:
                    self.sequences[received.topic] = remembered
            case fx.ForgetSequence(topic=forgotten):
                self.sequences.pop(forgotten, None)
            case fx.SaveConsent(task=task, joined=joined):
                self.consents[task] = joined
            case fx.SaveGovernor(state=state):
                self.governor = state

    def oldest_first(self) -> dict[Topic, int]:
        """The sequences, in the order in which a start is told of them."""
        return dict(sorted(self.sequences.items(), key=lambda each: each[1]))

    def model(self, task: str) -> fx.SavedModel | None:
        """What is saved of a task, with its best model beside the newest."""
        held = self.models.get(task)
        return replace(held, best=self.bests.get(task)) if held is not None else None

    @property
    def num_bytes(self) -> int:
        """What lies there, but for what a file system and a database add."""
        files = (*self.models.values(), *self.bests.values())
        models = (vector.nbytes for model in files for vector in model.vectors.values())
        records = (len(received.envelope) for received in self.records.values())
        weights = (*self.blobs.values(), *self.parts.values())
        return sum(models) + sum(records) + sum(map(len, weights)) + len(self.sequences) * SEQUENCE_BYTES

    def own_records(self, peer: str, wall_ms: int) -> list[Received]:
        """The peer's own manifests and verdicts, which are said again at every connection while they hold."""
        own = (received for received in self.records.values() if received.message.sender == peer)
        return [each for each in own if not 0 < each.message.expires_at_ms < wall_ms]


@dataclass(kw_only=True, eq=False)
class Device:
    """See the module's docstring. `index` is its place in the world; `seat`, in the trainer, -1 for none.

    One link, and one connection over it for each broker that it is at.
    """

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
    attachments: tuple[Attachment, ...] = ()  # by their numbers; none given: one, to the first broker
    rejected: Counter[str] = field(default_factory=Counter)  # reasons of what was dropped
    updates: Counter[tuple[str, str]] = field(default_factory=Counter)  # of "hostile" or "honest"; TAKEN, or why not
    log: deque[Event] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    training_s: float = 0.0
    training_since_s: float = math.inf  # of the training that is under way
    on_s: float = 0.0  # time that it was switched on, until `on_since_s`
    on_since_s: float = 0.0
    ticket: int = 0  # of the training that is under way; 0: none
    tick_stamp: int = 0  # of the only tick in the clock's queue that counts
    tick_s: float = float("inf")
    carrier: Carrier | None = None  # of a running process, where a broker of the world has a packet limit
    carry_stamp: int = 0  # as `tick_stamp`, of what is due in its transfers
    carry_s: float = float("inf")
    tally: Tally = field(default_factory=Tally)  # of its processes that are over
    wall: WallClock = field(default_factory=WallClock)
    online_since_s: float = 0.0  # while it is online, at one broker or more
    offline_since_s: float = 0.0  # while it is not
    off_until_s: float = 0.0  # a fault keeps it off, or
    offline_until_s: float = 0.0  # without a connection
    is_gone: bool = False  # for good
    hostile: Hostile | None = None

    def __post_init__(self) -> None:
        self.numbering = Numbering()
        self._begin_to_speak()
        self.attachments = self.attachments or (Attachment(),)
        self.forwarding = Forwarding(self.settings.upload_bytes_per_s)
        self.quotas = SenderQuota()
        self.core: AgentCore | None = None

    @property
    def peer(self) -> str:
        """Its peer id."""
        return self.key.peer_id

    @property
    def online(self) -> bool:
        """Whether a broker has it."""
        return any(each.online for each in self.attachments)

    @property
    def outbox(self) -> Outbox:
        """What waits to be sent by its first broker."""
        return self.attachments[0].outbox

    @property
    def is_at_several(self) -> bool:
        """Whether it is at more than one broker."""
        return len(self.attachments) > 1

    def to(self, peer: str) -> Attachment:
        """By which broker a message to a peer goes."""
        assert self.core is not None
        number = self.core.brokers.route(peer) if self.is_at_several else 0
        if number is None:
            return next((each for each in self.attachments if each.online), self.attachments[0])
        return self.attachments[number]

    def _begin_to_speak(self) -> None:
        """What a process knows of its own numbers beside what the store keeps ends with it."""
        self.numbers = OwnNumbers(self.numbering, SoundDisk())
        self.sealer = Sealer(Holder(self.key), self.numbers)

    def boot(self, rng: np.random.Generator, wall_ms: int) -> AgentCore:
        """Start the process: a new core, and an outbox with what it says of tasks."""
        self.core = AgentCore(settings=self.settings, rng=rng)
        self._begin_to_speak()
        self.forwarding = Forwarding(self.settings.upload_bytes_per_s)
        for each in self.attachments:
            each.boot()
            for received in self.disk.own_records(self.peer, wall_ms):
                each.outbox.keep(received.topic.below_root(), received.envelope)
        self.quotas = SenderQuota()
        self.running = True
        return self.core

    def learner(self, task: str) -> Learning | None:
        """Its part in a task, while it has one."""
        return self.core.tasks.learning.get(task) if self.core is not None else None

    @property
    def transfers(self) -> Tally:
        """What its transfers have come to so far."""
        return self.tally + Tally.of(self.carrier) if self.carrier is not None else self.tally

    def training_until(self, now_s: float) -> float:
        """Seconds of training so far, those of a step that is under way included."""
        return self.training_s + max(0.0, now_s - self.training_since_s if self.ticket else 0.0)

    def joules(self, now_s: float) -> float:
        """Energy drawn so far: each state's draw times the time spent in it, training and radio above idle.

        Not a number where nobody knows what the device draws.
        """
        if not self.power.idle_w and not self.power.training_w:
            return math.nan
        on_s = self.on_s + (now_s - self.on_since_s if self.running else 0.0)
        return (
            self.power.idle_w * on_s
            + max(0.0, self.power.training_w - self.power.idle_w) * self.training_s
            + max(0.0, self.power.radio_w - self.power.idle_w) * self.link.radio_s
        )
