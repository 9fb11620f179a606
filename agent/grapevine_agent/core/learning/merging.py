"""What becomes of the updates of one task: checked, bounded, gathered or taken at once, and merged into the model.

Pairwise strategies merge an update the moment it arrives. Gathered ones hold the newest of each
sender until the window ends (or, where a window is one round, until a slow trainer has kept them
waiting for longer than a round should take). The servers' models are standing voices: they take part
in every gathered merge, and fade with the servers' silence (see `server_link`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from grapevine_agent.core.learning.intake import Claims, Intake
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.merge import STRATEGIES, Context, Merged, Voice
from grapevine_agent.merge.clip import Clip
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import ModelUpdate
from grapevine_tasks.layout import ModelLayout

MAX_SAMPLES = 10_000_000  # of a peer's data set that are believed
MAX_SOURCES = 16_384  # whose versions in the model are remembered: any name may stand in an update


@dataclass(frozen=True)
class _Pending:
    """An update that waits for the next merge."""

    voice: Voice
    contributions: Mapping[str, int]


@dataclass(kw_only=True)
class Merging:
    """See the module's docstring. `model` and `servers` are the learner's own and are kept up to date here."""

    peer: str
    manifest: TaskManifest
    members: Members
    layout: ModelLayout
    model: ModelState
    servers: Mapping[str, ServerLink]
    started: Moment
    rng: np.random.Generator
    round_interval_s: float
    steps_before: int = 0
    max_share: float = 0.5
    max_pending: int = 64
    shares: Mapping[str, float] = field(default_factory=dict)  # of the last merge
    server_version: int = 0  # of the server's model that was merged last
    num_merged: int = 0
    merge_by_s: float = math.inf  # when pending updates have waited long enough
    _pending: dict[str, _Pending] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.manifest.merging
        self.strategy = STRATEGIES[plan.strategy]
        self.claims = Claims(
            manifest=self.manifest, started=self.started, steps_before=self.steps_before, members=self.members
        )
        sums_deltas = self.strategy.needs_base
        self.intake = Intake(
            layout=self.layout, keep_windows=sums_deltas, capacity=self.max_pending if sums_deltas else 8
        )
        self.clip = Clip(plan.clip)
        self._constants = self.strategy.with_defaults(plan.constants)
        self._spans = tuple(entry.span for entry in self.layout.parameters)
        self._merges_early = plan.window_rounds == 1 and not sums_deltas

    def accept(self, sender: str, update: ModelUpdate, now: Moment) -> None:
        """Take a member's update. Raises `WireError` if it is not fit to be merged."""
        taken = self.intake.model_of(sender, update)
        voice = Voice(
            peer=sender,
            parameters=taken.parameters,
            buffers=taken.buffers,
            base=taken.base,
            age=self.claims.believed_age(sender, update.age, now),
            experience=self.claims.believed_experience(sender, update.experience, now),
            samples=min(update.samples, MAX_SAMPLES),
        )
        voice = self.clip.apply(self._own_voice(), voice)
        contributions = {**update.contributions, sender: update.version}
        if self.strategy.pairwise:
            self._take(self._merge([voice]), [contributions])
            return
        self._pending.pop(sender, None)
        if len(self._pending) >= self.max_pending:
            self._pending.pop(next(iter(self._pending)))
        self._pending[sender] = _Pending(voice, contributions)
        if self._merges_early:
            self.merge_by_s = min(self.merge_by_s, now.monotonic_s + self.round_interval_s)

    def end_window(self, now: Moment) -> None:
        """Merge what the window has gathered; the next one starts from the merged model."""
        self.merge_gathered(now)
        if not self.strategy.pairwise:
            self.model.base = self.model.parameters
            self.model.window += 1
            self.intake.close_windows()

    def merge_gathered(self, now: Moment) -> None:
        """Merge the pending updates and the servers' models, if there are any."""
        received = [pending.voice for pending in self._pending.values()]
        contributions = [pending.contributions for pending in self._pending.values()]
        known = {self.peer, *self.members.heard_of()} if self.servers else set()
        for link in self.servers.values():
            weight = link.source_weight(now.monotonic_s, known=known, cap=self.manifest.merging.server_trust_cap)
            if link.model is None or weight <= 0:
                continue
            received.append(
                Voice(
                    peer=link.peer,
                    parameters=link.model.full,
                    buffers=link.model.buffers,
                    age=min(link.model.age, self.claims.pace_limit(now)),
                    experience=self.model.experience,
                    samples=self.model.samples,
                    kind="server",
                    source_weight=weight,
                    seen=link.model.model_version == self.server_version,
                )
            )
            contributions.append(link.model.contributions)
            self.server_version = link.model.model_version
        self._pending.clear()
        self.merge_by_s = math.inf
        if received:
            self._take(self._merge(received), contributions)

    def _own_voice(self) -> Voice:
        return Voice(
            peer=self.peer,
            parameters=self.model.parameters,
            buffers=self.model.buffers,
            base=self.model.base,
            age=self.model.age,
            experience=self.model.experience,
            samples=self.model.samples,
        )

    def _merge(self, received: list[Voice]) -> Merged:
        return self.strategy.merge(
            local=self._own_voice(),
            received=received,
            context=Context(
                constants=self._constants,
                max_share=self.max_share,
                epoch=self.model.epoch,
                experiences={**self.claims.experiences, self.peer: self.model.experience},
                spans=self._spans,
                rng=self.rng,
            ),
        )

    def _take(self, merged: Merged, contributions: list[Mapping[str, int]]) -> None:
        model = self.model
        model.parameters, model.buffers = merged.parameters, merged.buffers
        model.age, model.experience = merged.age, merged.experience
        self.shares = merged.shares
        self.num_merged += 1
        held = model.versions
        for each in contributions:
            for peer, version in each.items():
                if version > held.get(peer, -1):
                    held.pop(peer, None)  # so that it stands last: see `UpdateWriter`
                    held[peer] = version
        held.pop(self.peer, None)
        self._forget_sources(held)

    def _forget_sources(self, held: dict[str, int]) -> None:
        """Where too many sources were named, drop those that nobody has heard of, the oldest news first."""
        excess = len(held) - MAX_SOURCES
        if excess <= 0:
            return
        gone = list(islice((peer for peer in held if not self.members.is_member(peer)), excess))
        gone += islice((peer for peer in held if self.members.is_member(peer)), excess - len(gone))
        for peer in gone:
            del held[peer]
