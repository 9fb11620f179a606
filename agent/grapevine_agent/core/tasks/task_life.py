"""The life of each task in one agent: joined, supplied with weights, learned or served, ended.

judged well ─▶ joining: LoadTask
                 ├─ a saved model ──────────────────────────────┐
                 ├─ initial weights on disk ────────────────────┤
                 └─ neither: BlobRequest to whoever has them, ──┤
                    the publisher or a member, until one answers│
                    (after `IN_VAIN_S` without its room)        │
                 initial weights, and others are there already: │
                 one of them is asked for its model (newcomers) ┴─▶ Learning (members)
                                                                     or Aggregator (servers)
judged badly, left, failed ─▶ saved, trainer stopped; what failed is tried again after a pause (see `setbacks`)

What ends a task ends it at once: the step that the trainer is at work on is thrown away, and what
waits to be sent is not sent. The model that is saved is the one before that step.

A new version of a task begins from the model that this agent has trained in an earlier one, if it fits
(see `lineage`). The earlier version is left as soon as the new one is learned here, and not joined any
more while the new one could be.

Whether to join and when to end is said by the `steward`; what ends by itself is a task that fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.governor.governor import Governor
from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.intake import Claims
from grapevine_agent.core.learning.keeping import SaveBudget
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.learning.setbacks import Failure, Setback
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.core.tasks import lineage
from grapevine_agent.core.tasks.assessor import Assessor
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.core.tasks.newcomers import Newcomer, may_have_crowds_model
from grapevine_agent.core.tasks.reservations import Reservations
from grapevine_agent.core.tasks.task_book import TaskBook
from grapevine_agent.core.tasks.weights_wanted import WeightsWanted
from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.apart import apart
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import InboxTopic, TaskTopic
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import load_initial, sha256

LOADING = "loading"  # the kind of a failure to read what was saved


@dataclass
class _Joining:
    """A task that was joined, on its way to its weights."""

    wanted: WeightsWanted
    inherited: fx.SavedModel | None = None  # of an earlier version that this agent trained once
    newcomer: Newcomer | None = None  # the weights are here, and somebody is asked for a trained model


@dataclass(kw_only=True)
class TaskLife:
    """See the module's docstring."""

    settings: CoreSettings
    members: Members
    records: RecordBook
    book: TaskBook
    rng: np.random.Generator
    learning: dict[str, Learning] = field(default_factory=dict)
    aggregating: dict[str, Aggregator] = field(default_factory=dict)
    governor: Governor = field(default_factory=Governor)
    _joining: dict[str, _Joining] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reservations = Reservations(limits=self.settings.limits)
        self.budget = SaveBudget(
            save_every_s=self.settings.save_every_s, bytes_per_day=self.settings.save_bytes_per_day
        )
        self.assessor = Assessor(
            settings=self.settings,
            book=self.book,
            learning=self.learning,
            aggregating=self.aggregating,
            joining=self._joining,
            reservations=self.reservations,
        )

    def tasks(self) -> tuple[str, ...]:
        """The tasks that this agent takes part in, or is about to begin with, sorted."""
        beginning = (task for task, joining in self._joining.items() if joining.newcomer is not None)
        return tuple(sorted({*self.learning, *self.aggregating, *beginning}))

    def is_beginning(self, task: str) -> bool:
        """Whether this agent waits for a member's model to begin a task with."""
        joining = self._joining.get(task)
        return joining is not None and joining.newcomer is not None

    def all_parts(self) -> tuple[str, ...]:
        """The tasks that this agent takes part in, or is on its way to."""
        return (*self._joining, *self.learning, *self.aggregating)

    def model_bytes(self, task: str) -> int:
        """What the model of a task takes that this agent takes part in; 0 of any other."""
        part = self.learning.get(task) or self.aggregating.get(task)
        return part.model.parameters.nbytes + part.model.buffers.nbytes if part is not None else 0

    def largest_model_bytes(self) -> int:
        """What the largest of the models takes."""
        return max(map(self.model_bytes, (*self.learning, *self.aggregating)), default=0)

    # --- joining and ending -----------------------------------------------------------------------

    def join(self, entry: TaskEntry, why: str) -> list[Effect]:
        """Take part in a task, as soon as its weights are here."""
        wanted = entry.head.initial_weights
        self._joining[entry.id] = _Joining(WeightsWanted(weights=wanted, rng=self.rng))
        self.reservations.take(entry.id, entry.brief.label, self.assessor.needs(entry))
        return [
            ev.Joining(task=entry.id, label=entry.brief.label, why=why),
            fx.LoadTask(task=entry.id, weights_digest=wanted.digest, donors=lineage.donors(entry, self.book.entries)),
        ]

    def end(self, entry: TaskEntry, failure: Failure | None, now: Moment) -> list[Effect]:
        """Take part in a task no more: judged so, or because of a `failure`. That makes room for others."""
        effects: list[Effect] = []
        self._joining.pop(entry.id, None)
        if (learner := self.learning.pop(entry.id, None)) is not None:
            effects += [*learner.save_changed(), fx.StopTrainer(task=entry.id)]
            effects += [fx.Unsubscribe(filter=_model_filter(server, entry.id)) for server in learner.servers]
        if (aggregator := self.aggregating.pop(entry.id, None)) is not None:
            effects += [*aggregator.save_changed(), aggregator.advert(online=False)]
            if group := aggregator.settings.server_group:
                effects.append(fx.Unsubscribe(filter=topics.of_group(entry.id, group), share=group))
        self.budget.leave(entry.id)
        self.reservations.give_back(entry.id)
        self.assessor.mark_approved()
        if failure is not None:
            entry.setback = Setback.after(entry.setback, failure, now.monotonic_s)
            self.assessor.wants(entry, now)  # no longer, and earlier versions need not give way to it any more
        why = "; ".join(self.assessor.why_not(entry, now))
        return [
            *effects,
            fx.DropUnsent(task=entry.id),
            ev.Stopped(task=entry.id, label=entry.brief.label, why=why),
        ]

    def renew_reservation(self, entry: TaskEntry) -> None:
        """A joined task was looked at again: its samples may have become more."""
        self.reservations.renew(entry.id, self.assessor.needs(entry))

    def set_settings(self, settings: CoreSettings) -> list[Effect]:
        """The owner changed something: limits hold, and servers are heard or heard no more, from now on."""
        before, self.settings = self.settings.trusted_servers, settings
        self.assessor.settings = settings
        self.reservations.limits = settings.limits
        self.budget.save_every_s, self.budget.bytes_per_day = settings.save_every_s, settings.save_bytes_per_day
        effects: list[Effect] = []
        for task, learner in self.learning.items():
            named = {*learner.manifest.servers, settings.peer}
            learner.set_settings(settings)
            for server in sorted(settings.trusted_servers - before - named):
                learner.servers.setdefault(server, ServerLink(server))
                effects.append(fx.Subscribe(filter=_model_filter(server, task)))
            for server in sorted(before - settings.trusted_servers - named):
                learner.servers.pop(server, None)
                effects.append(fx.Unsubscribe(filter=_model_filter(server, task)))
        for aggregator in self.aggregating.values():
            aggregator.guard.turn(is_on=settings.judge_updates)
        of_tasks = (server for learner in self.learning.values() for server in learner.servers)
        self.members.name_only({*(settings.neighbours or ()), *settings.trusted_servers, *of_tasks})
        return effects

    # --- weights ----------------------------------------------------------------------------------

    def loaded(
        self,
        task: str,
        saved: fx.SavedModel | None,
        weights: bytes | None,
        now: Moment,
        inherited: fx.SavedModel | None = None,
        error: str = "",
    ) -> list[Effect]:
        """What the store holds of a joined task, or of an earlier version of it; each may be None.

        `error`: it cannot say. Then nothing begins, for the model that is there would be lost to a new one.
        """
        joining, entry = self._joining.get(task), self.book.entries.get(task)
        if joining is None or entry is None:
            return []
        if error:
            return self.end(entry, Failure(kind=LOADING, why=f"what is saved of it cannot be read: {error}"), now)
        if entry.setback is not None and entry.setback.kind == LOADING:
            entry.setback = None
        joining.inherited = inherited
        layout = ModelLayout.of(entry.manifest.program)
        model = ModelState.restored(saved, layout) if saved is not None else None
        if model is not None:
            return self._begin(entry, layout, model, now, begins_with="saved", saved=saved)
        if weights is not None:
            return self._begin_from(entry, weights, now)
        joining.wanted.begin(self.members.num_alive(now.monotonic_s), now.monotonic_s)
        return []

    def _ask_weights(self, task: str, wanted: WeightsWanted, now: Moment) -> Iterator[Effect]:
        entry = self.book.entries[task]
        asked = (entry.brief.publisher, *self.members.to_ask(task, now.monotonic_s))
        holders = [peer for peer in asked if self.members.may_be_there(peer, now.monotonic_s)]
        holder = wanted.ask(holders, now.monotonic_s)
        if holder is None:
            return
        yield fx.Publish(
            topic=InboxTopic(holder, self.settings.peer),
            body=m.BlobRequest(task=task, digest=wanted.weights.digest),
            receiver_session=self.members.session_of(holder),
        )

    def _lend_room(self, task: str) -> Iterator[Effect]:
        """Nobody has its weights: others may use what it holds, until they come."""
        self.reservations.give_back(task)
        self.assessor.mark_approved()
        yield ev.WaitsInVain(task=task, label=self.book.entries[task].brief.label)

    def bytes_expected(self, sender: str, task: str, now: Moment) -> int:
        """How many bytes of initial weights a peer was asked for; 0: none."""
        joining = self._joining.get(task)
        if joining is None or joining.newcomer or not joining.wanted.expects(sender, now.monotonic_s):
            return 0
        return joining.wanted.weights.num_bytes

    def coming(self, sender: str, task: str) -> None:
        """What a task is to begin with is on its way from a peer."""
        joining = self._joining[task]
        if joining.newcomer is not None:
            joining.newcomer.coming()
        else:
            joining.wanted.coming(sender)

    def not_coming(self, sender: str, task: str, now: Moment) -> None:
        """What was on its way from a peer will not come."""
        if (joining := self._joining.get(task)) is not None:
            if joining.newcomer is not None:
                joining.newcomer.failed(sender, now.monotonic_s)
            else:
                joining.wanted.failed(sender, now.monotonic_s)

    def take_blob(self, sender: str, blob: m.Blob, now: Moment) -> list[Effect]:
        """Bytes that were asked for. Raises `WireError` if they were not, or are not what was asked for."""
        joining = self._joining.get(blob.task)
        if joining is None or joining.newcomer or not joining.wanted.expects(sender, now.monotonic_s):
            raise WireError("not-asked", f"a blob of {blob.task} by {sender}")
        entry, wanted = self.book.entries[blob.task], joining.wanted.weights
        with apart():
            is_wanted = len(blob.content) == wanted.num_bytes and wanted.digest == sha256(blob.content)
        if not is_wanted:
            raise WireError("digest", "the bytes are not those that the manifest names")
        effects = [fx.SaveBlob(digest=wanted.digest, content=blob.content), *self._begin_from(entry, blob.content, now)]
        # Tasks may share their initial weights, and a holder gives the same bytes but seldom.
        for task, other in list(self._joining.items()):
            is_same = other.newcomer is None and other.wanted.weights.digest == wanted.digest
            if task != blob.task and is_same and other.wanted.has_asked:
                effects += self._begin_from(self.book.entries[task], blob.content, now)
        return effects

    # --- taking part ------------------------------------------------------------------------------

    def _begin_from(self, entry: TaskEntry, weights: bytes, now: Moment) -> list[Effect]:
        if not self.reservations.holds(entry.id):
            if self.assessor.no_room(entry):
                return self.end(entry, None, now)  # they are here now, and it waits for room as others do
            self.reservations.take(entry.id, entry.brief.label, self.assessor.needs(entry))
        layout = ModelLayout.of(entry.manifest.program)
        try:
            reference = entry.manifest.initial_weights
            with apart():
                parameters, buffers = load_initial(layout, weights, reference)
        except TaskError as error:
            why = f"its initial weights do not fit its program: {error}"
            return self.end(entry, Failure(kind="weights", why=why, is_lasting=True), now)
        if (inherited := self._inherited(entry, layout)) is not None:
            return self._begin(entry, layout, inherited, now, begins_with="earlier-version")
        newcomer = Newcomer(initial=ModelState.initial(parameters, buffers), layout=layout, began_s=now.monotonic_s)
        is_old = may_have_crowds_model(entry.manifest, self._claims(entry, now), now)
        if is_old and self._whom_to_ask(entry, now) != ((), ()):
            # Asked at the next tick: who is asked must have heard first that we take part.
            self._joining[entry.id].newcomer = newcomer
            newcomer.next_s = now.monotonic_s
            return []
        return self._begin(entry, layout, newcomer.initial, now, begins_with="initial")

    def _whom_to_ask(self, entry: TaskEntry, now: Moment) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Servers of a task, and members of it, that may have a trained model and may be there."""
        trusted = {*entry.manifest.servers, *self.settings.trusted_servers} - {self.settings.peer}
        servers = tuple(
            peer
            for peer in sorted(trusted)
            if self.members.may_be_there(peer, now.monotonic_s) and self.members.says_it_takes_part(peer, entry.id)
        )
        if not STRATEGIES[entry.manifest.merging.strategy].hears_peers:
            return servers, ()
        return servers, tuple(p for p in self.members.to_ask(entry.id, now.monotonic_s) if p not in trusted)

    def _ask_for_model(self, task: str, newcomer: Newcomer, now: Moment) -> list[Effect]:
        """Ask the next one, or give up and begin."""
        entry = self.book.entries[task]
        peer = newcomer.choose(*self._whom_to_ask(entry, now), now.monotonic_s, self.rng)
        if not peer:
            return self._begin(entry, newcomer.layout, newcomer.initial, now, begins_with="initial")
        request = m.ModelRequest(task=task)
        topic = InboxTopic(peer, self.settings.peer)
        return [fx.Publish(topic=topic, body=request, receiver_session=self.members.session_of(peer))]

    def _claims(self, entry: TaskEntry, now: Moment) -> Claims:
        """What can be believed of a task's members before one is a member."""
        steps_before = lineage.steps_before(entry, self.book.entries)
        return Claims(task=entry.id, manifest=entry.manifest, started=now, steps_before=steps_before)

    def waits_for_model(self, sender: str, task: str) -> bool:
        """Whether a released model of this sender is what a task is to begin with."""
        joining = self._joining.get(task)
        return joining is not None and joining.newcomer is not None and joining.newcomer.waits_for(sender)

    def take_released(self, sender: str, released: m.ReleasedModel, now: Moment) -> list[Effect]:
        """A model that was asked for, to begin with. Raises `WireError` if it is not fit; then the next is asked."""
        entry, newcomer = self.book.entries[released.task], self._joining[released.task].newcomer
        assert newcomer is not None
        model = newcomer.take(sender, released, self._claims(entry, now), now)
        if model is None:
            return []
        return self._begin(entry, newcomer.layout, model, now, begins_with=sender, fallback=newcomer.initial)

    def _inherited(self, entry: TaskEntry, layout: ModelLayout) -> ModelState | None:
        """The model that this agent has of the nearest earlier version, if it fits: in memory, else as it was saved."""
        for donor in lineage.donors(entry, self.book.entries):
            taking_part = self.learning.get(donor) or self.aggregating.get(donor)
            if taking_part is not None and taking_part.layout == layout:
                return taking_part.model.for_new_version()
        saved = self._joining[entry.id].inherited
        model = ModelState.restored(saved, layout) if saved is not None else None
        return model.for_new_version() if model is not None else None

    def _begin(
        self,
        entry: TaskEntry,
        layout: ModelLayout,
        model: ModelState,
        now: Moment,
        *,
        begins_with: str,
        saved: fx.SavedModel | None = None,
        fallback: ModelState | None = None,
    ) -> list[Effect]:
        del self._joining[entry.id]
        role: Literal["member", "server"] = "server" if self.settings.role == "server" else "member"
        effects: list[Effect] = [
            ev.Joined(task=entry.id, label=entry.brief.label, role=role, begins_with=begins_with, age=model.age),
            *self._take_part(entry, layout, model, now, saved, fallback),
        ]
        for earlier in lineage.ancestors(entry, self.book.entries):
            if self.assessor.takes_part(earlier.id):
                effects += self.end(earlier, None, now)
        return effects

    def _take_part(
        self,
        entry: TaskEntry,
        layout: ModelLayout,
        model: ModelState,
        now: Moment,
        saved: fx.SavedModel | None,
        fallback: ModelState | None,
    ) -> list[Effect]:
        continues = bool(lineage.donors(entry, self.book.entries))
        steps_before = max(lineage.steps_before(entry, self.book.entries), model.age) if continues else 0
        if self.settings.role == "server":
            self.aggregating[entry.id] = Aggregator(
                task=entry.id,
                manifest=entry.manifest,
                settings=self.settings,
                layout=layout,
                model=model,
                started=now,
                rng=self.rng,
                saved=saved,
                steps_before=steps_before,
                members=self.members,
                budget=self.budget,
                governor=self.governor,
            )
            group = self.settings.server_group
            return [fx.Subscribe(filter=topics.of_group(entry.id, group), share=group)] if group else []
        learner = self.learning[entry.id] = Learning(
            task=entry.id,
            manifest=entry.manifest,
            settings=self.settings,
            members=self.members,
            layout=layout,
            model=model,
            started=now,
            rng=self.rng,
            steps_before=steps_before,
            budget=self.budget,
            governor=self.governor,
            is_saved=saved is not None,
            saved_best=saved.best if saved is not None else None,
            fallback=fallback,
        )
        self.members.name(learner.servers)
        effects: list[Effect] = [
            fx.StartTrainer(task=entry.id, manifest=entry.manifest),
            *(fx.Subscribe(filter=_model_filter(server, entry.id)) for server in learner.servers),
        ]
        for server in learner.servers:
            held = self.records.get(TaskTopic(server, entry.id, "server"))
            if held is not None and isinstance(held.message.body, m.ServerAdvert):
                effects += learner.hear_advert(server, held.message.body, now, retained=True)
        return effects

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: Moment) -> list[Effect]:
        """Time passed."""
        effects: list[Effect] = []
        for task, joining in [] if self.members.is_away else list(self._joining.items()):
            if joining.newcomer is not None:
                if now.monotonic_s >= joining.newcomer.next_s:
                    effects += self._ask_for_model(task, joining.newcomer, now)
            elif now.monotonic_s >= joining.wanted.ask_at_s:
                effects += self._ask_weights(task, joining.wanted, now)
                if joining.wanted.in_vain(now.monotonic_s) and self.reservations.holds(task):
                    effects += self._lend_room(task)
        for learner in self.learning.values():
            effects += learner.tick(now)
        for aggregator in self.aggregating.values():
            effects += aggregator.tick(now)
        for learner in [learner for learner in self.learning.values() if learner.trials.failure]:
            effects += self.end(self.book.entries[learner.task], learner.trials.failure, now)
        return effects

    def deadlines_s(self) -> Iterator[float]:
        """When `tick` has something to do next, for each task, monotonic."""
        for joining in () if self.members.is_away else self._joining.values():
            yield joining.newcomer.next_s if joining.newcomer is not None else joining.wanted.ask_at_s
        yield from (learner.deadline_s() for learner in self.learning.values())
        yield from (aggregator.deadline_s() for aggregator in self.aggregating.values())

    def goodbye(self) -> list[Effect]:
        """Save every model that has changed, and revoke the adverts."""
        parts: list[Learning | Aggregator] = [*self.learning.values(), *self.aggregating.values()]
        return [
            *(save for part in parts for save in part.save_changed()),
            *(aggregator.advert(online=False) for aggregator in self.aggregating.values()),
        ]


def _model_filter(server: str, task: str) -> str:
    return TaskTopic(server, task, "model").below_root()
