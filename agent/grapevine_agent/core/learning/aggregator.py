"""One task, aggregated by an optional server.

The server gives every update to the task's server strategy as it comes, asynchronously: nobody is
selected, nobody is waited for, and no round is closed. A few times a round (see `server_pace`) it publishes what
the strategy has made of them, one model, or one a cluster. Nothing that training depends on is kept
here. Killed at any moment it takes no model with it; started again it goes on from its last saved
model and from the first updates that it hears.

*After a start* nothing is published before half of the members that are there were heard, or `GATHER_ROUNDS` have
passed since the first of them was: what a few have said is no model of everybody's, and the strategies that go on from
a saved model learn from it how old that is (`merge.server.catching_up`). *Its number* goes on above every number that a
member says until then it has merged, so that none comes twice, nor falls, though what was saved may be older than what
was published. Later such a word moves nothing: a member that told of numbers which no server has reached would make
everybody else's updates look stale.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from grapevine_agent.core.effects import Effect, Publish, SavedModel, SaveModel
from grapevine_agent.core.events import Served
from grapevine_agent.core.governor.governor import Governor
from grapevine_agent.core.learning.encodings import Encodings, allowed_encodings, written
from grapevine_agent.core.learning.guard.guard import Guard
from grapevine_agent.core.learning.intake import Claims, Intake
from grapevine_agent.core.learning.keeping import Keeper, SaveBudget
from grapevine_agent.core.learning.merging import HOLD_WINDOWS, turned_away
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.pace import ENVELOPE_BYTES, vectors_bytes
from grapevine_agent.core.learning.places import A_MODEL, MAX_SERVED, most_places
from grapevine_agent.core.learning.receipts import Receipts
from grapevine_agent.core.learning.server_claims import most_published
from grapevine_agent.core.learning.server_pace import ServerPace
from grapevine_agent.core.learning.serving import vector_bytes
from grapevine_agent.core.learning.taken_updates import TakenUpdates
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.merge import Voice
from grapevine_agent.merge.apart import apart
from grapevine_agent.merge.clip import Clip
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_agent.merge.server.interface import (
    MAX_MEMBERS,
    MAX_NAMED,
    ClusterModel,
    ServerContext,
    ServerStart,
    ServerState,
    ServerUpdate,
)
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import ModelUpdate, ReleasedModel, ServerAdvert, ServerModel
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.layout import ModelLayout

MAX_SAMPLES = 10_000_000  # of a member's data set that are believed
GATHER_ROUNDS = 2.0  # after the first update, when a server has just started
GATHER_HEARTBEATS = 5.0  # where that is longer: how long rounds take is not known yet
STATE = "server/"  # where a strategy's own vectors and counters lie in what is saved


@dataclass(kw_only=True)
class Aggregator:
    """See the module's docstring."""

    task: str
    manifest: TaskManifest
    settings: CoreSettings
    layout: ModelLayout
    model: ModelState
    started: Moment
    rng: np.random.Generator
    saved: SavedModel | None = None
    steps_before: int = 0  # see `Claims`
    members: Members | None = None  # see `Claims`
    budget: SaveBudget | None = None  # of all tasks of this agent; None: this one is alone
    governor: Governor = field(default_factory=Governor)  # of this agent
    model_version: int = 0
    num_merged: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # updates, by the reason: see `counting_refusals`
    published_s: float | None = None  # when the newest model was made, monotonic; None: none was, since the start
    held_bytes: int = 0  # of vectors, at the last tick
    _clusters: dict[int, ClusterModel] = field(default_factory=dict)  # each one's newest model
    _versions: dict[str, int] = field(default_factory=dict)  # member → version of its newest update
    _next_s: float = 0.0
    _has_news: bool = False  # since the model was saved
    _next_model_s: float = 0.0
    _first_heard_s: float | None = None
    _num_idle: int = 0  # rounds in which no model was made
    _idle_from_s: float = 0.0
    _has_gathered: bool = False  # what was heard after the start was enough

    def __post_init__(self) -> None:
        plan, self._idle_from_s = self.manifest.merging, self.started.monotonic_s
        self.claims = Claims(
            task=self.task,
            manifest=self.manifest,
            started=self.started,
            steps_before=self.steps_before,
            age_before=self.model.age,
            members=self.members,
        )
        entry = SERVER_STRATEGIES[plan.server_strategy]
        self.pace = ServerPace(
            heartbeat_s=self.settings.server_heartbeat_s,
            round_interval_s=self.manifest.training.round_interval_s,
            in_rounds=entry.in_rounds,
        )
        window_s = plan.window_rounds * self.manifest.training.round_interval_s
        self.encodings = Encodings.of(plan, self.settings.encoding)
        self.intake = Intake(
            layout=self.layout,
            capacity=MAX_SERVED,
            hold_s=HOLD_WINDOWS * window_s,
            allowed=allowed_encodings(plan),
            memory_mb=self.settings.limits.memory_mb,
        )
        self.taken = TakenUpdates(task=self.task, peer=self.settings.peer)
        self.receipts = Receipts(task=self.task, peer=self.settings.peer)
        self.guard = Guard(
            size=self.layout.num_parameters,
            num_buffers=self.layout.num_buffers,
            rng=self.rng.spawn(1)[0],
            personal=entry.clusters,
            is_on=self.settings.judge_updates,
            is_member=False,
        )
        self.clip = Clip(plan.clip)
        self.model_version = max(self.model_version, self.model.version)
        self._sums_deltas = entry.needs_base
        self._constants = entry.with_defaults(plan.server_constants)
        self.strategy = entry.make(
            ServerStart(
                parameters=self.model.parameters,
                buffers=self.model.buffers,
                age=self.model.age,
                version=self.model_version,
                is_restored=self.saved is not None or self.model.age > 0,
                num_places=most_places(self.layout, A_MODEL, memory_mb=self.settings.limits.memory_mb, most=MAX_SERVED),
            )
        )
        if self.saved is not None:
            self.strategy.restore(_own_state(self.saved))
        budget = self.budget or SaveBudget(save_every_s=self.settings.save_every_s)
        self.keeper = Keeper(budget=budget, kept=self.save() if self.saved is not None else None)

    def _context(self, now: Moment) -> ServerContext:
        return ServerContext(
            constants=self._constants,
            rng=self.rng,
            now_s=now.monotonic_s,
            round=self.model.round,
            version=self.model_version,
            forget_s=self.pace.forget_s,
            round_s=self.pace.round_s,
            max_share=self.settings.max_share,
        )

    def foresee(self, sender: str, update: ModelUpdate, now: Moment, session: int) -> None:
        """Raise `WireError` for an update that would not be taken, as far as that shows without its vectors."""
        self.guard.check(sender, self.guard_round)
        with self.receipts.lacking(sender, session):
            self.intake.foresee(sender, update, session, now)

    def accept(self, sender: str, update: ModelUpdate, now: Moment, session: int = 0) -> list[Effect]:
        """Take a member's update, of this session of it. Raises `WireError` if it is not fit to be merged."""
        self.guard.check(sender, self.guard_round)
        if self.taken.has(sender, session, update):
            return self.taken.note(sender, session, update)  # our word on it was lost
        with self.receipts.lacking(sender, session), self.guard.finding_faults(sender, self.guard_round):
            taken = self.intake.model_of(sender, update, now.monotonic_s, session=session, wall_ms=now.wall_ms)
        try:
            own, round_ = self.model.parameters, self.guard_round
            self.guard.judge(sender, taken.parameters, own, round_, buffers=taken.buffers)
        except WireError as error:
            if error.reason == "unchanged" and update.wants_receipt:  # it was taken, when it came in another session
                return self.taken.note(sender, session, update)
            raise
        self.pace.hear(sender, update.version, now.monotonic_s)
        mine = Voice(peer=self.settings.peer, parameters=self.model.parameters, buffers=self.model.buffers)
        voice = Voice(
            peer=sender,
            parameters=taken.parameters,
            buffers=taken.buffers,
            base=taken.base,
            age=self.claims.believed_age(sender, update.age, now),
            experience=self.claims.believed_experience(sender, update.experience, now),
            samples=min(update.samples, MAX_SAMPLES),
        )
        if self._sums_deltas and taken.base is not None:
            mine = replace(mine, parameters=taken.base)  # what must be bounded is the change
        voice = self.clip.apply(mine, voice)
        self._go_on_above(self._base_version(update), now)
        context = self._context(now)
        with apart():
            self.strategy.accept(
                ServerUpdate(
                    peer=sender,
                    parameters=voice.parameters,
                    buffers=voice.buffers,
                    base=voice.base,
                    base_version=min(self._base_version(update), self.model_version),
                    age=voice.age,
                    experience=voice.experience,
                    samples=voice.samples,
                    heard_s=now.monotonic_s,
                    every_s=self.pace.every_s(sender),
                ),
                context,
            )
        self._versions.pop(sender, None)
        self._versions[sender] = update.version
        if len(self._versions) > MAX_MEMBERS:
            del self._versions[next(iter(self._versions))]
        self.num_merged += 1
        if self._first_heard_s is None:
            self._first_heard_s = now.monotonic_s
        receipts = [self.receipts.give(sender, session, taken.receipt)] if taken.receipt else []
        return [*receipts, *self.taken.note(sender, session, update)]

    @property
    def guard_round(self) -> int:
        """Of the guard: those count in which nobody was heard, or who alone is left in quarantine would stay there."""
        return self.model.round + self._num_idle

    def _base_version(self, update: ModelUpdate) -> int:
        """The version of this server's model that an update's sender has merged last, as it says."""
        return update.server_versions.get(self.settings.peer, update.server_version)

    def _go_on_above(self, version: int, now: Moment) -> None:
        """A member has merged a model of this number, which an earlier life of this server has published."""
        if self.published_s is None and self.model_version < version <= most_published(
            self.manifest, self.started, now
        ):
            self.model_version = version

    @property
    def _long_s(self) -> float:
        """Longer than it takes to be heard, or to hear."""
        return max(GATHER_ROUNDS * self.pace.round_s, GATHER_HEARTBEATS * self.pace.heartbeat_s)

    def _has_heard_enough(self, now: Moment) -> bool:
        """Whether a first model would be one of more than a few."""
        if not self._has_gathered and self._first_heard_s is not None:
            there = self.members.of_task(self.task, now.monotonic_s) if self.members is not None else []
            is_late = now.monotonic_s - self._first_heard_s >= self._long_s
            self._has_gathered = is_late or 2 * len(self._versions) >= len(there)
        return self._has_gathered

    def tick(self, now: Moment) -> list[Effect]:
        """At each heartbeat say that the server is there; before that, publish a model where one is due."""
        effects: list[Effect] = [*self.receipts.due(), *turned_away(self.guard, self.task, self.manifest.label)]
        if now.monotonic_s < self._next_s:
            return effects
        self._next_s = max(now.monotonic_s, self._next_s) + self.settings.server_heartbeat_s
        models: list[ClusterModel] = []
        # Heartbeats come a little late; a model is due at the nearest one.
        is_due = now.monotonic_s > self._next_model_s - self.settings.server_heartbeat_s / 2
        if is_due and self._has_heard_enough(now):
            context = self._context(now)
            with apart():
                models = self.strategy.aggregate(context)
        if models:
            self._idle_from_s = now.monotonic_s
            self._next_model_s = now.monotonic_s + self.pace.publish_every_s
            self.published_s = now.monotonic_s
            published, size = self._publish(models), vectors_bytes(self.layout, "full", self.encodings)
            is_allowed = self.governor.may_send(len(models) * (size + ENVELOPE_BYTES), now)
            effects += published if is_allowed else [each for each in published if not isinstance(each, Publish)]
        elif now.monotonic_s - self._idle_from_s >= self._long_s:
            self._num_idle, self._idle_from_s = self._num_idle + 1, now.monotonic_s
        self.held_bytes = vector_bytes(self.strategy, self.intake, self.model, self._clusters)
        # The advert comes after the model, so that who reads it finds the contributors in both.
        effects.append(self.advert(online=True))
        self._has_news = self._has_news or bool(models)
        if self._has_news and now.monotonic_s >= self.keeper.next_s:
            effects += self.keeper.due(self.save(), now.monotonic_s)
            self._has_news = False
        return effects

    @property
    def contributors(self) -> tuple[str, ...]:
        """The members whose updates are in the newest model, or in any cluster's."""
        return tuple(sorted({peer for each in self._clusters.values() for peer in each.contributors})[:MAX_NAMED])

    @property
    def num_clusters(self) -> int:
        """How many models it has published lately, one a cluster."""
        return len(self._clusters)

    def deadline_s(self) -> float:
        """When `tick` has something to do next, monotonic."""
        return 0.0 if self.receipts.are_due else self._next_s

    def _publish(self, models: list[ClusterModel]) -> list[Effect]:
        model = self.model
        for each in models:
            self._clusters[each.cluster] = each
            if each.cluster == 0:
                model.parameters, model.buffers, model.age = each.parameters, each.buffers, each.age
        model.round += 1
        model.release(self.manifest.merging.ema)
        self.model_version += 1
        model.version = self.model_version
        return [
            *(
                Publish(
                    topic=TaskTopic(self.settings.peer, self.task, "model"),
                    body=ServerModel(
                        task=self.task,
                        model_version=self.model_version,
                        age=each.age,
                        full=written(each.parameters, self.encodings.whole),
                        buffers=written(each.buffers, self.encodings.buffers),
                        contributions={peer: self._versions.get(peer, 0) for peer in each.contributors},
                        members=each.members,
                        cluster=each.cluster,
                    ),
                )
                for each in models
            ),
            Served(
                task=self.task,
                label=self.manifest.label,
                model_version=self.model_version,
                num_members=len(self.contributors),
                age=model.age,
                num_clusters=len(self._clusters),
            ),
        ]

    def released(self, cluster: int) -> ReleasedModel:
        """The model of a cluster (0: the only one, or everybody's), or a refusal that names those that there are."""
        held = self._clusters.get(cluster)
        if held is None and cluster:
            names = ", ".join(map(str, sorted(self._clusters))) or "0"
            return ReleasedModel(task=self.task, refusal=f"this server holds no cluster {cluster}, but {names}")
        alone = cluster == 0 and len(self._clusters) <= 1
        contributors = held.contributors if held else ()
        return ReleasedModel(
            task=self.task,
            age=self.model.age if held is None else held.age,
            round=self.model.round,
            version=self.model_version,
            full=self.model.released if alone or held is None else held.parameters,
            buffers=self.model.released_buffers if alone or held is None else held.buffers,
            contributions={peer: self._versions.get(peer, 0) for peer in contributors},
            strategy=self.manifest.merging.server_strategy,
            server=True,
            cluster=cluster,
            members=held.members if held else (),
        )

    def advert(self, *, online: bool) -> Publish:
        """The record that says whether the server is there, and whose updates its model holds."""
        return Publish(
            topic=TaskTopic(self.settings.peer, self.task, "server"),
            body=ServerAdvert(
                task=self.task,
                online=online,
                model_version=self.model_version,
                contributors=self.contributors,
                heartbeat_s=self.settings.server_heartbeat_s,
                group=self.settings.server_group,
                takes_shared=bool(self.settings.server_group) and self._has_shared,
            ),
            retain=True,
        )

    @property
    def _has_shared(self) -> bool:
        brokers = self.members.reach.brokers if self.members is not None else None
        return brokers is not None and brokers.all_share

    def save_changed(self) -> list[Effect]:
        """The model, unless it is kept as it is, at the end of the task or of the service."""
        return [*self.keeper.if_changed(self.save())]

    def save(self) -> SaveModel:
        """The effect that keeps the model, and what the strategy wants kept, across a restart."""
        vectors, counters = self.model.to_save()
        own = self.strategy.state()
        return SaveModel(
            task=self.task,
            vectors={**vectors, **{STATE + name: vector for name, vector in own.vectors.items()}},
            counters={**counters, **{STATE + name: number for name, number in own.counters.items()}},
        )


def _own_state(saved: SavedModel) -> ServerState:
    return ServerState(
        vectors={n.removeprefix(STATE): vector for n, vector in saved.vectors.items() if n.startswith(STATE)},
        counters={n.removeprefix(STATE): number for n, number in saved.counters.items() if n.startswith(STATE)},
    )
