"""The tasks that an agent has heard of, what reviewers say of them, and whether it takes part.

How verdicts become a judgement stands in `judging`, how the owner consents in `consent`.

An entry is here for as long as its record is. Those that the owner has had to do with are shown for a while longer,
as expired or retracted: they *linger*, a bounded number of them. Verdicts likewise: a stranger's goes with its
record; one that counted stays, run out, for as long as its task does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from grapevine_agent.core.settings import CoreSettings, ReviewPolicy
from grapevine_agent.core.tasks.consent import Decision, decide
from grapevine_agent.core.tasks.entry import OpenedManifests, TaskEntry
from grapevine_agent.core.tasks.judging import Judgement, Verdict, judge
from grapevine_agent.core.tasks.lineage import MAX_GENERATIONS
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import ManifestBrief
from grapevine_proto.manifest_codec import decode_manifest_head, read_brief
from grapevine_proto.messages import Review, TaskPublication
from grapevine_proto.topics import TaskTopic

__all__ = ["TaskBook", "TaskEntry", "verdict_of"]

MAX_LINGERING = 64
LINGERING_BYTES = 4 * 1024 * 1024  # of their manifests
MAX_REFUSALS = 1_000  # versions that are gone, and that the owner's no to an earlier one covers


@dataclass
class TaskBook:
    """All tasks, by id. See the module's docstring."""

    peer: str = ""  # whose book this is
    entries: dict[str, TaskEntry] = field(default_factory=dict)
    reviews: dict[str, dict[str, Verdict]] = field(default_factory=dict)  # task → reviewer → verdict
    reviewed: dict[str, None] = field(default_factory=dict)  # the tasks that `peer` has a verdict on
    consents: dict[str, bool] = field(default_factory=dict)
    children: dict[str, dict[str, None]] = field(default_factory=dict)  # task, known or not → who names it as parent
    opened: OpenedManifests = field(default_factory=OpenedManifests)
    _run_out: dict[str, set[str]] = field(default_factory=dict)  # task → reviewers whose records are gone
    _lingering: OrderedDict[str, None] = field(default_factory=OrderedDict)  # the oldest first
    _refusals: OrderedDict[str, None] = field(default_factory=OrderedDict)  # see `MAX_REFUSALS`

    # --- tasks ------------------------------------------------------------------------------------

    def shelve(self, received: Received, publication: TaskPublication) -> TaskEntry | None:
        """Take a manifest or its tombstone. Raises `WireError` if the manifest is not what its author may say."""
        assert isinstance(received.topic, TaskTopic)
        task, author = received.topic.task, received.message.sender
        entry = self.entries.get(task)
        if publication.retracted:
            if entry is not None and entry.brief.publisher == author:
                entry.retracted, entry.retraction = True, publication.reason
            return entry
        if entry is not None:
            if entry.brief.publisher == author:
                entry.until_ms = received.message.expires_at_ms
                self._lingering.pop(task, None)
            return entry
        brief = self.brief_of(received, publication)
        entry = TaskEntry(
            id=task,
            brief=brief,
            encoded=publication.manifest,
            opened=self.opened,
            until_ms=received.message.expires_at_ms,
            consent=self.consents.get(task),
        )
        self.entries[task] = entry
        if brief.parent:
            self.children.setdefault(brief.parent, {})[task] = None
        return entry

    @staticmethod
    def brief_of(received: Received, publication: TaskPublication) -> ManifestBrief:
        """What a manifest says. Raises `WireError` if it is none, or not its author's."""
        if received.verified:
            brief = ManifestBrief.of(decode_manifest_head(publication.manifest))
        else:  # of our own disk: it was decoded when it came, and its name is the digest of its bytes
            brief = read_brief(publication.manifest)
        if brief.publisher != received.message.sender:
            raise WireError("forged", f"{received.message.sender} publishes a manifest of {brief.publisher}")
        return brief

    def linger(self, task: str) -> list[TaskEntry]:
        """A task's record is gone or retracted, and the owner has had to do with it. Who leaves for it, oldest first.

        The caller removes them (see `remove`).
        """
        self._lingering.pop(task, None)
        self._lingering[task] = None
        total = sum(len(self.entries[each].encoded) for each in self._lingering)
        leaving: list[TaskEntry] = []
        for each in list(self._lingering)[:-1]:
            if len(self._lingering) - len(leaving) <= MAX_LINGERING and total <= LINGERING_BYTES:
                break
            leaving.append(self.entries[each])
            total -= len(self.entries[each].encoded)
        return leaving

    def remove(self, task: str) -> None:
        """Forget a task, and what is said of it beyond what records say. The owner's word stays."""
        entry = self.entries[task]
        if entry.consent is False or (self.consents and self._word_on_earlier(entry) is False):
            self._refusals[task] = None
            self._refusals.move_to_end(task)
            if len(self._refusals) > MAX_REFUSALS:
                self._refusals.popitem(last=False)
        del self.entries[task]
        self._lingering.pop(task, None)
        if entry.brief.parent:
            siblings = self.children[entry.brief.parent]
            siblings.pop(task, None)
            if not siblings:
                del self.children[entry.brief.parent]
        for reviewer in self._run_out.pop(task, ()):
            self._drop(task, reviewer)

    # --- verdicts ---------------------------------------------------------------------------------

    def weigh(self, received: Received, review: Review) -> None:
        """Take a verdict. It may come before its manifest."""
        reviewer = received.message.sender
        self.reviews.setdefault(review.task, {})[reviewer] = verdict_of(received, review)
        if reviewer == self.peer:
            self.reviewed[review.task] = None
        if review.task in self._run_out:
            self._run_out[review.task].discard(reviewer)

    def run_out(self, received: Received, review: Review, *, counted: bool) -> None:
        """A verdict's record is gone. If it `counted` it is shown, as run out, for as long as its task is known."""
        if counted and review.task in self.entries:
            self._run_out.setdefault(review.task, set()).add(received.message.sender)
        else:
            self._drop(review.task, received.message.sender)

    def _drop(self, task: str, reviewer: str) -> None:
        verdicts = self.reviews.get(task)
        if verdicts is not None:
            verdicts.pop(reviewer, None)
            if reviewer == self.peer:
                self.reviewed.pop(task, None)
            if not verdicts:
                del self.reviews[task]

    def verdicts_of(self, task: str, reviewers: frozenset[str]) -> Iterator[tuple[str, Verdict]]:
        """What these reviewers say of a task, however many others say something."""
        verdicts = self.reviews.get(task)
        if verdicts is None:
            return
        if len(verdicts) < len(reviewers):
            yield from ((reviewer, verdict) for reviewer, verdict in verdicts.items() if reviewer in reviewers)
        else:
            yield from ((reviewer, verdicts[reviewer]) for reviewer in reviewers if reviewer in verdicts)

    # --- judging ----------------------------------------------------------------------------------

    def may_be_approved(self, entry: TaskEntry, policy: ReviewPolicy) -> bool:
        """Whether anything that could be is said for a task: a stranger's that nobody trusted speaks of stays out."""
        needed = policy.approvals_of.get(entry.brief.publisher, policy.approvals)
        return needed <= 0 or next(self.verdicts_of(entry.id, policy.reviewers), None) is not None

    def judge(self, entry: TaskEntry, policy: ReviewPolicy, wall_ms: int) -> Judgement:
        """Whether the task is approved, by this agent's policy (see `judging`)."""
        return judge(
            entry.brief.publisher,
            dict(self.verdicts_of(entry.id, policy.reviewers)),
            policy,
            wall_ms,
            expires_at_ms=entry.brief.expires_at_ms,
            until_ms=entry.until_ms,
            retraction=entry.retraction if entry.retracted else None,
        )

    # --- consent ----------------------------------------------------------------------------------

    def is_own(self, task: str) -> bool:
        """Whether this agent has published a task."""
        entry = self.entries.get(task)
        return entry is not None and entry.brief.publisher == self.peer

    def set_consent(self, task: str, joined: bool) -> None:
        """Keep the owner's word; it holds for a task that is not known yet as well."""
        self.consents[task] = joined
        self._refusals.pop(task, None)
        if task in self.entries:
            self.entries[task].consent = joined

    def forget_consent(self, task: str) -> None:
        """The owner's word on a task is taken back, as if none had been said."""
        self.consents.pop(task, None)
        if task in self.entries:
            self.entries[task].consent = None

    def decide(self, entry: TaskEntry, settings: CoreSettings) -> Decision:
        """Whether the owner consents (see `consent`)."""
        return decide(
            entry.brief,
            word=entry.consent,
            earlier=self._word_on_earlier(entry) if self.consents else None,
            default=settings.consent,
            rules=settings.consent_rules,
        )

    def _word_on_earlier(self, entry: TaskEntry) -> bool | None:
        """The owner's word on the nearest earlier version by the same publisher that there is a word on."""
        publisher, parent = entry.brief.publisher, entry.brief.parent
        for _ in range(MAX_GENERATIONS):
            if not parent:
                break
            if (word := self.consents.get(parent)) is not None:
                return word
            if parent in self._refusals:
                return False
            held = self.entries.get(parent)
            if held is None or held.brief.publisher != publisher:
                break
            parent = held.brief.parent
        return None


def verdict_of(received: Received, review: Review) -> Verdict:
    """A verdict with the date that its reviewer signed."""
    return Verdict(
        approved=review.approved,
        made_at_ms=received.message.created_at_ms,
        valid_until_ms=review.valid_until_ms,
        reason=review.reason,
        withdrawn=review.withdrawn,
    )
