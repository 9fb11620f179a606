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
from typing import Literal

import numpy as np

from grapevine_agent.core.effects import Evaluated
from grapevine_agent.core.events import Merged, Quarantined
from grapevine_agent.core.learning.encodings import allowed_encodings
from grapevine_agent.core.learning.guard.guard import Guard
from grapevine_agent.core.learning.guard.shadow import Shadow
from grapevine_agent.core.learning.intake import Claims, Intake
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.places import MAX_BASES, MAX_PENDING, gathered_vectors, most_places
from grapevine_agent.core.learning.release_step import WHOLE, ReleaseStep, Voices
from grapevine_agent.core.learning.server_check import ServerCheck
from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.learning.server_voices import weights
from grapevine_agent.core.learning.sources import Sources
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import DeviceLimits
from grapevine_agent.merge import STRATEGIES, Context, Voice
from grapevine_agent.merge import Merged as Mix
from grapevine_agent.merge.apart import apart
from grapevine_agent.merge.clip import Clip
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_agent.merge.stale import freshness, is_stale, merge_by_freshness
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import ModelUpdate, Vector, plain
from grapevine_tasks.closed_sets import METRICS
from grapevine_tasks.layout import ModelLayout

MAX_SAMPLES = 10_000_000  # of a peer's data set that are believed
MAX_SHARES = 16  # that an event names, of which thousands are kept
FOLLOWS = "follow-server"  # hears no members, and is told by the server what its model is
HOLD_WINDOWS = 3.0  # a base that was used so lately keeps its place


@dataclass(frozen=True)
class _Pending:
    """An update that waits for the next merge."""

    voice: Voice
    contributions: Mapping[str, int]


@dataclass(kw_only=True)
class Merging:
    """See the module's docstring. `model` and `servers` are the learner's own and are kept up to date here."""

    task: str
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
    max_pending: int = MAX_PENDING
    judge_updates: bool = True  # updates are held against the crowd's: see `guard`
    memory_mb: int = DeviceLimits.memory_mb  # that the owner lends: see `places`
    shares: Mapping[str, float] = field(default_factory=dict)  # of the last merge
    num_merged: int = 0
    model_before: Vector | None = None  # the last merge, until somebody asks what it has moved
    voices: Voices = field(default_factory=Voices)  # in the merges since the last round
    merge_by_s: float = math.inf  # when pending updates have waited long enough
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _told: list[Merged | Quarantined] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.manifest.merging
        self.strategy = STRATEGIES[plan.strategy]
        self.claims = Claims(
            task=self.task,
            manifest=self.manifest,
            started=self.started,
            steps_before=self.steps_before,
            age_before=self.model.age,
            members=self.members,
        )
        sums_deltas = self.strategy.needs_base
        window_s = plan.window_rounds * self.round_interval_s
        self.intake = Intake(
            layout=self.layout,
            keep_windows=sums_deltas,
            capacity=self.max_pending if sums_deltas else MAX_BASES,
            hold_s=HOLD_WINDOWS * window_s,
            allowed=allowed_encodings(plan),
            memory_mb=self.memory_mb,
        )
        self._most_pending = most_places(
            self.layout, gathered_vectors(plan), memory_mb=self.memory_mb, most=self.max_pending
        )
        self.sources = Sources(task=self.task, peer=self.peer, members=self.members, versions=self.model.versions)
        self.guard = Guard(
            size=self.layout.num_parameters,
            num_buffers=self.layout.num_buffers,
            rng=self.rng.spawn(1)[0],
            personal=self.strategy.personal,
            is_on=self.judge_updates,
        )
        self.clip = Clip(plan.clip)
        self.server_check = ServerCheck(
            rng=self.rng.spawn(1)[0],
            round_interval_s=self.round_interval_s,
            # A cluster's model is far from the members of the others.
            is_on=plan.clip > 0 and plan.strategy != FOLLOWS and not SERVER_STRATEGIES[plan.server_strategy].clusters,
            is_mean=not SERVER_STRATEGIES[plan.server_strategy].needs_base,
        )
        self.shadow = Shadow(
            task=self.task,
            rng=self.rng.spawn(1)[0],
            num_numbers=self.layout.num_parameters + self.layout.num_buffers,
            higher_is_better=METRICS[self.manifest.training.metric].higher_is_better,
            is_on=self.judge_updates and not self.strategy.personal,
        )
        self._constants = self.strategy.with_defaults(plan.constants)
        self._spans = tuple(entry.span for entry in self.layout.parameters)
        self._merges_early = plan.window_rounds == 1 and not sums_deltas

    def turn_judging(self, *, is_on: bool) -> None:
        """From now on updates are held against the crowd's, or none is: as the owner says."""
        self.guard.turn(is_on=is_on)
        self.shadow.turn(is_on=is_on and not self.strategy.personal)

    def _refuse_if_stale(self, sender: str, update: ModelUpdate, now: Moment) -> None:
        behind = self._behind(self.claims.believed_age(sender, update.age, now), now)
        if is_stale(behind, self.manifest.merging.stale_after):
            most = self.manifest.merging.stale_after
            raise WireError("stale-update", f"{sender} is {behind} steps behind; at most {most}")

    def foresee(self, sender: str, update: ModelUpdate, now: Moment, session: int) -> None:
        """Raise `WireError` for an update that would not be taken, as far as that shows without its vectors."""
        self.guard.check(sender, self.model.round)
        if self.manifest.merging.stale == "refuse":
            self._refuse_if_stale(sender, update, now)
        self.intake.foresee(sender, update, session, now)

    def contributions(self) -> dict[str, int]:
        """The newest version of each member's work in the model, this one's included."""
        own = {self.peer: self.model.version} if self.model.version else {}
        return {**self.sources.told(len(self.model.versions)), **own}

    def accept(self, sender: str, update: ModelUpdate, now: Moment, session: int = 0) -> bytes:
        """Take a member's update, of this session of it. Raises `WireError` if it is not fit to be merged.

        Returns the digest of the base that came with it and is held from now on, empty if there is none.
        """
        plan, round_ = self.manifest.merging, self.model.round
        self.guard.check(sender, round_)
        if plan.stale == "refuse":  # before anything of it is decoded, or taken for a base
            self._refuse_if_stale(sender, update, now)
        with self.guard.finding_faults(sender, round_):
            taken = self.intake.model_of(sender, update, now.monotonic_s, session=session, wall_ms=now.wall_ms)
        age = self.claims.believed_age(sender, update.age, now)
        steps = self._steps_between(age, now)
        own = self.model.parameters
        share = self.guard.judge(sender, taken.parameters, own, round_, steps=steps, buffers=taken.buffers)
        self.shadow.check(sender, taken.parameters, taken.buffers, round_)
        self.sources.hear(sender, update.version, session)
        behind = self._behind(age, now)
        voice = Voice(
            peer=sender,
            parameters=taken.parameters,
            buffers=taken.buffers,
            base=taken.base,
            age=age,
            experience=self.claims.believed_experience(sender, update.experience, now),
            samples=min(update.samples, MAX_SAMPLES),
            freshness=share * freshness(behind, plan.stale_after),
        )
        voice = self.clip.apply(self._own_voice(), voice)
        if self.servers:
            self.server_check.note(sender, taken.parameters, self.clip.last, now)
        contributions = {**update.contributions, sender: update.version}
        if self.strategy.pairwise:
            self.shadow.offer(sender, voice.parameters, voice.buffers, round_, may_be_another=True)
            self._take(self._merge([voice], now), {sender: contributions}, now, by="arrival")
            return taken.receipt
        self._pending.pop(sender, None)
        if len(self._pending) >= self._most_pending:
            self._pending.pop(next(iter(self._pending)))
        self._pending[sender] = _Pending(voice, contributions)
        if self._merges_early:
            self.merge_by_s = min(self.merge_by_s, now.monotonic_s + self.round_interval_s)
        return taken.receipt

    def _steps_between(self, age: int, now: Moment) -> int | None:
        """The optimiser steps between our model and one of this age, at most; None: see `Guard.judge`.

        Whoever was started again, or took a trained model over, knows nothing of the first steps, which are the long
        ones: at the end of a schedule, or with samples that the model knows by heart, one's own are next to nothing.
        """
        if self.claims.age_before > 0:
            return None
        return self.model.age + min(age, max(self.model.age, self.claims.plain_pace(now)))

    def _behind(self, age: int, now: Moment) -> int:
        """By how many optimiser steps a model of this age is behind.

        Behind our own, or behind the median of those who send to us where that is less: a lie about an age moves ours,
        and whoever trains faster than all others would hear nobody.
        """
        usual = self.claims.usual_age(now)
        return (self.model.age if usual is None else min(self.model.age, usual)) - age

    def end_window(self, now: Moment) -> None:
        """Merge what the window has gathered; the next one starts from the merged model."""
        before, num_merged = self.model.parameters, self.num_merged
        self.merge_gathered(now)
        if self.num_merged > num_merged:
            self.voices.own = before
        if not self.strategy.pairwise:
            self.model.base = self.model.parameters
            self.model.window += 1
            self.intake.close_windows()

    def merge_gathered(self, now: Moment) -> None:
        """Merge the pending updates and the servers' models, if there are any."""
        for sender, pending in self._pending.items():
            self.shadow.offer(sender, pending.voice.parameters, pending.voice.buffers, self.model.round)
        received = [pending.voice for pending in self._pending.values()]
        servers: dict[str, float] = {}  # the voices that each one's model counts for
        contributions = {sender: pending.contributions for sender, pending in self._pending.items()}
        known = {self.peer, *self.members.heard_of()} if self.servers else set()
        cap = self.manifest.merging.server_trust_cap
        for server, weight in weights(self.servers, now.monotonic_s, known=known, cap=cap).items():
            link = self.servers[server]
            assert link.model is not None
            received.append(
                Voice(
                    peer=link.peer,
                    parameters=plain(link.model.full),
                    buffers=plain(link.model.buffers),
                    age=self._server_age(link.model.age, now),
                    experience=self.model.experience,
                    samples=self.model.samples,
                    kind="server",
                    source_weight=weight,
                    seen=link.model.model_version == link.merged_version,
                )
            )
            servers[link.peer] = weight
            contributions[link.peer] = link.model.contributions
            link.merged_version = link.model.model_version
        self._pending.clear()
        self.merge_by_s = math.inf
        if received:
            self._take(self._merge(received, now), contributions, now, by="round")
            self.voices.merged(self.peer, self.shares, servers)

    def release_step(self, num_members: int) -> ReleaseStep:
        """How far the released model goes in the round that begins, of so many members."""
        return self.voices.take(num_members) if self.strategy.is_mean else WHOLE

    def _server_age(self, age: int, now: Moment) -> int:
        """What is believed of a server's claim: a mix of its members' ages is not above all of theirs, and ours.

        Were it believed up to a multiple of theirs, it would become theirs, and a multiple of that be believed next.
        """
        age, oldest = min(age, self.claims.pace_limit(now)), self.claims.oldest_age(now)
        return age if oldest is None else min(age, max(oldest, self.model.age))

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

    def _merge(self, received: list[Voice], now: Moment) -> Mix:
        experiences = self.claims.present_experiences(now) if self.strategy.personal else {}
        experiences[self.peer] = self.model.experience
        context = Context(
            constants=self._constants,
            max_share=self.max_share,
            epoch=self.model.epoch,
            experiences=experiences,
            spans=self._spans,
            rng=self.rng,
        )
        local = self._own_voice()
        with apart():
            return merge_by_freshness(self.strategy, local=local, received=received, context=context)

    def trained(self, start: Vector, end: Vector, num_steps: int, num_samples: int) -> None:
        """Our own training led from one model to the other, float32 [p] both: what others' are held against."""
        self.guard.trained(start, end, num_steps)
        if self.servers:
            self.server_check.trained(start, end)
        self.shadow.trained(num_samples, self.model.round)

    def measured(self, sender: str, evaluation: Evaluated) -> None:
        """A model of a sender was measured on our own samples: see `guard.shadow`."""
        verdict = self.shadow.measured(evaluation)
        if verdict.is_doubted:
            self._pending.pop(sender, None)
        if verdict.turned:
            self.guard.turn_away(sender, verdict.turned, self.model.round)
        for freed in verdict.freed:
            self.guard.quarantine.free(freed)

    def forget_what_waits(self) -> None:
        """The model is another one than it was: what waits for a merge may be what had spoilt it."""
        self._pending.clear()
        self.merge_by_s = math.inf
        self.server_check.forget()

    def take_told(self) -> list[Merged | Quarantined]:
        """What there is to tell of merges, and of senders that are turned away, since this was last asked."""
        told, self._told = self._told, []
        return [*told, *turned_away(self.guard, self.task, self.manifest.label)]

    def _take(
        self,
        merged: Mix,
        contributions: Mapping[str, Mapping[str, int]],
        now: Moment,
        *,
        by: Literal["arrival", "round"],
    ) -> None:
        """Make a merge's result the model; `contributions` say what is in whose model that took part."""
        model = self.model
        self.model_before = model.parameters
        model.mix_in(merged.parameters, merged.buffers, age=merged.age, experience=merged.experience)
        self.shares = merged.shares
        self.num_merged += 1
        self._told.append(
            Merged(
                task=self.task,
                label=self.manifest.label,
                round=model.round,
                shares=_largest(merged.shares),
                num_models=len(contributions),
                by=by,
            )
        )
        most = self.claims.most_rounds(now)
        for sender, each in contributions.items():
            self.sources.mix_in(each, sender=sender, most=most)


def turned_away(guard: Guard, task: str, label: str) -> list[Quarantined]:
    """Who was put into quarantine since this was last asked."""
    return [
        Quarantined(task=task, label=label, sender=turned.sender, rounds=turned.rounds, why=turned.why)
        for turned in guard.take_turned()
    ]


def _largest(shares: Mapping[str, float]) -> Mapping[str, float]:
    if len(shares) <= MAX_SHARES:
        return shares
    return dict(sorted(shares.items(), key=lambda item: -item[1])[:MAX_SHARES])
