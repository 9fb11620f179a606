"""The tasks that an agent has heard of, what reviewers say of them, and whether it takes part.

How verdicts become a judgement stands in `judging`, how the owner consents in `consent`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.core.settings import CoreSettings, ReviewPolicy
from grapevine_agent.core.tasks.consent import Decision, decide
from grapevine_agent.core.tasks.fitting import reasons_not_to_fit
from grapevine_agent.core.tasks.judging import Judgement, Verdict, judge
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_proto.messages import Review, TaskPublication
from grapevine_proto.topics import TaskTopic

MAX_VERSIONS = 1_000  # how far a chain of parents is followed


@dataclass(kw_only=True)
class TaskEntry:
    """A task with its reviews. `consent` is the owner's word on this task, None: never asked."""

    id: str
    manifest: TaskManifest
    retracted: bool = False
    retraction: str = ""
    consent: bool | None = None
    ended: str = ""  # why this agent no longer takes part, e.g. a trainer that cannot run it


@dataclass
class TaskBook:
    """All tasks, by id. See the module's docstring."""

    entries: dict[str, TaskEntry] = field(default_factory=dict)
    reviews: dict[str, dict[str, Verdict]] = field(default_factory=dict)  # task → reviewer → verdict
    consents: dict[str, bool] = field(default_factory=dict)

    def shelve(self, received: Received, publication: TaskPublication) -> TaskEntry | None:
        """Take a manifest or its tombstone. Raises `WireError` if the manifest is not what its author may say."""
        assert isinstance(received.topic, TaskTopic)
        task, author = received.topic.task, received.message.sender
        entry = self.entries.get(task)
        if publication.retracted:
            if entry is not None and entry.manifest.publisher == author:
                entry.retracted, entry.retraction = True, publication.reason
            return entry
        if entry is not None:
            return entry
        manifest = decode_manifest(publication.manifest)
        if manifest.publisher != author:
            raise WireError("forged", f"{author} publishes a manifest of {manifest.publisher}")
        entry = TaskEntry(id=task, manifest=manifest, consent=self.consents.get(task))
        self.entries[task] = entry
        return entry

    def weigh(self, received: Received, review: Review) -> None:
        """Take a verdict. It may come before its manifest."""
        self.reviews.setdefault(review.task, {})[received.message.sender] = verdict_of(received, review)

    def drop(self, received: Received) -> None:
        """Forget a verdict whose record ran out."""
        if isinstance(received.message.body, Review) and (verdicts := self.reviews.get(received.message.body.task)):
            verdicts.pop(received.message.sender, None)

    def set_consent(self, task: str, joined: bool) -> None:
        """Keep the owner's word; it holds for a task that is not known yet as well."""
        self.consents[task] = joined
        if task in self.entries:
            self.entries[task].consent = joined

    def judge(self, entry: TaskEntry, policy: ReviewPolicy, wall_ms: int) -> Judgement:
        """Whether the task is approved, by this agent's policy (see `judging`)."""
        retraction = entry.retraction if entry.retracted else None
        return judge(entry.manifest, self.reviews.get(entry.id, {}), policy, wall_ms, retraction=retraction)

    def decide(self, entry: TaskEntry, settings: CoreSettings) -> Decision:
        """Whether the owner consents (see `consent`)."""
        return decide(
            entry.manifest,
            word=entry.consent,
            earlier=self._word_on_earlier(entry),
            default=settings.consent,
            rules=settings.consent_rules,
        )

    def _word_on_earlier(self, entry: TaskEntry) -> bool | None:
        """The owner's word on the nearest earlier version by the same publisher that there is a word on."""
        publisher, parent = entry.manifest.publisher, entry.manifest.parent
        for _ in range(MAX_VERSIONS):
            if not parent:
                break
            if (word := self.consents.get(parent)) is not None:
                return word
            held = self.entries.get(parent)
            if held is None or held.manifest.publisher != publisher:
                break
            parent = held.manifest.parent
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


def reasons_not_to_join(entry: TaskEntry, judgement: Judgement, consent: Decision, settings: CoreSettings) -> list[str]:
    """Why this agent does not train the task; empty if it does. Pure: it explains itself to the owner."""
    manifest = entry.manifest
    reasons = [] if judgement.standing == "approved" else [judgement.why]
    if entry.ended:
        reasons.append(entry.ended)
    if settings.role == "observer":
        return [*reasons, "this agent only observes"]
    if settings.role == "server":
        if settings.peer not in (*manifest.servers, *settings.trusted_servers):
            reasons.append("neither the manifest nor [trust] servers lists this peer as a server")
        return reasons
    if not consent.joins:
        reasons.append(consent.by)
    reasons += reasons_not_to_fit(manifest, settings.limits)
    found = (settings.match_data(entry.id, manifest), settings.check_task(manifest))
    return [*reasons, *(reason for reason in found if reason)]
