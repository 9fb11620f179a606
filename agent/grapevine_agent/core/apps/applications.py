"""What this agent makes of applications: which are approved, which components it would run, and which are its own.

    an application ─signed, of its author─▶ the book ─reviews of its SHA-256─▶ approved ─▶ its components
      ─qualifies, may run─▶ offered, in our announcement ─rendezvous among all who offer─▶ placed ─hours─▶ active
          a learning task   may be joined here (`why_not_here`); all else that a task needs it still needs
          a container       RunContainer, EndContainer

Applications are judged as tasks are, by the same policy. One of whom nobody trusted has spoken costs nothing but its
bytes. Everything else has one of so many places, and is looked at again every heartbeat, and at once when something was
said of it. See docs/decisions/0068-applications.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core import events as ev
from grapevine_agent.core.apps import hours
from grapevine_agent.core.apps.app_book import AppBook, AppEntry
from grapevine_agent.core.apps.matching import Capabilities, announced, of_settings, why_not
from grapevine_agent.core.apps.missed import Missed
from grapevine_agent.core.apps.parts import SETTLE_HEARTBEATS, Part, PartKey
from grapevine_agent.core.apps.places import Places
from grapevine_agent.core.apps.rendezvous import chosen
from grapevine_agent.core.apps.running import Containers
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.core.tasks.archive import Archive
from grapevine_agent.core.tasks.judging import Judgement, judge
from grapevine_agent.core.tasks.task_life import TaskLife
from grapevine_proto import messages as m
from grapevine_proto.application import LearningTask, offer
from grapevine_proto.application_codec import application_id
from grapevine_proto.codec import Received
from grapevine_proto.errors import TaskError
from grapevine_proto.labels import MAX_LABELS
from grapevine_proto.topics import AppTopic

SHORTEST_LOOK_S: Final = 0.5
LONGEST_LOOK_S: Final = 10.0


@dataclass(kw_only=True)
class Applications:
    """See the module's docstring."""

    settings: CoreSettings
    members: Members
    archive: Archive
    tasks: TaskLife
    book: AppBook = field(default_factory=AppBook)
    missed: Missed = field(default_factory=Missed)
    parts: dict[PartKey, Part] = field(default_factory=dict)
    _approved: frozenset[str] = frozenset()  # ids, as they were judged last
    _placed: frozenset[str] = frozenset()  # components, by their words
    _gates: dict[str, str] = field(default_factory=dict)  # task → why not here
    _look_at_s: float = math.inf
    _looked: Moment = field(default_factory=lambda: Moment(-math.inf, 0))

    def __post_init__(self) -> None:
        self.containers = Containers(rules=self.settings.engine)
        self.places = Places(settings=self.settings, archive=self.archive, book=self.book, tasks=self.tasks.book)
        self.tasks.assessor.placement = self

    # --- what is said -----------------------------------------------------------------------------

    def take(self, received: Received, publication: m.ApplicationPublication, now: Moment) -> list[Effect]:
        """Take an application, or its deletion, that is news. Raises `WireError` if it is not its author's.

        Where it is followed, or was, all is looked at at once, unless that was just done. Whatever else strangers say
        is looked at together, in a while.
        """
        assert isinstance(received.topic, AppTopic)
        before = self.book.entries.get(received.topic)
        entry = None
        try:
            entry = self.book.take(received, publication)
        finally:
            changed = [each for each in (before, entry) if each is not None]
            followed = before is not None and self.places.is_followed(before)
            if before is not None and followed:
                self.places.unfollow(before)
                if entry is not None:
                    was_approved = before.id in self._approved and before.id != entry.id
                    entry.before, before.before = before if was_approved else before.before, None
            if entry is not None and self.places.matters(entry):
                self.places.follow(entry)
                followed = followed or self.places.is_followed(entry)
            last_s = self._looked.monotonic_s if followed else now.monotonic_s
            self._look_at_s = min(self._look_at_s, last_s + SHORTEST_LOOK_S)
            for each in changed:
                self._mark(each, followed=followed)
        return self.missed.arrived(received.topic)

    def _mark(self, entry: AppEntry, *, followed: bool) -> None:
        """The tasks in which an application may have a say are judged again, soon."""
        known = self.tasks.book.entries
        named = [task for task in entry.tasks if task in known]
        self.tasks.assessor.mark([task for task in named if followed or known[task].brief.publisher == entry.author])

    def reviewed(self, application: str) -> list[Effect]:
        """Somebody whose word counts has spoken of this, be it an application or a task."""
        entry = self.book.by_id.get(application)
        if entry is not None and self.places.matters(entry):
            self.places.follow(entry)
        if entry is not None or self.places.num_followed:
            self._look_at_s = -math.inf
        return self.missed.ask(application) if entry is None and self.places.has_counted_verdict(application) else []

    def set_settings(self, settings: CoreSettings) -> None:
        """The owner changed whom to trust."""
        self.settings = settings
        self.places.set_settings(settings)
        self._look_at_s = -math.inf

    def before_accepting(self, received: Received) -> None:
        """An application that a trusted reviewer has spoken of gets a place, however full the book of records is.

        Raises `WireError` for one that is not its author's.
        """
        body = received.message.body
        if not isinstance(body, m.ApplicationPublication) or not body.spec or not self.tasks.book.reviews:
            return
        if self.places.has_counted_verdict(application_id(body.spec)):
            self.book.check(received.topic, body)  # anybody can publish what was approved: on one topic it is meant
            self.archive.records.keep(received.topic)

    # --- judging ----------------------------------------------------------------------------------

    def judgement(self, entry: AppEntry, now: Moment) -> Judgement:
        """What this agent makes of an application, by the policy that tasks are judged by."""
        policy = self.settings.review
        verdicts = dict(self.tasks.book.verdicts_of(entry.id, policy.reviewers))
        return judge(entry.author, verdicts, policy, now.wall_ms, until_ms=entry.until_ms)

    # --- time -------------------------------------------------------------------------------------

    def deadline_s(self) -> float:
        """When `tick` has something to do next, monotonic."""
        return self._look_at_s

    def tick(self, now: Moment) -> list[Effect]:
        """Look at all of it again, where that is due. Tasks that may be joined now, or no longer, are marked."""
        if now.monotonic_s < self._look_at_s:
            return []
        self._looked, self.places.wall_ms = now, now.wall_ms
        for entry in self.book.gone(self.archive.records):
            self.book.remove(entry.topic)
            self.places.unfollow(entry)
            if not 0 < entry.until_ms < now.wall_ms:
                self.missed.note(entry.id, entry.topic)
        self.places.look()
        in_force = [each for entry in self.places.followed() if (each := self._in_force(entry, now)) is not None]
        self._approved = frozenset(each.id for each in in_force)
        effects = self._look(in_force, now)
        look_every_s = min(max(self.settings.heartbeat_s, SHORTEST_LOOK_S), LONGEST_LOOK_S)
        self._look_at_s = now.monotonic_s + look_every_s if self.places.num_followed or self.parts else math.inf
        return effects

    def _in_force(self, entry: AppEntry, now: Moment) -> AppEntry | None:
        """The version that holds: this one once it is approved, the one before while it waits."""
        standing = self.judgement(entry, now).standing
        if standing == "approved":
            entry.before = None
            return entry
        if standing == "waiting" and entry.before is not None:
            return entry.before if self.judgement(entry.before, now).standing == "approved" else None
        return None

    def _look(self, approved: list[AppEntry], now: Moment) -> list[Effect]:
        before, self.parts = self.parts, {}
        has = of_settings(self.settings)
        for entry in approved:
            for component in entry.read(keep=True).components:
                key = entry.author, entry.name, component.name
                part = before.get(key) or Part(entry=entry, component=component)
                part.entry, part.component = entry, component
                self.parts[key] = part
                part.why_not = tuple(self._why_not(part, has, now))
        if not self.members.is_away:  # who sleeps hears nobody, and all stays as it was
            self._place(has, now)
        for part in self.parts.values():
            part.is_in_hours = hours.is_active(part.component.hours, now.wall_ms)
        self._change_gates()
        return [*self._told(), *self.containers.follow(self.parts.values(), now.monotonic_s)]

    def _why_not(self, part: Part, has: Capabilities, now: Moment) -> Iterator[str]:
        yield from why_not(part.component.where, has)
        if self.settings.role != "member":
            yield f"this agent is {'a server' if self.settings.role == 'server' else 'here for one command'}"
        elif isinstance(part.component.workload, LearningTask):
            yield from self._why_no_task(part.component.workload, now)
        else:
            yield from self.containers.why_not(part, now.monotonic_s)

    def _why_no_task(self, wanted: LearningTask, now: Moment) -> Iterator[str]:
        entry = self.tasks.book.entries.get(wanted.task)
        if entry is None:
            yield f"its task {wanted.task[:12]} is not known here"
            return
        if wanted.strategy and entry.brief.strategy != wanted.strategy:
            yield f"asks for {wanted.strategy}, and the task merges by {entry.brief.strategy}"
        if wanted.server or wanted.servers:
            yield from self._why_no_server(wanted, entry.id)
        assessor = self.tasks.assessor
        yield from assessor.reasons_wherever(entry, assessor.judgement(entry, now), now)

    def _why_no_server(self, wanted: LearningTask, task: str) -> Iterator[str]:
        try:
            named = {*self.tasks.book.entries[task].head.servers, *self.settings.trusted_servers}
        except TaskError as error:
            yield str(error)
            return
        if not named.intersection(wanted.servers or named):
            yield f"is to be assisted by a server ({', '.join(wanted.servers) or 'any'}), and the task names none such"

    def _place(self, has: Capabilities, now: Moment) -> None:
        offering = self._offering(now) if any(not part.is_everywhere for part in self.parts.values()) else {}
        for part in self.parts.values():
            others = offering.get(offer(*part.key), {})
            if part.seen != (part.component, part.is_offered, others):  # of a thousand it takes some milliseconds
                part.seen = part.component, part.is_offered, others
                self._choose(part, has, others)
            part.place(self.settings.peer, now.monotonic_s, SETTLE_HEARTBEATS * self.settings.heartbeat_s)

    def _choose(self, part: Part, has: Capabilities, others: Mapping[str, m.PeerAnnouncement]) -> None:
        able = {peer: announced(peer, said) for peer, said in others.items()}
        among = {peer: known for peer, known in able.items() if not why_not(part.component.where, known)}
        if part.is_offered:
            among[self.settings.peer] = has
        part.num_offers = len(among)
        part.chosen = chosen(part.entry.author, part.entry.name, part.component, among)

    def _offering(self, now: Moment) -> dict[str, dict[str, m.PeerAnnouncement]]:
        """What each live member, or one that sleeps, would run: offer → peer → what it announces."""
        wanted = {offer(*part.key) for part in self.parts.values()}
        offering: dict[str, dict[str, m.PeerAnnouncement]] = {}
        for known in self.members.peers.values():
            offers = wanted.intersection(known.announcement.offers)
            if not offers or not (
                self.members.is_alive(known.id, now.monotonic_s) or known.id in self.members.sleepers
            ):
                continue
            for each in offers:
                offering.setdefault(each, {})[known.id] = known.announcement
        return offering

    def who_offers(self, part: Part, now: Moment) -> dict[str, m.PeerAnnouncement]:
        """The live members that offer a component, and what each of them announces."""
        return self._offering(now).get(offer(*part.key), {})

    # --- tasks ------------------------------------------------------------------------------------

    def why_not_here(self, task: str) -> str:
        """Why applications want a task elsewhere; empty if one wants it here, or none has a say in it.

        A say have those that are approved, and those of the task's own publisher.
        """
        gate = self._gates.get(task)
        if gate is not None or task not in self.tasks.book.entries:
            return gate or ""
        publisher = self.tasks.book.entries[task].brief.publisher
        for entry in self.book.naming(task):
            if entry.author == publisher:
                return f"the application {entry.name} of its publisher says where it runs, and is not approved here"
        return ""

    def _change_gates(self) -> None:
        gates: dict[str, str] = {}
        for part in self.parts.values():
            work = part.component.workload
            if isinstance(work, LearningTask) and gates.get(work.task) != "":
                gates[work.task] = "" if part.is_active else _why_inactive(part)
        before, self._gates = self._gates, gates
        for task in {*before, *gates}:
            if before.get(task, "") != gates.get(task, "") and task in self.tasks.book.entries:
                self.tasks.assessor.docket.mark(task)

    def told(self, word: str, *, is_running: bool, why: str, now: Moment) -> None:
        """How a container is doing."""
        was_running = self.containers.is_running(word)
        self.containers.told(word, is_running=is_running, why=why, now_s=now.monotonic_s)
        if not is_running or not was_running:
            self._look_at_s = -math.inf

    # --- what is told -----------------------------------------------------------------------------

    def offers(self) -> tuple[str, ...]:
        """What our announcement says that we would run."""
        found = (offer(*part.key) for part in self.parts.values() if part.is_offered)
        return tuple(sorted(found))[:MAX_LABELS]

    def running(self) -> tuple[str, ...]:
        """What it says that runs here."""
        found = (offer(*part.key) for part in self.parts.values() if self.is_running(part))
        return tuple(sorted(found))[:MAX_LABELS]

    def is_running(self, part: Part) -> bool:
        """Whether a component runs here, as far as is known."""
        work = part.component.workload
        if isinstance(work, LearningTask):
            return part.is_active and work.task in self.tasks.tasks()
        return part.is_active and self.containers.is_running(part.word)

    def _told(self) -> list[Effect]:
        placed = frozenset(part.word for part in self.parts.values() if part.is_placed)
        placed_before, self._placed = self._placed, placed
        return [
            *(ev.Placed(component=word) for word in sorted(placed - placed_before)),
            *(ev.Displaced(component=word) for word in sorted(placed_before - placed)),
        ]


def _why_inactive(part: Part) -> str:
    name = f"the application {part.entry.name}"
    if part.why_not:
        return f"{name} does not place it here: grapevine explain {part.entry.name}"
    if not part.is_placed:
        return f"{name} places it elsewhere: grapevine explain {part.entry.name}"
    when = hours.in_words(part.component.hours) if part.component.hours else ""
    return f"{name} wants it at {when}"
