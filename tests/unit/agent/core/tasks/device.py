"""A real core on a virtual clock, whose shell has every task's weights at hand and counts what it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_lab.bench import floods
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import Topic
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import encode_weights, reference_to

ME, ADA, BEN, CAT = ("m" * 20, "a" * 20, "b" * 20, "c" * 20)  # this peer; two whom it trusts; one who came later
ENGINEER, STRANGER = "e" * 20, "s" * 20
NOW_MS = floods.CREATED_MS
HOUR_MS = 3_600_000
LAYOUT = ModelLayout.of(floods.program())
WEIGHTS = encode_weights(LAYOUT, np.zeros(LAYOUT.num_parameters, np.float32), np.zeros(LAYOUT.num_buffers, np.float32))
SETTINGS = CoreSettings(
    peer=ME,
    review=ReviewPolicy(approvals=2, trusted=frozenset((ADA, BEN)), max_valid_days=300),
    limits=DeviceLimits(cores=1000),
    match_data=lambda _task, _head: "",
)


class Device:
    """See the module's docstring. `disk` holds what the core wants kept."""

    def __init__(
        self,
        settings: CoreSettings = SETTINGS,
        *,
        now_s: float = 0.0,
        wall_shift_ms: int = 0,
        disk: Disk | None = None,
        **book: Any,
    ) -> None:
        self.now_s = now_s
        self.wall_shift_ms = wall_shift_ms
        self.disk = disk or Disk()
        self.effects: list[fx.Effect] = []
        self.rejected: list[str] = []
        self.loads = True  # whether the shell answers `LoadTask` at once
        self._to_load: list[str] = []
        self.core = AgentCore(settings=settings, rng=np.random.default_rng(0), records=RecordBook(**book))
        kept = list(self.disk.records.values())
        self.perform(self.core.start(kept, dict(self.disk.consents), self.moment(), dict(self.disk.sequences)))

    def moment(self) -> Moment:
        return Moment(monotonic_s=self.now_s, wall_ms=NOW_MS + int(self.now_s * 1000) + self.wall_shift_ms)

    def hear(self, *received: Received) -> None:
        for each in received:
            try:
                self.perform(self.core.receive(each, self.moment()))
            except WireError as error:
                self.rejected.append(error.reason)

    def publish(self, publisher: str = ENGINEER, *, expires_at_ms: int = 0, **fields: Any) -> str:
        """Hear of a task that can be learned. Returns its id."""
        manifest = floods.manifest(publisher, initial_weights=reference_to(WEIGHTS), **fields)
        encoded = encode_manifest(manifest)
        self.hear(floods.published(publisher, task_id(encoded), encoded, expires_at_ms=expires_at_ms))
        return task_id(encoded)

    def approve(
        self, task: str, *reviewers: str, until_ms: int = NOW_MS + 1000 * HOUR_MS, approved: bool = True
    ) -> None:
        for reviewer in reviewers or (ADA, BEN):
            self.hear(
                floods.reviewed(
                    reviewer, task, approved=approved, until_ms=until_ms, created_at_ms=self.moment().wall_ms
                )
            )

    def tick(self) -> int:
        """One tick. Returns how many judgements it took."""
        before = self.core.tasks.assessor.num_judged
        self.perform(self.core.tick(self.moment()))
        return self.core.tasks.assessor.num_judged - before

    def wait(self, for_s: float) -> list[int]:
        """Let time pass: a tick whenever one is due. Returns the judgements of each."""
        end_s, counts = self.now_s + for_s, []
        while (due_s := max(self.now_s, self.core.deadline_s())) <= end_s:
            self.now_s = due_s
            counts.append(self.tick())
            self.now_s += 1e-3
        self.now_s = max(self.now_s, end_s)
        return counts

    def settle(self) -> None:
        """Tick until nothing waits to be judged."""
        self.tick()
        while self.core.steward.has_waiting:
            self.now_s += 0.02
            self.tick()

    def entry(self, task: str) -> TaskEntry:
        return self.core.book.entries[task]

    def standing(self, task: str) -> str:
        return self.core.judgement(self.entry(task), self.moment()).standing

    def why_not(self, task: str) -> list[str]:
        return self.core.why_not(self.entry(task), self.moment())

    def trains(self, task: str) -> bool:
        return task in self.core.tasks.learning

    def restart(self) -> Device:
        """The process is killed, and started again with what was kept."""
        disk = Disk()
        disk.records, disk.sequences = dict(self.disk.records), dict(self.disk.sequences)
        disk.consents = dict(self.disk.consents)
        return Device(self.core.settings, now_s=self.now_s, wall_shift_ms=self.wall_shift_ms, disk=disk)

    def load(self) -> None:
        """Answer what was asked for."""
        while self._to_load:
            self.perform(self.core.loaded(self._to_load.pop(0), None, WEIGHTS, self.moment()))

    def perform(self, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case fx.LoadTask(task=task):
                    self._to_load.append(task)
                    if self.loads:
                        self.load()
                case _:
                    self.disk.keep(effect)


class Disk:
    """What the core wants kept, as the store keeps it: a record that is read again is not verified again."""

    def __init__(self) -> None:
        self.records: dict[Topic, Received] = {}
        self.sequences: dict[Topic, int] = {}
        self.consents: dict[str, bool] = {}

    def keep(self, effect: fx.Effect) -> None:
        match effect:
            case fx.SaveRecord(received=received):
                self.records[received.topic] = replace(received, retained=True)
            case fx.ForgetRecord(received=received, remembered=remembered):
                self.records.pop(received.topic, None)
                if remembered is not None:
                    self.sequences[received.topic] = remembered
            case fx.ForgetSequence(topic=topic):
                self.sequences.pop(topic, None)
            case fx.SaveConsent(task=task, joined=joined):
                self.consents[task] = joined
