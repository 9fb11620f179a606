"""Whether anything is in the way of taking part in a task, and which tasks are to be asked about again.

What can change what:

    a verdict of whom the owner trusts, a tombstone ▶ its task
    time                                            ▶ the tasks with such verdicts, when one begins or ceases to count
    a task may be joined, or no longer              ▶ the versions before it: they give way, or need not
    a version that is heard of, or gone             ▶ the versions after it, whose chains it closes or breaks
    the owner's data                                ▶ whatever is approved, looked at every ten seconds
    a task ends, which makes room                   ▶ the same, at once
    an application places a task, or no longer      ▶ that task
    the pause after a task's work failed is over    ▶ that task
    the owner's word on whom to trust               ▶ everything that a trusted verdict is there for

A verdict of whom nobody trusts changes nothing, and no task of which nobody trusted has spoken is ever asked about:
whatever number of them strangers publish, and however they name each other as parents.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from grapevine_agent.core.events import WAITS_IN_VAIN
from grapevine_agent.core.learning.places import MIB, served_bytes
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import CoreSettings, Needs
from grapevine_agent.core.tasks import lineage
from grapevine_agent.core.tasks.docket import Docket
from grapevine_agent.core.tasks.entry import ProgramFound, TaskEntry
from grapevine_agent.core.tasks.fitting import reasons_not_to_fit
from grapevine_agent.core.tasks.judging import Judgement
from grapevine_agent.core.tasks.reservations import Reservations
from grapevine_agent.core.tasks.succession import Succession
from grapevine_agent.core.tasks.task_book import TaskBook
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_tasks.layout import ModelLayout


class Placement(Protocol):
    """Where applications want a task to run, if any names it. No bound method: a checkpoint cannot hold one."""

    def why_not_here(self, task: str) -> str:
        """Why a task is not to run on this agent; empty if it may."""
        ...


class Anywhere:
    """No application says anything of tasks."""

    def why_not_here(self, task: str) -> str:  # noqa: ARG002
        """Nothing is in the way."""
        return ""


@dataclass(kw_only=True)
class Assessor:
    """See the module's docstring. The three mappings are by task, and kept up to date by their owner."""

    settings: CoreSettings
    book: TaskBook
    learning: Mapping[str, Any]
    aggregating: Mapping[str, Any]
    joining: Mapping[str, Any]
    reservations: Reservations
    placement: Placement = field(default_factory=Anywhere)
    docket: Docket = field(default_factory=Docket)
    num_judged: int = 0  # ever
    judged: dict[str, Judgement] = field(default_factory=dict)  # what was found last, of each task that matters
    _approved: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.succession = Succession(self.book.entries)

    # --- what is to be asked about ----------------------------------------------------------------

    def takes_part(self, task: str) -> bool:
        """Whether this agent takes part in a task, or is on its way to."""
        return task in self.joining or task in self.learning or task in self.aggregating

    def matters(self, entry: TaskEntry) -> bool:
        """Whether asking about a task can have any other answer than no."""
        return self.takes_part(entry.id) or self.book.may_be_approved(entry, self.settings.review)

    def mark(self, tasks: Collection[str]) -> None:
        """Ask about these tasks again soon, as far as they are followed."""
        for task in tasks:
            if self.succession.follows(task):
                self.docket.mark(task)

    def mark_approved(self) -> None:
        """Ask again soon about the tasks that were approved when they were last judged."""
        self.docket.mark_each(self._approved)

    def mark_all(self) -> None:
        """Ask about every task again that matters."""
        for entry in self.book.entries.values():
            if self.matters(entry) or self.succession.follows(entry.id):
                self.docket.mark(entry.id)

    def arrived(self, entry: TaskEntry) -> None:
        """A task is known now."""
        self.mark(self.succession.arrived(entry.id))

    def gone(self, task: str) -> None:
        """A task is out of the book."""
        self.docket.drop(task)
        self._approved.pop(task, None)
        self.judged.pop(task, None)
        self.mark(self.succession.gone(task))

    # --- asking -----------------------------------------------------------------------------------

    def judgement(self, entry: TaskEntry, now: Moment) -> Judgement:
        """What this agent makes of a task."""
        return self.book.judge(entry, self.settings.review, now.wall_ms)

    def wants(self, entry: TaskEntry, now: Moment) -> bool:
        """Whether this agent should take part in a task; what follows from that for others is marked."""
        self.num_judged += 1
        judgement = self.judgement(entry, now)
        if not self.matters(entry):
            self.mark(self.succession.before(entry.id) if self.succession.is_willing(entry.id) else ())
            self.succession.leave(entry.id)
            self.docket.drop(entry.id)
            self._approved.pop(entry.id, None)
            self.judged.pop(entry.id, None)
            return False
        self.judged[entry.id] = judgement
        self.succession.follow(entry.id)
        self.docket.judged(entry.id, _first(judgement.changes_at_ms, self.retry_at_ms(entry, now)))
        if judgement.standing == "approved":
            self._approved[entry.id] = None
        else:
            self._approved.pop(entry.id, None)
        willing = next(self._own_reasons(entry, judgement, now), None) is None
        self.mark(self.succession.set_willing(entry.id, willing))
        return willing and not self.is_replaced(entry.id)

    def is_replaced(self, task: str) -> bool:
        """Whether a later version of a task takes its place."""
        if any(task in self.succession.before(other) for other in (*self.learning, *self.aggregating)):
            return True
        return not self.takes_part(task) and bool(self.succession.willing_after(task))

    def retry_at_ms(self, entry: TaskEntry, now: Moment) -> int:
        """When a task that was set back is tried again, in unix milliseconds; 0: that is not waited for."""
        setback = entry.setback
        if setback is None or setback.is_over(now.monotonic_s) or math.isinf(setback.until_s):
            return 0
        return now.wall_ms + math.ceil(1000 * (setback.until_s - now.monotonic_s))

    def _own_reasons(self, entry: TaskEntry, judgement: Judgement, now: Moment) -> Iterator[str]:
        """What is in the way whatever other versions there are: from what is cheap to find out to what is dear."""
        if (
            self.settings.role == "member" and entry.consent is not True
        ):  # the owner's word on this very task goes first
            yield from filter(None, [self.placement.why_not_here(entry.id)])
        yield from self.reasons_wherever(entry, judgement, now)

    def reasons_wherever(self, entry: TaskEntry, judgement: Judgement, now: Moment) -> Iterator[str]:
        """The same, wherever applications want the task to run: whether this agent could take part at all."""
        settings = self.settings
        if judgement.standing != "approved":
            yield judgement.why
        if entry.setback is not None and (set_back := entry.setback.reason(now.monotonic_s)):
            yield set_back
        if settings.role == "observer":
            yield "this agent only observes"
            return
        if settings.role == "server":
            yield from self._reasons_not_to_serve(entry, judgement)
            return
        consent = self.book.decide(entry, settings)
        if not consent.joins:
            yield consent.by
        if judgement.standing == "approved" or self._is_shown_whole(entry):
            found = self._program_found(entry)
            reasons = [each for each in (*found.too_large, self._mismatch(entry), found.unsound) if each]
            yield from reasons
            if not reasons and not self.takes_part(entry.id) and (no_room := self.no_room(entry)):
                yield no_room

    def _reasons_not_to_serve(self, entry: TaskEntry, judgement: Judgement) -> Iterator[str]:
        if judgement.standing != "approved" and not self._is_shown_whole(entry):
            return
        try:
            servers = entry.manifest.servers
        except TaskError as error:
            yield str(error)
            return
        settings = self.settings
        if settings.peer not in (*servers, *settings.trusted_servers):
            yield "neither the manifest nor [trust] servers lists this peer as a server"
        elif (needs := self.needs(entry)).memory_mb > settings.limits.memory_mb:
            yield f"needs about {needs.memory_mb:,} MB to be served, profile allows {settings.limits.memory_mb:,}"
        elif not self.takes_part(entry.id) and (no_room := self.no_room(entry)):
            yield no_room

    def _is_shown_whole(self, entry: TaskEntry) -> bool:
        """Whether its program and data are looked at though it is not approved: only where that cannot be a flood."""
        return self.succession.follows(entry.id) or entry.brief.publisher in self.settings.trusted_authors

    def _program_found(self, entry: TaskEntry) -> ProgramFound:
        """What of a task's program is in the way. It is looked at once, until the owner sets other limits."""
        if entry.program_found is None:
            try:
                manifest = entry.manifest
                entry.program_found = ProgramFound(
                    too_large=tuple(reasons_not_to_fit(manifest, self.settings.limits)),
                    unsound=self.settings.check_task(entry.id, manifest),
                )
            except TaskError as error:
                entry.program_found = ProgramFound(unsound=str(error))
        return entry.program_found

    def _mismatch(self, entry: TaskEntry) -> str:
        try:
            return self.settings.match_data(entry.id, entry.head)
        except TaskError:
            return ""  # `_program_found` says it

    def needs(self, entry: TaskEntry) -> Needs:
        """What a task that fits takes of this device."""
        if self.settings.role == "observer":
            return Needs()
        try:
            if self.settings.role == "server":
                return self._needs_to_serve(entry.manifest)
            return self.settings.needs(entry.id, entry.head)
        except TaskError:
            return Needs()  # `_program_found` says it

    def _needs_to_serve(self, manifest: TaskManifest) -> Needs:
        layout, memory_mb = ModelLayout.of(manifest.program), self.settings.limits.memory_mb
        return Needs(memory_mb=math.ceil(served_bytes(manifest.merging, layout, memory_mb=memory_mb) / MIB))

    def no_room(self, entry: TaskEntry) -> str:
        """Why a task does not fit beside those that hold something of the device; empty if it does."""
        earlier = [each.id for each in lineage.ancestors(entry, self.book.entries)]
        return self.reservations.why_no_room(entry.id, self.needs(entry), giving_way=earlier)

    # --- explaining -------------------------------------------------------------------------------

    def why_not(self, entry: TaskEntry, now: Moment) -> list[str]:
        """Why the task is not joined, for its owner; empty if it is, or is about to be."""
        judgement = self.judgement(entry, now)
        reasons = list(self._own_reasons(entry, judgement, now))
        if entry.id in self.joining and not self.reservations.holds(entry.id):
            reasons.append(WAITS_IN_VAIN)
        if newer := self._replacement(entry):
            return [*reasons, f"replaced by its version {newer.brief.version} ({newer.id[:12]})"]
        if reasons and judgement.standing in ("waiting", "approved"):
            earlier = lineage.ancestors(entry, self.book.entries)
            if any(each.id in self.learning for each in earlier):
                reasons.append("a new version of a task that is trained here: it needs approval and consent of its own")
        return reasons

    def _replacement(self, entry: TaskEntry) -> TaskEntry | None:
        """The newest later version that is learned or served here, or would be if this one is not."""
        taking_part = (*self.learning, *self.aggregating)
        later = [task for task in taking_part if entry.id in self.succession.before(task)]
        if not self.takes_part(entry.id):
            later += self.succession.willing_after(entry.id)
        found = [self.book.entries[task] for task in later]
        return max(found, key=lambda each: (each.brief.version, each.brief.created_at_ms, each.id), default=None)


def _first(*times_ms: int) -> int:
    """The earliest of some times, 0 standing for never."""
    return min((each for each in times_ms if each), default=0)
