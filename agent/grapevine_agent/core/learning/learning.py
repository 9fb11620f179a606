"""One task, learned by one member: rounds, merges, gossip and the optional servers.

Two processes run side by side and never wait for each other (Algorithm 1 of the scale-robust paper):

    rounds    merge what was gathered → release → snapshot → train → *add* the change to the model
    gossip    at the ticks of a Poisson clock, send the model to a member chosen at random

Pairwise strategies merge an update the moment it arrives, gathered ones at the next round (or when
the trainer keeps them waiting for longer than a round should take). While a server is reachable each
finished round goes to it, and while servers *serve* gossip slows down (see `server_link`); nothing else depends on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core import events as ev
from grapevine_agent.core.effects import (
    Effect,
    Evaluated,
    Publish,
    SavedModel,
    SaveMetrics,
    SaveModel,
    StartTrainer,
    StopTrainer,
    Train,
    Trained,
)
from grapevine_agent.core.governor.energy import Energy
from grapevine_agent.core.governor.governor import Governor
from grapevine_agent.core.learning.best import BestModel, Held
from grapevine_agent.core.learning.encodings import Encodings
from grapevine_agent.core.learning.gossip import staleness_bound
from grapevine_agent.core.learning.keeping import Keeper, SaveBudget
from grapevine_agent.core.learning.merging import Merging
from grapevine_agent.core.learning.model_state import ModelState, without_negative_variances
from grapevine_agent.core.learning.pace import Pace
from grapevine_agent.core.learning.patience import Patience
from grapevine_agent.core.learning.paused import Paused
from grapevine_agent.core.learning.receipts import Receipts
from grapevine_agent.core.learning.reports import measured_of, metrics_of
from grapevine_agent.core.learning.rest import Rest
from grapevine_agent.core.learning.rollback import Rollback
from grapevine_agent.core.learning.sending import Sending
from grapevine_agent.core.learning.server_check import check_date
from grapevine_agent.core.learning.server_claims import check_number
from grapevine_agent.core.learning.server_link import ServerLink, best_state
from grapevine_agent.core.learning.setbacks import Trials
from grapevine_agent.core.learning.told import Told
from grapevine_agent.core.learning.update_writer import UpdateWriter
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.merge.plan import form_of_updates, sums_changes
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import ModelUpdate, ServerAdvert, ServerModel, plain
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.layout import ModelLayout

MOST_SOURCES = 20  # named in a status


@dataclass(kw_only=True)
class Learning:
    """See the module's docstring."""

    task: str
    manifest: TaskManifest
    settings: CoreSettings
    members: Members
    layout: ModelLayout
    model: ModelState
    started: Moment
    rng: np.random.Generator
    steps_before: int = 0  # see `Claims`
    budget: SaveBudget | None = None  # of all tasks of this agent; None: this one is alone
    governor: Governor = field(default_factory=Governor)  # of this agent
    is_saved: bool = False  # the model comes from the disk
    saved_best: SavedModel | None = None  # and beside it lay this one
    fallback: ModelState | None = None  # to begin again with, if the model that somebody gave cannot be trained
    servers: dict[str, ServerLink] = field(default_factory=dict)
    training: Train | None = None  # the snapshot that the trainer is at work on
    trials: Trials = field(default_factory=Trials)
    loss: float | None = None  # of the last training step; None before there was one
    evaluation: Evaluated | None = None
    paused: Paused = field(default_factory=Paused)
    _next_round_s: float = 0.0
    _first_version: int = 0  # what the model came with

    def __post_init__(self) -> None:
        plan = self.manifest.merging
        self._first_version = self.model.version
        self.energy = Energy(watts_training=self.settings.limits.watts_training)
        for peer in sorted({*self.manifest.servers, *self.settings.trusted_servers} - {self.settings.peer}):
            self.servers[peer] = ServerLink(peer)
        form = form_of_updates(plan)
        self.encodings = Encodings.of(plan, self.settings.encoding)
        self.pace = Pace.of(self.manifest, self.settings, self.layout, form, self.encodings)
        self.merging = Merging(
            task=self.task,
            peer=self.settings.peer,
            manifest=self.manifest,
            members=self.members,
            layout=self.layout,
            model=self.model,
            servers=self.servers,
            started=self.started,
            rng=self.rng,
            round_interval_s=self.pace.round_interval_s,
            steps_before=self.steps_before,
            max_share=self.settings.max_share,
            max_pending=self.settings.max_pending,
            judge_updates=self.settings.judge_updates,
            memory_mb=self.settings.limits.memory_mb,
        )
        self.writer = UpdateWriter(
            task=self.task,
            update_form=form,
            sources=self.merging.sources,
            encodings=self.encodings,
            sums_deltas=sums_changes(plan),
        )
        self.receipts = Receipts(task=self.task, peer=self.settings.peer)
        self.rest = Rest(heartbeat_s=self.settings.heartbeat_s)
        self.sending = Sending(
            task=self.task,
            plan=plan,
            settings=self.settings,
            members=self.members,
            servers=self.servers,
            model=self.model,
            merging=self.merging,
            pace=self.pace,
            rest=self.rest,
            writer=self.writer,
            label=self.manifest.label,
            governor=self.governor,
            told=Told(heartbeat_s=self.settings.heartbeat_s, counts_windows=form == "delta"),
            rng=self.rng,
        )
        budget = self.budget or SaveBudget(save_every_s=self.settings.save_every_s)
        self.best = BestModel.of(self.task, self.manifest.training.metric, self.saved_best, self.layout)
        self.rollback = Rollback(best=self.best)
        self.patience = Patience(task=self.task, manifest=self.manifest, best=self.best)
        self.keeper = Keeper(budget=budget, kept=self.save() if self.is_saved else None, kept_best=self.best.to_save())

    def set_settings(self, settings: CoreSettings) -> None:
        """The owner changed something; the pace and the encodings stay as the task began."""
        self.settings = self.sending.settings = settings
        self.merging.turn_judging(is_on=settings.judge_updates)

    # --- what arrives -----------------------------------------------------------------------------

    def accept(self, sender: str, update: ModelUpdate, now: Moment, session: int = 0) -> list[Effect]:
        """Take a member's update, of this session of it. Raises `WireError` if it is not fit to be merged."""
        self._check_scope(sender)
        with self.receipts.lacking(sender, session):
            held = self.merging.accept(sender, update, now, session)
        if self.rest.is_news(self.model):
            self._next_round_s = now.monotonic_s
            self.sending.arm(now)
        receipts = [self.receipts.give(sender, session, held)] if held else []
        answers = self.sending.answer(sender, update, now)
        return [*self.merging.take_told(), *receipts, *answers, *self.sending.after_merge(now)]

    def foresee(self, sender: str, update: ModelUpdate, now: Moment, session: int) -> None:
        """Raise `WireError` for an update that would not be taken, as far as that shows without its vectors."""
        self._check_scope(sender)
        with self.receipts.lacking(sender, session):
            self.merging.foresee(sender, update, now, session)

    def _check_scope(self, sender: str) -> None:
        if why := self.members.reach.why_out(sender):
            raise WireError("out-of-scope", f"an update of {self.task} by {sender}, which {why}")

    def accept_server_model(self, sender: str, received: ServerModel, now: Moment, session: int = 0) -> list[Effect]:
        """Take a server's model. Raises `WireError` if the sender is not authorised, or the model does not fit."""
        link = self._link(sender)
        check_number(sender, received.model_version, self.manifest, self.started, now)
        try:
            received = self.merging.intake.server_model(sender, received, now.monotonic_s)
            is_believed = self._believes(link, received, now)
        except WireError as error:
            if error.reason != "over-quota":  # that says nothing of the model
                link.refuse(error.reason)
            raise
        if is_believed:
            link.hear_model(received, self.settings.peer, session, now.wall_ms, now.monotonic_s)
        else:
            link.is_awaited = True
        link.hear_life(now.monotonic_s)
        return []

    def _believes(self, link: ServerLink, received: ServerModel, now: Moment) -> bool:
        if received.members and self.settings.peer not in received.members:
            return True  # another cluster's, and far away; the link knows what to do with it
        own, model, check = self.model.parameters, plain(received.full), self.merging.server_check
        others = [plain(each.model.full) for each in self.servers.values() if each is not link and each.model]
        return check.believes(
            link.peer, own, model, now, has_voice=link.model is not None, was_refused=bool(link.refused), others=others
        )

    def hear_advert(
        self, sender: str, advert: ServerAdvert, now: Moment, *, retained: bool, dated_ms: int = 0
    ) -> list[Effect]:
        """Take a server's record. Raises `WireError` if it is not authorised, or its date cannot be."""
        link = self._link(sender)
        check_date(sender, dated_ms, self.manifest.created_at_ms, now.wall_ms)
        check_number(sender, advert.model_version, self.manifest, self.started, now)
        before = link.state
        link.hear_advert(advert, now.monotonic_s, retained=retained)
        return self._server_changed(link, before)

    def hear_life(self, peer: str, now: Moment) -> list[Effect]:
        """A heartbeat: it may be a server's."""
        link = self.servers.get(peer)
        if link is None:
            return []
        before = link.state
        link.hear_life(now.monotonic_s)
        return self._server_changed(link, before)

    def hear_peer_gone(self, peer: str) -> list[Effect]:
        """A peer's will or goodbye: it may have been a server."""
        link = self.servers.get(peer)
        if link is None:
            return []
        before = link.state
        link.hear_gone()
        return self._server_changed(link, before)

    def check_server(self, sender: str) -> None:
        """Raise `WireError` unless this is a server of the task."""
        self._link(sender)

    def _link(self, sender: str) -> ServerLink:
        if sender not in self.servers:
            raise WireError("unauthorised-server", f"{sender} is no server of {self.manifest.label}")
        return self.servers[sender]

    # --- rounds -----------------------------------------------------------------------------------

    def tick(self, now: Moment) -> list[Effect]:
        """Time passed: merge, start a round, gossip, save, whichever is due."""
        effects: list[Effect] = [*self.receipts.due(), *self._obey(now)]
        effects += self.merging.shadow.take_asked(may_ask=not self.paused.holds and not self.trials.failure)
        for link in self.servers.values():
            before = link.state
            link.tick(now.monotonic_s)
            effects += self._server_changed(link, before)
        self.sending.look_at_servers(now)
        waits = self.training is not None or self.paused.holds
        if now.monotonic_s >= self.merging.merge_by_s and waits:
            self.merging.merge_gathered(now)
            effects += [*self.merging.take_told(), *self.sending.after_merge(now)]
        if not waits and not self.trials.failure and now.monotonic_s >= self._next_round_s:
            effects += self._start_round(now)
        if self.sending.clock.next_s == math.inf:
            self.sending.arm(now)
        if self.sending.clock.due(now.monotonic_s):
            effects += self.sending.due(now)
            self.sending.arm(now)
        effects += self.sending.offer(now)
        if now.monotonic_s >= self.keeper.next_s:
            effects += self.keeper.due(self.save(), now.monotonic_s, self.best.to_save())
        return effects

    def deadline_s(self) -> float:
        """When `tick` has something to do next, monotonic."""
        if self.receipts.are_due or self.merging.shadow.is_due:
            return 0.0
        times = [
            self.sending.clock.next_s,
            self.sending.offers.deadline_s(),
            self.keeper.next_s,
            self.paused.release_s,
        ]
        if self.training is not None or self.paused.holds:
            times.append(self.merging.merge_by_s)
        elif not self.trials.failure:
            times.append(self._next_round_s)
        return min(times)

    def _obey(self, now: Moment) -> list[Effect]:
        """Do as the governor says: what is to be ended because a pause goes on."""
        if not self.paused.look(self.governor.budget(self.task), now.monotonic_s):
            return []
        self.training = None
        again = StartTrainer(task=self.task, manifest=self.manifest)  # it starts when it is asked next
        return [StopTrainer(task=self.task), again]

    def _start_round(self, now: Moment) -> list[Effect]:
        model, plan = self.model, self.manifest.training
        effects: list[Effect] = []
        if not self.members.is_away:  # alone we are no majority
            effects += self.patience.look(model.round, self.targets(now), self.members.peers)
        trains = (not plan.num_rounds or model.version < plan.num_rounds) and not self.patience.is_enough
        # When training is over every round is a window of its own: Delta Sum's convergence rounds.
        if not trains or model.round % self.manifest.merging.window_rounds == 0:
            self.merging.end_window(now)
            if not self.merging.strategy.pairwise:
                self.writer.open_window()
            effects += [*self.merging.take_told(), *self.sending.after_merge(now)]
        model.round += 1
        model.release(self.manifest.merging.ema, self.merging.release_step(self.num_members(now)))
        if self.rest.begin_round(model, trains=trains):
            self.sending.arm(now)
        interval_s = self.rest.round_interval_s(self.pace.round_interval_s)
        if not trains:
            self.merging.shadow.rest()
        if trains:  # a duty cycle is kept to by the rest after each step
            interval_s *= self.governor.budget(self.task).interval_factor
        self._next_round_s = max(now.monotonic_s, self._next_round_s) + interval_s
        if trains:
            self.training = Train(
                task=self.task,
                parameters=model.parameters,
                buffers=model.buffers,
                num_steps=plan.steps_per_round,
                age=model.schedule_age,
            )
            effects.append(self.training)
        else:
            effects += self.sending.after_round(now)
        if model.round % self.settings.evaluate_every_rounds == 0 and self.rest.evaluates(model.released):
            effects.append(model.to_evaluate(self.task))
        return effects

    def trained(self, result: Trained, now: Moment) -> list[Effect]:
        """A training step finished, or failed: then the model stays as it is."""
        snapshot, self.training = self.training, None
        if snapshot is None:
            return []
        if result.seconds or not result.error:  # what failed took its time, too
            self.governor.trained(result.seconds, self.energy.spent(result.seconds, result.joules))
        if result.error or result.parameters is None or result.buffers is None:
            failed = self._failed("training", result.error)
            self._next_round_s = now.monotonic_s + self.trials.pause_s("training")
            if self.fallback is not None and self.trials.is_last_chance("training"):
                self.model.begin_again(self.fallback.parameters, self.fallback.buffers)
                self.merging.server_check.forget()
            return [failed]
        self.trials.succeeded("training")
        self.fallback = None
        model = self.model
        if self.merging.strategy.pairwise:
            model.base = snapshot.parameters  # the model before its last training: what Chisme's Δ are taken from
            model.window += 1
            self.writer.open_window()
        model.add_training(
            start=snapshot.parameters,
            end=result.parameters,
            start_buffers=snapshot.buffers,
            end_buffers=result.buffers,
        )
        self.merging.trained(snapshot.parameters, result.parameters, result.num_steps, result.num_samples)
        model.buffers = without_negative_variances(self.layout, model.buffers)
        model.age += result.num_steps
        model.steps += result.num_steps
        model.experience += result.num_samples
        model.processed += result.num_samples
        model.samples = result.dataset_size
        model.version += 1
        self.loss = result.loss
        budget = self.governor.budget(self.task)
        rests_until_s = now.monotonic_s + (budget.slow_factor - 1.0) * result.seconds
        self._next_round_s = max(self._next_round_s, rests_until_s)
        return [self._trained(result), *self.sending.to_servers(now), *self.sending.after_round(now)]

    def _trained(self, result: Trained) -> ev.Trained:
        model = self.model
        return ev.Trained(
            task=self.task,
            label=self.manifest.label,
            round=model.round,
            version=model.version,
            age=model.age,
            num_steps=result.num_steps,
            num_samples=result.num_samples,
            loss=result.loss,
            seconds=result.seconds,
            joules=self.energy.round_j,
        )

    def evaluated(self, evaluation: Evaluated, now: Moment) -> list[Effect]:
        """An evaluation came back: of the released model to report it, of another one to act on it."""
        if evaluation.of is not None and evaluation.of.which == "shadow":
            self.merging.measured(evaluation.of.sender, evaluation)
            return [*self.merging.take_told()]
        is_best = evaluation.of is not None and evaluation.of.which == "best"
        again = self.best.judge(evaluation, self.merging.contributions) if is_best or not evaluation.error else []
        if is_best:
            return self._roll_back(self.rollback.measured_again(evaluation))
        if evaluation.error:
            return [self._failed("evaluation", evaluation.error)]
        self.trials.succeeded("evaluation")
        self.evaluation = evaluation
        metrics = metrics_of(self, now)
        return [
            Publish(topic=TaskTopic(self.settings.peer, self.task, "metrics"), body=metrics, qos=0),
            SaveMetrics(metrics=metrics),
            measured_of(self, metrics, now),
            *(again or (self.rollback.look(evaluation) if self.settings.judge_updates else ())),
        ]

    def _roll_back(self, held: Held | None) -> list[Effect]:
        """Go back to the best model: see `rollback`."""
        if held is None:
            return []
        model, asked = self.model, held.asked
        lost, model.age = model.age, min(model.age, asked.age)
        model.parameters = model.released = asked.parameters
        model.buffers = model.released_buffers = asked.buffers
        model.base = None  # of the model that was left: a change from it would be one that nobody has found
        model.window += 1
        self.writer.open_window()
        self.merging.forget_what_waits()
        return [
            ev.RolledBack(
                task=self.task,
                label=self.manifest.label,
                round=model.round,
                to_round=asked.round,
                age=model.age,
                lost_age=lost,
                metric_name=self.manifest.training.metric,
                metric=held.metric,
            )
        ]

    def _failed(self, kind: str, error: str) -> ev.Failed:
        num = self.trials.failed(kind, error)
        is_set_back = self.trials.failure is not None
        return ev.Failed(
            task=self.task, label=self.manifest.label, what=kind, error=error, num=num, is_set_back=is_set_back
        )

    # --- sending ----------------------------------------------------------------------------------

    @property
    def num_sent(self) -> int:
        """Updates sent so far."""
        return self.sending.num_sent

    def send_rate(self, now: Moment) -> float:
        """Gossip sends per second, at present."""
        return self.sending.rate(now)

    def targets(self, now: Moment) -> list[str]:
        """The members that gossip can reach now, sorted."""
        return self.sending.everybody(now)

    # --- telling ----------------------------------------------------------------------------------

    def save(self) -> SaveModel:
        """The effect that keeps the model across a restart."""
        vectors, counters = self.model.to_save()
        return SaveModel(task=self.task, vectors=vectors, counters=counters)

    def save_changed(self) -> list[Effect]:
        """What of the models is not kept as it is, at the end of the task or of the service."""
        return [*self.keeper.if_changed(self.save(), self.best.to_save())]

    def server_state(self) -> str:
        """The best that can be said of any of the task's servers."""
        return best_state(self.servers)

    @property
    def energy_j(self) -> float | None:
        """What training has drawn; None where nobody knows what the device draws."""
        return self.energy.known_j

    def staleness(self, now: Moment) -> float | None:
        """Mean staleness over the live members whose version is known, in versions; None where none is."""
        return self.merging.sources.mean_staleness(self._known_versions(now))

    def most_stale(self, now: Moment) -> dict[str, int]:
        """By how many versions the model lags behind live members, the furthest ahead of it first, at most 20."""
        lags = self.merging.sources.lags(self._known_versions(now))
        return dict(sorted(lags.items(), key=lambda each: (-each[1], each[0]))[:MOST_SOURCES])

    def _known_versions(self, now: Moment) -> dict[str, int]:
        peers = self.members.peers
        return {
            peer: peers[peer].versions[self.task] for peer in self.targets(now) if self.task in peers[peer].versions
        }

    def num_members(self, now: Moment) -> int:
        """N, this one included: how many members there are, for all that rates are made of."""
        return 1 + self.sending.targets(now).num_counted

    def staleness_bound(self, now: Moment) -> float:
        """Lemma 1's bound on the staleness at present rates, in versions.

        Others are taken to be as fast as we are: where training outlasts the round interval, our own updates so far
        say how many there are in a second.
        """
        update_rate = 1.0 / self.pace.round_interval_s
        made, elapsed_s = self.model.version - self._first_version, now.monotonic_s - self.started.monotonic_s
        if made > 0 and elapsed_s > 0:
            update_rate = min(update_rate, made / elapsed_s)
        return staleness_bound(
            num_members=self.num_members(now),
            update_rate=update_rate,
            send_rate=self.send_rate(now),
        )

    def _server_changed(self, link: ServerLink, before: str) -> list[Effect]:
        if link.state == before:
            return []
        return [
            ev.ServerChanged(
                task=self.task, label=self.manifest.label, server=link.peer, state=link.state, before=before
            ),
        ]
