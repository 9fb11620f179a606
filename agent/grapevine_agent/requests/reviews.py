"""What a reviewer, and an owner who says whom to trust, may ask of a running service.

Part of the methods behind the Unix socket (see `requests`). Answers are plain JSON values.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from grapevine_agent.core.apps.app_book import AppEntry
from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.core.spans import LEAST_DAYS, MOST_DAYS, REVIEW_VALID_DAYS
from grapevine_agent.core.tasks.judging import weigh
from grapevine_agent.core.tasks.task_book import TaskEntry
from grapevine_agent.requests.applications import shown_application
from grapevine_agent.requests.dating import dated
from grapevine_agent.requests.listing import listed, listed_applications, shown
from grapevine_agent.requests.naming import find_reviewed, meant, twins
from grapevine_agent.requests.parameters import checked_reason, needed, within
from grapevine_agent.requests.trusting import change_trust
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_proto.errors import TaskError
from grapevine_proto.topics import TaskTopic


class ReviewRequests:
    """The methods `reviews`, `review`, `revoke`, `records` and `trust` of one service."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def looks(self) -> dict[str, Callable[..., Any]]:
        """What changes nothing, by name."""
        return {"reviews": self.reviews, "records": self.records}

    def acts(self) -> dict[str, Callable[..., Any]]:
        """What changes something, by name."""
        return {"review": self.review, "revoke": self.revoke, "trust": self.trust}

    # --- looking ----------------------------------------------------------------------------------

    def reviews(self) -> list[dict[str, Any]]:
        """The tasks and applications that are known (see `listing`), with what reviewers say of them."""
        core = self._service.core
        return [*map(self._reviewed, listed(core)), *map(self._reviewed, listed_applications(core))]

    def records(self, task: str) -> dict[str, Any]:
        """A task with its verdicts as this agent takes them, and with its records as they were signed."""
        entry = self._find(task, acts=False)
        own = self._service.identity.peer_id
        held = [
            received
            for received in self._service.core.records
            if isinstance(received.topic, TaskTopic)
            and received.topic.task == entry.id
            and received.topic.leaf in ("manifest", "review")
        ]
        if isinstance(entry, AppEntry):
            record = self._service.core.records.get(entry.topic)
            held += [record] if record is not None else []
        return self._reviewed(entry) | {
            "peer": own,
            "records": {
                received.topic.below_root(): base64.b64encode(received.envelope).decode()
                for received in sorted(held, key=lambda received: received.topic.below_root())
            },
        }

    def _reviewed(self, entry: TaskEntry | AppEntry) -> dict[str, Any]:
        core, now = self._service.core, clock.now()
        policy = core.settings.review
        names = {each.peer: each.name for each in self._service.config.trust.peers if each.name}
        is_app = isinstance(entry, AppEntry)
        judgement = core.apps.judgement(entry, now) if isinstance(entry, AppEntry) else core.judgement(entry, now)
        about = meant(entry)
        description = entry.read().description if isinstance(entry, AppEntry) else entry.brief.description
        verdicts = shown(core.book.reviews.get(entry.id, {}), policy.reviewers | {core.settings.peer})
        return {
            "task": entry.id,
            "kind": "application" if is_app else "task",
            "name": about["name"],
            "version": about["version"],
            "description": description,
            "publisher": about["publisher"],
            **({"application": shown_application(entry)} if isinstance(entry, AppEntry) else {}),
            "standing": judgement.standing,
            "why": judgement.why,
            "changes_at_ms": judgement.changes_at_ms,
            "reviews": [
                {
                    "reviewer": each.reviewer,
                    "name": names.get(each.reviewer, ""),
                    "approved": each.verdict.approved,
                    "withdrawn": each.verdict.withdrawn,
                    "reason": each.verdict.reason,
                    "trusted": each.reviewer in policy.reviewers,
                    "roles": list(each.roles),
                    "made_at_ms": each.verdict.made_at_ms,
                    "valid_until_ms": each.verdict.valid_until_ms,
                    "counts": not each.ignored,
                    "counts_until_ms": each.until_ms,
                    "ignored": each.ignored,
                }
                for each in weigh(verdicts, about["publisher"], policy, now.wall_ms)
            ],
        }

    # --- saying -----------------------------------------------------------------------------------

    def review(self, task: str, approved: bool, reason: str = "", days: float = REVIEW_VALID_DAYS) -> dict[str, Any]:
        """Sign and announce a verdict on a task. A rejection says why."""
        entry = self._find(task, acts=True)
        service, entries = self._service, self._service.core.book.entries
        reason = checked_reason(reason if approved else needed(reason, "the reason of a rejection"))
        valid_until_ms = dated().wall_ms + int(within(days, LEAST_DAYS, MOST_DAYS, "days") * DAY_MS)
        service.perform(service.core.review(entry.id, approved=approved, reason=reason, valid_until_ms=valid_until_ms))
        publisher = meant(entry)["publisher"]
        own = publisher == service.identity.peer_id
        notes = ["an author's own review does not count anywhere"] if own else []
        notes += [
            f"{other.id} by {other.brief.publisher} has a name that looks the same, and is another task"
            for other in (twins(entry, entries) if isinstance(entry, TaskEntry) else ())
        ]
        return {
            **meant(entry),
            "approved": approved,
            "reason": reason,
            "reviewer": service.identity.peer_id,
            "valid_until_ms": valid_until_ms,
            "renewed": service.core.settings.renew_reviews and service.core.settings.role != "observer",
            "note": "; ".join(notes),
        }

    def revoke(self, task: str, reason: str = "") -> dict[str, Any]:
        """Take this peer's own verdict on a task back. Raises `TaskError` if there is none."""
        entry, reason = self._find(task, acts=True), checked_reason(reason)
        core, now = self._service.core, dated()
        reviewer = self._service.identity.peer_id
        own = core.book.reviews.get(entry.id, {}).get(reviewer)
        if own is None or own.withdrawn:
            raise TaskError(
                f"{meant(entry)['name']} ({entry.id[:12]}): there is no verdict of this peer to take back; "
                "to speak against the task: grapevine review reject"
            )
        self._service.perform(core.revoke(entry.id, reason=reason, now=now))
        revoked = "approval" if own.approved else "rejection"
        return {**meant(entry), "revoked": revoked, "reason": reason, "reviewer": reviewer}

    def _find(self, task: str, *, acts: bool) -> TaskEntry | AppEntry:
        core = self._service.core
        return find_reviewed(task, core.book.entries, core.apps.book.entries.values(), acts=acts)

    # --- whom to trust ----------------------------------------------------------------------------

    async def trust(self, change: dict[str, Any] | None = None) -> dict[str, Any]:
        """Change the trust file, if asked for (see `trusting`), read all settings again, and judge every task anew."""
        answer = change_trust(self._service.config, change)
        await self._service.reload()
        return answer
