"""Looks after the tasks that were heard of: has them judged, joins and ends them, and forgets them.

What this agent takes part in is judged the moment it is due. Of all else so many at a time are judged (`MAX_JUDGED`;
fewer where manifests have to be read), and the rest soon after: a burst of ten thousand verdicts that run out takes
no longer per tick than a few. Nothing is joined while tasks wait to be judged, since one of them may be a later
version of it. See docs/decisions/0031-judging-what-changed.md.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.core.tasks import lineage
from grapevine_agent.core.tasks.archive import Archive
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.core.tasks.judging import Judgement
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto import messages as m
from grapevine_proto.codec import Received
from grapevine_proto.errors import TaskError
from grapevine_proto.topics import TaskTopic

MAX_KEPT_EARLIER = 8  # versions before one that the owner uses that no stranger pushes out
LOOK_AGAIN_S = 0.02  # while tasks wait to be judged
MAX_JUDGED = 100  # tasks at a time: some milliseconds
MAX_CONCERNED = 8  # tasks beside one of which something was said: its earlier versions, and what waits already
MAX_RIPENED = 200  # tasks that time has changed, at a time
MAX_HEADS = 16  # manifests that are read but for their programs, at a time
MAX_OPENED_BYTES = 4 * 1024  # of manifests that are read whole, at a time, and the one that exceeds it
MAX_JOINED = 4  # at a time
CLOCK_STEP_MS = 1_000  # a clock that goes back by more was set


@dataclass(kw_only=True)
class Steward:
    """See the module's docstring."""

    settings: CoreSettings
    archive: Archive
    tasks: TaskLife
    _would_join: OrderedDict[str, None] = field(default_factory=OrderedDict)  # judged well, and not taken part in
    _looked: Moment = field(default_factory=lambda: Moment(0.0, 0))
    _look_at_s: float = 0.0
    _has_expired: bool = False

    def __post_init__(self) -> None:
        self.book = self.tasks.book
        self.assessor = self.tasks.assessor
        self.docket = self.assessor.docket

    # --- what is said of tasks --------------------------------------------------------------------

    def before_accepting(self, received: Received) -> None:
        """The manifest of a task that the owner uses gets a place, however full the book of records is."""
        topic, body = received.topic, received.message.body
        if not isinstance(topic, TaskTopic) or not isinstance(body, m.TaskPublication) or not body.manifest:
            return
        if topic.task not in self.book.entries and self.matters(topic.task):
            self.book.brief_of(received, body)  # nobody else's topic gets it: raises `WireError`
            self.archive.records.keep(topic)

    def take_manifest(self, received: Received, publication: m.TaskPublication, now: Moment) -> list[Effect]:
        """Take a manifest or a tombstone that is news into the book. Raises `WireError` if it is not its author's."""
        entry = self.book.shelve(received, publication)
        if entry is None or entry.brief.publisher != received.message.sender:
            return []
        effects = [*self.archive.arrived(entry.id), *self._hold(entry, now)]
        self.assessor.arrived(entry)
        if self.assessor.succession.has_followers(entry.id):
            self.archive.records.keep(received.topic)
        return [*effects, *(self._fade(entry, now) if entry.retracted else ())]

    def take_review(self, received: Received, review: m.Review, now: Moment) -> list[Effect]:
        """Take a verdict that is news into the book."""
        self.book.weigh(received, review)
        if not self._counts(received.message.sender):
            return []
        entry = self.book.entries.get(review.task)
        return self.archive.want(review.task) if entry is None else self._hold(entry, now)

    def _counts(self, reviewer: str) -> bool:
        return reviewer in self.settings.review.reviewers or reviewer == self.settings.peer

    def records_gone(self, gone: list[Received], now: Moment) -> list[Effect]:
        """These records are held no more: they ran out, or made room for others."""
        effects = self.archive.forgotten(gone)
        for received in gone:
            match received.message.body:
                case m.Review() as review:
                    self.book.run_out(received, review, counted=self._counts(received.message.sender))
                case m.TaskPublication(retracted=False):
                    assert isinstance(received.topic, TaskTopic)
                    entry = self.book.entries.get(received.topic.task)
                    if entry is not None and entry.brief.publisher == received.message.sender:
                        effects += self._fade(entry, now)
        return effects

    def made_room(self, now: Moment) -> list[Effect]:
        """What follows for tasks from records that made room for others."""
        return self.records_gone(self.archive.take_pushed_out(), now)

    # --- what the owner uses ----------------------------------------------------------------------

    def matters(self, task: str) -> bool:
        """Whether the owner uses a task, or will as soon as its manifest is here."""
        return (
            self.assessor.takes_part(task)
            or self.book.consents.get(task) is True
            or next(self.book.verdicts_of(task, self.settings.review.reviewers), None) is not None
            or self.settings.peer in self.book.reviews.get(task, ())
        )

    def concerns_owner(self, entry: TaskEntry) -> bool:
        """Whether the owner has, or has had, to do with a task, or trusts whoever published it."""
        return bool(
            self.matters(entry.id)
            or entry.setback
            or entry.consent is not None
            or entry.brief.publisher in self.settings.trusted_authors
            or self.assessor.succession.has_followers(entry.id)  # which would be taken for something new without it
        )

    def _hold(self, entry: TaskEntry, now: Moment) -> list[Effect]:
        """See to it that no stranger pushes out what the owner uses, or the versions that it comes from."""
        if not self.matters(entry.id):
            return []
        for earlier in islice(lineage.ancestors(entry, self.book.entries), MAX_KEPT_EARLIER):
            self.archive.records.keep(_manifest_topic(earlier))
        topic = _manifest_topic(entry)
        held = self.archive.records.get(topic)
        if self.archive.keep(topic) or held is None:
            return []
        return [
            ev.RecordDamaged(task=entry.id, label=entry.brief.name),
            fx.ForgetRecord(received=held),
            *self._remove(entry, now),
        ]

    def _fade(self, entry: TaskEntry, now: Moment) -> list[Effect]:
        """A task is over: it is shown for a while if the owner has had to do with it, and forgotten at once if not."""
        if not self.concerns_owner(entry):
            return self._remove(entry, now)
        effects = self.judge(entry, now)
        for each in self.book.linger(entry.id):
            effects += self._remove(each, now)
        return effects

    def _remove(self, entry: TaskEntry, now: Moment) -> list[Effect]:
        effects = self.tasks.end(entry, None, now) if self.assessor.takes_part(entry.id) else []
        self.archive.records.let_go(_manifest_topic(entry))
        self.book.remove(entry.id)
        self.assessor.gone(entry.id)
        self._would_join.pop(entry.id, None)
        return effects

    def set_settings(self, settings: CoreSettings, now: Moment) -> list[Effect]:
        """The owner changed something: everything that this can change is judged again, the first of it at once."""
        before, self.settings = self.settings, settings
        effects = self.tasks.set_settings(settings)
        if (before.limits, before.check_task) != (settings.limits, settings.check_task):
            for entry in self.book.entries.values():
                entry.program_found = None
        self.archive.records.trust(settings.trusted_authors)
        for entry in list(self.book.entries.values()):
            if self.matters(entry.id):
                effects += self._hold(entry, now)
            elif not self.assessor.succession.has_followers(entry.id):
                self.archive.records.let_go(_manifest_topic(entry))
        self.assessor.mark_all()
        return [*effects, *self.look(now, everything=True)]

    def set_consent(self, task: str, joined: bool, now: Moment) -> list[Effect]:
        """The owner joins or leaves a task. What failed before is tried again at once."""
        self.book.set_consent(task, joined)
        entry = self.book.entries.get(task)
        if entry is not None and joined:
            entry.setback = None
        self.assessor.mark_approved()  # it may be a later version of this one
        return [*self._hold(entry, now), *self.judge(entry, now)] if entry is not None else []

    # --- what may be forgotten --------------------------------------------------------------------

    def forget(self, task: str) -> None:
        """The owner wants nothing of a task to be kept that this agent takes no part in. A no of the owner's stays.

        Raises TaskError if it takes part.
        """
        if self.assessor.takes_part(task):
            name = self.book.entries[task].brief.name
            raise TaskError(f"{name} is joined, and its model is in use; first: grapevine leave {task[:12]}")
        if self.book.consents.get(task) is True:
            self.book.forget_consent(task)
        if (entry := self.book.entries.get(task)) is not None:
            entry.setback = None
            self.assessor.mark((task,))

    def in_use(self, now: Moment) -> frozenset[str]:
        """The tasks whose models may be wanted again without a word of the owner's: joined, or only waiting to be."""
        return frozenset(entry.id for entry in self.book.entries.values() if self._may_return(entry, now))

    def _may_return(self, entry: TaskEntry, now: Moment) -> bool:
        if self.assessor.takes_part(entry.id):
            return True
        if not self.assessor.matters(entry) or not self.book.decide(entry, self.settings).joins:
            return False
        standing = self.assessor.judgement(entry, now).standing
        return standing in ("approved", "waiting") and not self.assessor.is_replaced(entry.id)

    # --- judging ----------------------------------------------------------------------------------

    @property
    def next_change_ms(self) -> float:
        """When time alone may change a judgement, at the earliest (wall clock)."""
        return self.docket.next_ms()

    @property
    def has_waiting(self) -> bool:
        """Whether a look has left something for the next one."""
        return self._has_expired or bool(self.docket) or bool(self._would_join)

    def deadline_s(self) -> float:
        """When `tick` has something to do next, whatever the wall clock says: monotonic."""
        return min(self._look_at_s, self._looked.monotonic_s + LOOK_AGAIN_S) if self.has_waiting else self._look_at_s

    def tick(self, now: Moment) -> list[Effect]:
        """Drop what has run out and judge what that changes; now and then, judge all that matters."""
        due = now.monotonic_s >= self._look_at_s or (not self.has_waiting and now.wall_ms >= self.next_change_ms)
        if not due and not self.has_waiting:
            return []
        if due:
            self._look_at_s = now.monotonic_s + self.settings.look_every_s
        effects = [*self.made_room(now), *self.records_gone(self.archive.expire(now.wall_ms), now)]
        self._has_expired = self.archive.has_expired(now.wall_ms)
        if due:
            self.assessor.mark_approved()  # the owner's data may have changed
        return [*effects, *self.look(now, everything=due)]

    def look_at_data(self, now: Moment) -> list[Effect]:
        """Judge again what is taken part in and what is approved: the owner's data are known, or have changed."""
        self.assessor.mark_approved()
        return self.look(now, everything=True)

    def look(self, now: Moment, *, everything: bool = False) -> list[Effect]:
        """Judge what is due: of what this agent takes part in all of it (or `everything`), of the rest some."""
        if now.wall_ms < self._looked.wall_ms - CLOCK_STEP_MS:  # it was set: what had run out may hold again
            self.assessor.mark_all()
        self._looked = now
        effects: list[Effect] = []
        for task in self.tasks.all_parts():
            if everything or task in self.docket or self.docket.due_ms(task) <= now.wall_ms:
                effects += self._assess(self.book.entries[task], now)
        self.docket.ripen(now.wall_ms, MAX_RIPENED)
        return [*effects, *self._judge_some(now, MAX_JUDGED), *self._join_some(now)]

    def judge(self, entry: TaskEntry, now: Moment) -> list[Effect]:
        """Join a task, or end it, if what is known of it asks for that; the same for those that it concerns."""
        return [*self._assess(entry, now), *self._judge_some(now, MAX_CONCERNED), *self._join_some(now)]

    def _judge_some(self, now: Moment, at_most: int) -> list[Effect]:
        effects: list[Effect] = []
        opened = self.book.opened
        most_bytes, most_heads = opened.program_bytes + MAX_OPENED_BYTES, opened.num_heads + MAX_HEADS
        for _ in range(at_most):
            if not self.docket or opened.program_bytes >= most_bytes or opened.num_heads >= most_heads:
                break
            entry = self.book.entries.get(self.docket.take())
            if entry is not None:
                effects += self._assess(entry, now)
        return effects

    def _assess(self, entry: TaskEntry, now: Moment) -> list[Effect]:
        takes_part, before = self.assessor.takes_part(entry.id), self.assessor.judged.get(entry.id)
        wants = self.assessor.wants(entry, now)
        effects = self._judged(entry, before, now)
        if wants and not takes_part:
            self._would_join[entry.id] = None
        else:
            self._would_join.pop(entry.id, None)
        if takes_part and wants:
            self.tasks.renew_reservation(entry)
        return [*effects, *(self.tasks.end(entry, None, now) if takes_part and not wants else ())]

    def _judged(self, entry: TaskEntry, before: Judgement | None, now: Moment) -> list[Effect]:
        """What is told where a judgement is another one than before."""
        found = self.assessor.judged.get(entry.id)
        if found is None and before is not None:
            found = self.assessor.judgement(entry, now)  # the last word on a task that is followed no longer
        if found is None or (before is not None and (found.standing, found.why) == (before.standing, before.why)):
            return []
        brief = entry.brief
        return [
            ev.Judged(
                task=entry.id, label=brief.label, standing=found.standing, why=found.why, publisher=brief.publisher
            )
        ]

    def _join_some(self, now: Moment) -> list[Effect]:
        effects: list[Effect] = []
        for _ in range(MAX_JOINED):
            if self.docket or not self._would_join:
                break
            entry = self.book.entries[self._would_join.popitem(last=False)[0]]
            if self.assessor.wants(entry, now) and not self.assessor.takes_part(entry.id):
                why = self.assessor.judgement(entry, now).why
                joined = self.tasks.join(entry, why)
                effects += self._hold(entry, now) or joined
        return effects


def _manifest_topic(entry: TaskEntry) -> TaskTopic:
    return TaskTopic(entry.brief.publisher, entry.id, "manifest")
