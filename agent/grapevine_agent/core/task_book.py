"""The tasks that an agent has heard of, what reviewers say of them, and whether it takes part.

Approval is each agent's own judgement: it counts verdicts by keys that its owner trusts, leaves out
the author's own, lets verdicts run out, and takes one trusted rejection as a veto. Nothing but the
signed records is needed, so it works offline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_agent.core.settings import Consent, CoreSettings, ReviewPolicy
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_proto.messages import Review, TaskPublication
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.layout import ModelLayout

Standing: TypeAlias = Literal["approved", "waiting", "rejected", "expired", "retracted", "unwanted"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What an agent makes of a task, and why, in words for its owner."""

    standing: Standing
    why: str
    approvals: int = 0


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
    reviews: dict[str, dict[str, Review]] = field(default_factory=dict)  # task → reviewer → verdict
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

    def weigh(self, reviewer: str, review: Review) -> None:
        """Take a verdict. It may come before its manifest."""
        self.reviews.setdefault(review.task, {})[reviewer] = review

    def set_consent(self, task: str, joined: bool) -> None:
        """Keep the owner's word; it holds for a task that is not known yet as well."""
        self.consents[task] = joined
        if task in self.entries:
            self.entries[task].consent = joined

    def judge(self, entry: TaskEntry, policy: ReviewPolicy, wall_ms: int) -> Judgement:
        """Whether the task is approved, by this agent's policy. See the module's docstring."""
        manifest = entry.manifest
        if entry.retracted:
            reason = f": {entry.retraction}" if entry.retraction else ""
            return Judgement(standing="retracted", why=f"retracted by its publisher{reason}")
        if 0 < manifest.expires_at_ms < wall_ms:
            return Judgement(standing="expired", why="expired")
        if policy.publishers and manifest.publisher not in policy.publishers:
            return Judgement(
                standing="unwanted",
                why=f"publisher {manifest.publisher} is not among the publishers that the configuration allows",
            )
        counted = {
            reviewer: review
            for reviewer, review in self.reviews.get(entry.id, {}).items()
            if reviewer in policy.trusted and reviewer != manifest.publisher and review.valid_until_ms >= wall_ms
        }
        vetoes = sorted(reviewer for reviewer, review in counted.items() if not review.approved)
        if vetoes:
            reason = counted[vetoes[0]].reason or "no reason given"
            return Judgement(standing="rejected", why=f"rejected by {vetoes[0]}: {reason}")
        approvals = len(counted)
        if approvals < policy.approvals:
            why = f"{approvals} of {policy.approvals} approvals by trusted reviewers"
            if len(policy.trusted - {manifest.publisher}) < policy.approvals:
                why += (
                    f" (only {len(policy.trusted - {manifest.publisher})} reviewers are trusted: see [review] trusted)"
                )
            return Judgement(standing="waiting", why=why, approvals=approvals)
        return Judgement(
            standing="approved", why=f"approved by {', '.join(sorted(counted)) or 'policy'}", approvals=approvals
        )


def reasons_not_to_join(entry: TaskEntry, judgement: Judgement, settings: CoreSettings) -> list[str]:
    """Why this agent does not train the task; empty if it does. Pure: it explains itself to the owner."""
    manifest, limits = entry.manifest, settings.limits
    reasons = [] if judgement.standing == "approved" else [judgement.why]
    if entry.ended:
        reasons.append(entry.ended)
    if settings.role == "observer":
        return [*reasons, "this agent only observes"]
    if settings.role == "server":
        if settings.peer not in (*manifest.servers, *settings.trusted_servers):
            reasons.append("neither the manifest nor [trust] servers lists this peer as a server")
        return reasons
    if (consent := _consent(entry.consent, settings.consent)) != "":
        reasons.append(consent)
    if limits.cannot_train:
        reasons.append(limits.cannot_train)
    num_parameters = ModelLayout.of(manifest.program).num_parameters
    if num_parameters > limits.max_parameters:
        reasons.append(f"needs {num_parameters:,} parameters, profile allows {limits.max_parameters:,}")
    if manifest.training.batch_size > limits.max_batch:
        reasons.append(f"needs batches of {manifest.training.batch_size}, profile allows {limits.max_batch}")
    if manifest.requirements.memory_mb > limits.memory_mb:
        reasons.append(f"needs {manifest.requirements.memory_mb} MB, profile allows {limits.memory_mb}")
    if manifest.requirements.cores > limits.cores:
        reasons.append(f"needs {manifest.requirements.cores} cores, this device has {limits.cores}")
    found = (settings.match_data(entry.id, manifest), settings.check_task(manifest))
    return [*reasons, *(reason for reason in found if reason)]


def _consent(word: bool | None, policy: Consent) -> str:
    if word is not None:
        return "" if word else "the owner has left it"
    if policy == "auto":
        return ""
    if policy == "ask":
        return "waits for the owner's consent: grapevine join"
    return "the owner joins no tasks (consent = 'never')"
