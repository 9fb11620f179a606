"""The agent's core: one `match` over what was said, one tick, and what the owner says.

The shell says what happened (`receive`, `tick`, `connected`, `lost`, `loaded`, `trained`, `governed` and others), and
what the owner wants (`publish_task`, `apply`, `review`, `set_consent`, `pause`, `set_settings` and others); almost all
return effects, to be done in order. What a task goes through stands in `task_life`, how one is learned in `learning`,
who takes a message that passes in `passing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.apps.applications import Applications
from grapevine_agent.core.apps.matching import said_of
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.governor.governing import Governing
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.overlay.answers import AnswerQuota
from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.clock_watch import ClockWatch
from grapevine_agent.core.overlay.filters import where_records_are
from grapevine_agent.core.overlay.gate import Gate
from grapevine_agent.core.overlay.gateway import Gateway
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.presence import Presence
from grapevine_agent.core.overlay.probes import Probes
from grapevine_agent.core.overlay.record_exchange import RecordExchange
from grapevine_agent.core.overlay.sleep import Sleep, asleep_for_s
from grapevine_agent.core.passing import Passing
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.core.tasks import statements
from grapevine_agent.core.tasks.archive import Archive
from grapevine_agent.core.tasks.blob_requests import BlobRequests
from grapevine_agent.core.tasks.bulks import Bulks
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.core.tasks.judging import Judgement
from grapevine_agent.core.tasks.model_requests import ModelRequests
from grapevine_agent.core.tasks.renewals import WITHDRAWAL_MS, due_renewals
from grapevine_agent.core.tasks.steward import Steward
from grapevine_agent.core.tasks.task_book import TaskBook
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import PeerTopic, TaskTopic, Topic


@dataclass(kw_only=True)
class AgentCore:
    """See the module's docstring."""

    settings: CoreSettings
    rng: np.random.Generator
    records: RecordBook = field(default_factory=RecordBook)
    book: TaskBook = field(default_factory=TaskBook)
    _started: bool = False
    _watched: set[str] = field(default_factory=set)  # tasks whose metrics the owner wants to see
    _renew_at_ms: float = math.inf
    _said: tuple[object, ...] = ()  # what our announcement was made of
    _clock: ClockWatch = field(default_factory=lambda: ClockWatch(Moment(0.0, 0)))

    def __post_init__(self) -> None:
        neighbours = self.settings.neighbours
        self.members = Members(
            self.settings.heartbeat_s,
            self.rng,
            named={*(neighbours or ()), *self.settings.trusted_servers},
            only_named=neighbours is not None,
            scope=self.settings.scope,
            location=self.settings.location,
        )
        self.presence = Presence(peer=self.settings.peer, heartbeat_s=self.settings.heartbeat_s)
        self.sleep = Sleep(plan=self.settings.sleep, rng=self.rng)
        self.brokers = Brokers(rng=self.rng)
        self.members.reach.brokers = self.brokers
        self.gateway = Gateway(
            peer=self.settings.peer,
            brokers=self.brokers,
            members=self.members,
            records=self.records,
            is_open=self.settings.is_gateway,
        )
        self.gate = Gate(peer=self.settings.peer, members=self.members)
        self.records.own = self.book.peer = self.settings.peer
        self.records.trust(self.settings.trusted_authors)
        self.brokers.trust(self.settings.trusted_authors, self.settings.peer)
        self.archive = Archive(records=self.records)
        self.governing = Governing(limits=self.settings.governor, is_silent=self.settings.role == "observer")
        self.tasks = TaskLife(
            settings=self.settings,
            members=self.members,
            records=self.records,
            book=self.book,
            rng=self.rng,
            governor=self.governing.governor,
        )
        self.steward = Steward(settings=self.settings, archive=self.archive, tasks=self.tasks)
        self.apps = Applications(settings=self.settings, members=self.members, archive=self.archive, tasks=self.tasks)
        quota = AnswerQuota()
        self.probes = Probes(members=self.members, presence=self.presence, quota=quota, brokers=self.brokers)
        self.exchange = RecordExchange(peer=self.settings.peer, rng=self.rng, quota=quota, records=self.records)
        self.models = ModelRequests(settings=self.settings, members=self.members, tasks=self.tasks, quota=quota)
        self.bulks = Bulks(tasks=self.tasks, models=self.models)
        self.blobs = BlobRequests(peer=self.settings.peer, members=self.members, tasks=self.tasks, quota=quota)
        self.passing = Passing(
            peer=self.settings.peer,
            brokers=self.brokers,
            members=self.members,
            presence=self.presence,
            probes=self.probes,
            exchange=self.exchange,
            tasks=self.tasks,
            models=self.models,
            bulks=self.bulks,
            blobs=self.blobs,
            watched=self._watched,
        )

    # --- starting ---------------------------------------------------------------------------------

    def start(
        self,
        records: Iterable[Received],
        consents: dict[str, bool],
        now: Moment,
        sequences: Mapping[Topic, int] | None = None,
    ) -> list[Effect]:
        """Begin, with what was kept of an earlier life; `sequences` are of records that ran out, the oldest first.

        What has no place any more, and what is not as its author signed it, is forgotten.
        """
        effects: list[Effect] = []
        for topic, sequence in (sequences or {}).items():
            if not self.records.remember(topic, sequence):
                effects.append(fx.ForgetSequence(topic=topic))
        for task, joined in consents.items():
            self.book.set_consent(task, joined)
        for received in records:
            effects += self._restore(received, now)
        self._started = True
        self._clock.last = now
        self.sleep.start(now)
        peer = self.settings.peer
        # What is said of us comes before all others' records: a double throws us out before those are through.
        inbox = (topics.inbox_of(peer), topics.chunks_for(peer), PeerTopic(peer, "state").below_root())
        self.tasks.assessor.mark_all()
        return [
            *effects,
            *self.apps.tick(now),
            *self.archive.forgotten([]),
            *(fx.Subscribe(filter=each) for each in inbox),
            *(fx.Subscribe(filter=each, records=True) for each in where_records_are(self.settings)),
            *self.steward.look(now, everything=True),
            *self._announce(now),
        ]

    def _before_accepting(self, received: Received) -> None:
        self.steward.before_accepting(received)
        self.apps.before_accepting(received)

    def _restore(self, received: Received, now: Moment) -> list[Effect]:
        effects: list[Effect] = []
        try:
            self._before_accepting(received)
            if self.archive.restore(received, now.wall_ms):
                effects = [*self._read_record(received, now), *self.steward.made_room(now)]
        except WireError as error:
            self.records.drop(received.topic)
            if error.reason == "expired":  # while we were away
                self.records.remember(received.topic, received.message.sequence)
        is_gone = self.records.get(received.topic) is None
        return [*effects, *(self.archive.forgotten([received]) if is_gone else ())]

    def connected(self, session: int, now: Moment, broker: int = 0, url: str = "") -> list[Effect]:
        """A broker took us in, under this session: say that we are there, again. `url`: as the scope names it."""
        if self.sleep.is_asleep:
            return []  # it was on its way; the connection ends
        self.brokers.connected(broker, now.monotonic_s, url)
        is_back = self.sleep.connected()
        if not self.presence.has_session(session):
            self.exchange.catching_up.connected()
            if not is_back:
                self._forget_told()
        if is_back:
            self.members.woke_up(now.monotonic_s)
            for learner in self.tasks.learning.values():
                learner.sending.woke_up(now)
        return [*self.presence.connected(session, now), *self._announce(now)]

    def lost(self, now: Moment, broker: int = 0) -> list[Effect]:
        """A broker was lost: whoever was met there alone cannot be reached now."""
        if self.sleep.is_away:
            self.brokers.lost(broker, now.monotonic_s)
            return []  # we left, which says nothing of anybody; what we had sent by then was received
        effects: list[Effect] = []
        self._forget_told()
        effects += self.gateway.lost(broker)
        for peer in sorted(self.brokers.lost(broker, now.monotonic_s)):
            self.members.lose_sight(peer)
            effects += self._hear_gone(peer)
        return effects

    def _forget_told(self) -> None:
        """What was under way is lost, perhaps."""
        for learner in self.tasks.learning.values():
            learner.sending.told.forget()

    def found(self, abilities: BrokerAbilities, now: Moment, broker: int = 0) -> list[Effect]:
        """What a broker that took us in does with what it retains: where it is not all, peers are asked."""
        abilities = self.brokers.found(broker, abilities)
        self.exchange.catching_up.found(abilities, now.monotonic_s)
        if not abilities.wildcard:
            self.members.overlook(now.monotonic_s)  # a roll call finds who is there
        return [*self._exchange(now), *self._announce(now)]

    def goodbye(self) -> list[Effect]:
        """Leave in good order: adverts and presence revoked, models saved."""
        return [*self.tasks.goodbye(), *self.governing.goodbye(), *self.presence.goodbye()]

    # --- what arrives -----------------------------------------------------------------------------

    def is_worth_reading(self, topic: Topic, num_bytes: int, now: Moment) -> bool:
        """Whether to verify what arrived. Raises `WireError` where strangers have used up what they may cost."""
        return self.gate.lets_in(topic, num_bytes, now.monotonic_s)

    def receive(self, received: Received, now: Moment, broker: int = 0) -> list[Effect]:
        """Take one verified message, which a broker brought.

        Raises `WireError` if it must be dropped. Nothing has changed then, except that a record whose
        content is wrong is held as its author's newest, and is not looked at again.
        """
        message = received.message
        own = message.sender == self.settings.peer
        if received.is_record:
            if own and not isinstance(message.body, m.TaskPublication | m.Review | m.ApplicationPublication):
                return self.presence.echoed(message.body, message.session, received.hops, now.monotonic_s)
            if isinstance(message.body, m.PeerState):
                state = self.brokers.hear_state(broker, received, now.wall_ms)
                if state is None:
                    return []
                asleep_s = asleep_for_s(
                    state,
                    created_at_ms=message.created_at_ms,
                    wall_ms=now.wall_ms,
                    is_fresh=not received.retained,
                )
                return self._hear_state(message.sender, state, message.session, now, asleep_s)
            self.exchange.came(received)
            self._before_accepting(received)
            if self.records.get(received.topic) is not None:
                self.heard_again(received.topic, broker)  # the broker has it, if only an older one
            try:
                is_news = self.archive.accept(received, now.wall_ms)
            except WireError as error:
                if error.reason == "over-quota":
                    self.apps.missed.turned_away(received)
                if self._is_left_behind(received, error.reason):
                    # It may be what the broker retains now: a bridge brings what another one held of before.
                    self.brokers.erased(broker, received.topic, now.monotonic_s)
                raise
            if not is_news:
                return []
            self.heard_again(received.topic, broker)
            self.brokers.spread(broker, now.monotonic_s)
            effects = self._read_record(received, now)
            self.exchange.changed(now.monotonic_s)
            effects += self.gateway.took(received)
            return [*self.archive.saved(received), *effects, *self.steward.made_room(now)]
        if own:
            return []
        self.passing.check(received, now)
        self.brokers.hear(broker, message.sender, now.monotonic_s)
        return self.fetched(received, now)

    def _is_left_behind(self, received: Received, reason: str) -> bool:
        """Whether what a broker brought is older than what we hold. Of equals nobody says which one came first."""
        held = self.records.get(received.topic)
        if held is None or reason not in ("stale", "expired", "retracted"):
            return False
        return reason == "retracted" or held.message.sequence > received.message.sequence

    def fetched(self, received: Received, now: Moment) -> list[Effect]:
        """The bulk of a message is here that was let in by its notice. Raises `WireError` as `receive` does."""
        effects = self.passing.read(received, now)
        begins = isinstance(received.message.body, m.Blob | m.ReleasedModel)  # a task, perhaps: then others are told
        return [*effects, *(self._announce(now) if begins else ())]

    def not_fetched(self, received: Received, why: str, now: Moment) -> list[Effect]:
        """The bulk of a message that was let in will not come."""
        apart = received.message.body
        assert isinstance(apart, m.Apart)
        return [*self.bulks.failed(received.message.sender, apart, why, now), *self._announce(now)]

    def packet_bytes_to(self, receiver: str, now: Moment) -> float:
        """The largest packet that gateways carry to a peer, in bytes; inf: none is between. "": to everybody."""
        if receiver and not self.brokers.is_far(receiver):
            return math.inf
        return self.members.carried_bytes(now.monotonic_s)

    def not_sent(self, task: str, receiver: str) -> None:
        """A message of a task found no room on its way out, or waited for too long: its receiver has not got it."""
        if (learner := self.tasks.learning.get(task)) is not None:
            learner.sending.not_sent(receiver)

    def held(self, topic: Topic, broker: int = 0) -> Received | None:
        """The record that is held of a topic; of a state, that of this broker."""
        if isinstance(topic, PeerTopic) and topic.leaf == "state":
            return self.brokers.said(broker, topic)
        return self.records.get(topic)

    def heard_again(self, topic: Topic, broker: int = 0) -> None:
        """A broker sent a record that is held already, to the byte: nothing new, but the broker has it."""
        self.brokers.has(broker, topic)
        self.brokers.forget_all_but(self.records)

    def _hear_state(
        self, peer: str, state: m.PeerState, session: int, now: Moment, asleep_s: float = 0.0
    ) -> list[Effect]:
        self.members.hear_state(peer, state, session, now.monotonic_s, asleep_s=asleep_s)
        if state.online:
            return []
        for learner in self.tasks.learning.values() if asleep_s else ():
            learner.sending.told.doubt(now.monotonic_s, peer)
        return self._hear_gone(peer)

    def _hear_gone(self, peer: str) -> list[Effect]:
        return [e for learner in self.tasks.learning.values() for e in learner.hear_peer_gone(peer)]

    def _read_record(self, received: Received, now: Moment) -> list[Effect]:
        sender = received.message.sender
        match received.message.body:
            case m.PeerAnnouncement() as announcement:
                self.members.hear_announcement(sender, announcement)
                self.exchange.hear(received, announcement, self.members.num_alive, now.monotonic_s)
                return []
            case m.TaskPublication() as publication:
                effects = self.steward.take_manifest(received, publication, now)
                assert isinstance(received.topic, TaskTopic)
                return [*effects, *self._judge(received.topic.task, now)]
            case m.Review() as review:
                effects = self.steward.take_review(received, review, now)
                if sender == self.settings.peer:
                    self._renew_at_ms = 0  # look when
                counts = sender in self.settings.review.reviewers
                effects += self._reviewed(sender, review, counts=counts)
                if counts:
                    effects += self.apps.reviewed(review.task)
                return [*effects, *(self._judge(review.task, now) if counts else ())]
            case m.ApplicationPublication() as application:
                effects = self.apps.take(received, application, now)
                is_due = self.apps.deadline_s() <= now.monotonic_s
                return [*effects, *(self._look_at_apps(now) if is_due else ())]
            case m.ServerAdvert(task=task) as advert:
                learner = self.tasks.learning.get(task)
                if learner is None:
                    return []
                dated_ms = max(received.message.session, received.message.created_at_ms)
                return learner.hear_advert(sender, advert, now, retained=received.retained, dated_ms=dated_ms)
        return []

    def _reviewed(self, reviewer: str, review: m.Review, *, counts: bool) -> list[Effect]:
        """What is told of a verdict that is news: strangers can make any number of them, and are not told of."""
        entry, own = self.book.entries.get(review.task), reviewer == self.settings.peer
        if entry is None or not self._started or not (counts or own or self.members.is_member(reviewer)):
            return []
        return [
            ev.Reviewed(
                task=entry.id,
                label=entry.brief.label,
                reviewer=reviewer,
                approved=review.approved,
                withdrawn=review.withdrawn,
                reason=review.reason,
                counts=counts,
            )
        ]

    def erased(self, topic: Topic, now: Moment, broker: int = 0) -> list[Effect]:
        """Somebody erased a retained record. That says nothing: whoever holds it announces it again."""
        if isinstance(topic, PeerTopic) and topic.peer == self.settings.peer:
            self.presence.erased(topic.leaf, now.monotonic_s)
        elif self.records.get(topic) is not None or topics.writer_of(topic) == self.settings.peer:
            self.brokers.erased(broker, topic, now.monotonic_s)
        return []

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: Moment) -> list[Effect]:
        """Time passed."""
        self.members.wall_ms = now.wall_ms
        effects = [*self._clock.tick(now, self.presence, self.settings), *self._sleep_or_wake(now)]
        is_away = self.sleep.is_away
        if not is_away:
            effects += [*self.probes.tick(now.monotonic_s), *self.members.tick(now.monotonic_s)]
            effects += self.members.changes()
        effects += self._look(now)
        was_set_back = self._clock.was_set_back
        if self.settings.renew_reviews and (was_set_back or now.wall_ms >= self._renew_at_ms):
            due, self._renew_at_ms = due_renewals(
                self.book,
                self.settings.peer,
                now.wall_ms,
                was_set_back=was_set_back,
                applications=self.apps.book.by_id,
            )
            effects += [statements.verdict(self.settings.peer, review, review.valid_until_ms) for review in due]
        effects += self.presence.tick(self._progress(), now.monotonic_s)
        effects += self.brokers.due(self.records, now.monotonic_s)
        effects += self.governing.tick(now)
        effects += self.tasks.tick(now)
        if is_away:
            return effects
        for peer in self.members.sleepers.take_woken():
            effects += (e for learner in self.tasks.learning.values() for e in learner.sending.woke(peer, now))
        effects += self.gateway.tick(now.monotonic_s)
        effects += self._exchange(now)
        effects += self._announce(now)
        return effects

    def _sleep_or_wake(self, now: Moment) -> list[Effect]:
        match self.sleep.tick(now):
            case "sleeps":
                self.members.fell_asleep(now.monotonic_s)
                for learner in self.tasks.learning.values():
                    learner.sending.told.doubt(now.monotonic_s)
                for_s = (self.sleep.until_ms - now.wall_ms) / 1000
                return [ev.FellAsleep(for_s=for_s), *self.presence.fall_asleep(self.sleep.until_ms), fx.FallAsleep()]
            case "wakes":
                return [ev.WokeUp(), fx.WakeUp()]
        return []

    def _exchange(self, now: Moment) -> list[Effect]:
        if self.sleep.is_away:
            return []
        effects, is_repeated = self.exchange.tick(len(self.members.peers), now.monotonic_s)
        if is_repeated:
            self.presence.repeat(now.monotonic_s)
        return effects

    def data_judged(self, now: Moment) -> list[Effect]:
        """More is known of the owner's data than before."""
        return self.steward.look_at_data(now)

    def deadline_s(self) -> float:
        """When `tick` has something to do next, monotonic."""
        times = [
            self.steward.deadline_s(),
            self._monotonic_s(self.steward.next_change_ms),
            self.apps.deadline_s(),
            self.sleep.deadline_s(),
            self.presence.deadline_s(),
            self.brokers.deadline_s(),
            self.governing.deadline_s(self._clock.last),
            *self.tasks.deadlines_s(),
        ]
        if not self.sleep.is_away:
            others = self.members.deadline_s(self._clock.last.monotonic_s)
            times += [others, self.gateway.deadline_s(), self.exchange.deadline_s()]
        if self.settings.renew_reviews:
            times.append(self._monotonic_s(self._renew_at_ms))
        return min(times)

    def _monotonic_s(self, wall_ms: float) -> float:
        """Turns a deadline of the wall clock into a monotonic one."""
        return self._clock.last.monotonic_s + max(0.0, wall_ms - self._clock.last.wall_ms) / 1000

    def _look(self, now: Moment) -> list[Effect]:
        return [*self.apps.tick(now), *self.steward.tick(now), *self._announce(now)]

    def _look_at_apps(self, now: Moment) -> list[Effect]:
        if not self._started:
            return []  # looked at once, when all that was kept has been read
        return [*self.apps.tick(now), *self.steward.look(now), *self._announce(now)]

    def component_told(self, key: str, *, is_running: bool, why: str, now: Moment) -> list[Effect]:
        """How a container is doing that `RunContainer` has asked for; `why` it does not run."""
        self.apps.told(key, is_running=is_running, why=why, now=now)
        return self._look_at_apps(now)

    def _progress(self) -> tuple[m.TaskProgress, ...]:
        return tuple(
            m.TaskProgress(
                task=task,
                version=learner.model.version,
                age=learner.model.age,
                best=learner.best.figure(learner.model.round),
            )
            for task, learner in islice(self.tasks.learning.items(), m.MAX_TASKS)
        )

    # --- the governor -----------------------------------------------------------------------------

    def governed(self, readings: Readings, now: Moment) -> list[Effect]:
        """What the sensors say now: training pauses, slows down or goes on by it."""
        return [*self.governing.read(readings, now), *self.tasks.tick(now)]

    def pause(self, task: str, for_s: float | None, now: Moment) -> list[Effect]:
        """The owner pauses the training of a task, or with "" of all; `for_s` None: until it is resumed."""
        label = self.book.entries[task].brief.label if task in self.book.entries else task
        return [*self.governing.pause(task, label, for_s, now), *self.tasks.tick(now)]

    def resume(self, task: str, now: Moment, *, keeps_single: bool = False) -> list[Effect]:
        """The owner ends a pause of a task, or with "" every one, or that of all alone. Other limits go on to hold."""
        return [*self.governing.resume(task, now, keeps_single=keeps_single), *self.tasks.tick(now)]

    # --- training ---------------------------------------------------------------------------------

    def trained(self, result: fx.Trained, now: Moment) -> list[Effect]:
        """A training step finished."""
        ended = self._look(now)  # a step that ends after its task is thrown away
        learner = self.tasks.learning.get(result.task)
        return [*ended, *(learner.trained(result, now) if learner else ())]

    def evaluated(self, evaluation: fx.Evaluated, now: Moment) -> list[Effect]:
        """An evaluation finished."""
        learner = self.tasks.learning.get(evaluation.task)
        return learner.evaluated(evaluation, now) if learner else []

    # --- the life of a task -----------------------------------------------------------------------

    def judgement(self, entry: TaskEntry, now: Moment) -> Judgement:
        """What this agent makes of a task."""
        return self.tasks.assessor.judgement(entry, now)

    def why_not(self, entry: TaskEntry, now: Moment) -> list[str]:
        """Why the task is not joined; empty if it is, or is about to be."""
        return self.tasks.assessor.why_not(entry, now)

    def loaded(
        self,
        task: str,
        saved: fx.SavedModel | None,
        weights: bytes | None,
        now: Moment,
        inherited: fx.SavedModel | None = None,
        error: str = "",
    ) -> list[Effect]:
        """What the store holds of a joined task, or of an earlier one, if anything; `error`: it cannot say."""
        return [*self.tasks.loaded(task, saved, weights, now, inherited, error), *self._announce(now)]

    def _judge(self, task: str, now: Moment) -> list[Effect]:
        entry = self.book.entries.get(task)
        if entry is None or not self._started:
            return []  # judged once, when all that was kept has been read
        return [*self.steward.judge(entry, now), *self._announce(now)]

    # --- what the owner says ----------------------------------------------------------------------

    def publish_task(self, manifest: bytes, weights: bytes, expires_at_ms: int) -> tuple[str, list[Effect]]:
        """Publish a manifest of our own. Returns the task's id and the effects."""
        return statements.publication(self.settings.peer, manifest, weights, expires_at_ms)

    def review(self, task: str, *, approved: bool, reason: str, valid_until_ms: int) -> list[Effect]:
        """Publish a verdict of our own, on a task or an application."""
        review = m.Review(task=task, approved=approved, reason=reason, valid_until_ms=valid_until_ms)
        return [statements.verdict(self.settings.peer, review, valid_until_ms)]

    def revoke(self, task: str, *, reason: str, now: Moment) -> list[Effect]:
        """Take our own verdict back: from now on we say nothing of the task, or application."""
        withdrawal = m.Review(task=task, approved=False, reason=reason, withdrawn=True)
        return [statements.verdict(self.settings.peer, withdrawal, now.wall_ms + WITHDRAWAL_MS)]

    def set_settings(self, settings: CoreSettings, now: Moment) -> list[Effect]:
        """The owner changed what can change while we run (see `config/changes`): judge every task again, at once."""
        self.settings = self.models.settings = settings
        self._renew_at_ms = 0  # look when
        self.brokers.trust(settings.trusted_authors, settings.peer)
        self.apps.set_settings(settings)
        governed = [*self.governing.change(settings.governor, now), *self.apps.tick(now)]
        return [*governed, *self.steward.set_settings(settings, now), *self._announce(now)]

    def set_consent(self, task: str, joined: bool, now: Moment) -> list[Effect]:
        """The owner joins or leaves a task."""
        effects = self.steward.set_consent(task, joined, now)
        return [fx.SaveConsent(task=task, joined=joined), *effects, *self._announce(now)]

    def retract(self, task: str, reason: str) -> list[Effect]:
        """Take a task of our own back, for good."""
        return [statements.retraction(self.settings.peer, task, reason)]

    def apply(self, spec: bytes, name: str) -> list[Effect]:
        """Publish an application of our own, or its next version."""
        return [statements.application(self.settings.peer, name, spec)]

    def delete_application(self, name: str, reason: str, now: Moment) -> list[Effect]:
        """Take an application of our own back. What runs of it ends."""
        return [statements.deletion(self.settings.peer, name, reason, now.wall_ms + WITHDRAWAL_MS)]

    def watch(self, task: str) -> list[Effect]:
        """Listen to the metrics of a task's members, until `unwatch`."""
        if task in self._watched:
            return []
        self._watched.add(task)
        return [fx.Subscribe(filter=topics.of_task(task, "metrics"), qos=0)]

    def unwatch(self, task: str) -> list[Effect]:
        """The owner has seen enough of a task."""
        self._watched.discard(task)
        return [fx.Unsubscribe(filter=topics.of_task(task, "metrics"))]

    def _announce(self, now: Moment) -> list[Effect]:
        said = (
            self.settings,
            self.tasks.tasks()[: m.MAX_TASKS],
            self.exchange.catching_up.lacks,
            self.exchange.catching_up.said,
            self.brokers.packet_bytes if self.settings.is_gateway else 0,
            self.apps.offers(),
            self.apps.running(),
        )
        if said != self._said:
            self._said = said
            settings, tasks, lacks, records, carries, offers, running = said
            self._announcement = replace(
                said_of(settings),
                tasks=tasks,
                lacks=lacks,
                records=records,
                carries=carries,
                offers=offers,
                running=running,
            )
        return self.presence.announce(self._announcement, now)
