"""The places of applications: which of those that may be approved are followed, where there are more than that.

An application of which nobody trusted has spoken matters to nobody, and costs nothing but its bytes. Of those that do
matter some go first: our own, those of authors whom the owner names, and those of which somebody has a word that counts
and holds. Who goes first takes the place of who does not, and that one comes back once there is room.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.apps.app_book import AppBook, AppEntry
from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.core.tasks.archive import Archive
from grapevine_agent.core.tasks.judging import Verdict
from grapevine_agent.core.tasks.task_book import TaskBook

MOST_FOLLOWED: Final = 256  # applications that may be approved: strangers', too, where the owner asks for no reviews


@dataclass(kw_only=True)
class Places:
    """See the module's docstring. `wall_ms`: when all was looked at last; a word that had run out by then is none."""

    settings: CoreSettings
    archive: Archive
    book: AppBook
    tasks: TaskBook
    wall_ms: int = 0
    _followed: dict[str, AppEntry] = field(default_factory=dict)  # by id: those that may be approved, and our own
    _has_left_out: bool = False  # somebody who may be approved, for want of a place

    @property
    def num_followed(self) -> int:
        """How many places are taken."""
        return len(self._followed)

    # --- what matters -----------------------------------------------------------------------------

    def may_matter(self, entry: AppEntry) -> bool:
        """Whether an application may be approved, or is our own: all others cost nothing but their bytes."""
        policy = self.settings.review
        needed = policy.approvals_of.get(entry.author, policy.approvals)
        return needed <= 0 or entry.author == self.settings.peer or self.has_counted_verdict(entry.id)

    def matters(self, entry: AppEntry) -> bool:
        """Whether to look at it: while a version waits of which nobody has spoken, the one before may hold."""
        return self.may_matter(entry) or (entry.before is not None and self.may_matter(entry.before))

    def has_counted_verdict(self, application: str) -> bool:
        """Whether somebody whose word counts has spoken of it, be it that this has run out."""
        return any(True for _ in self._verdicts(application))

    def _verdicts(self, application: str) -> Iterator[Verdict]:
        verdicts = self.tasks.verdicts_of(application, self.settings.review.reviewers)
        return (verdict for _, verdict in verdicts if not verdict.withdrawn)

    def _goes_first(self, entry: AppEntry) -> bool:
        """Whether it is our own, or the owner names its author, or somebody has a word on it that counts and holds."""
        if entry.author == self.settings.peer or entry.author in self.settings.review.approvals_of:
            return True
        versions = (entry.id,) if entry.before is None else (entry.id, entry.before.id)
        return any(self._holds(verdict) for version in versions for verdict in self._verdicts(version))

    def _holds(self, verdict: Verdict) -> bool:
        longest_ms = self.settings.review.max_valid_days * DAY_MS if verdict.approved else math.inf
        return self.wall_ms <= min(verdict.valid_until_ms, verdict.made_at_ms + longest_ms)

    # --- who has a place --------------------------------------------------------------------------

    def is_followed(self, entry: AppEntry) -> bool:
        """Whether it has one of the places for those that may be approved."""
        return self._followed.get(entry.id) is entry

    def followed(self) -> list[AppEntry]:
        """Those that have a place."""
        return list(self._followed.values())

    def follow(self, entry: AppEntry) -> None:
        """Give it a place, if need be that of another, which comes back once there is room."""
        if self.is_followed(entry):
            return
        if len(self._followed) >= MOST_FOLLOWED and not self._make_place(entry):
            self._has_left_out = True
            self.archive.records.let_go(entry.topic)
        elif self.archive.keep(entry.topic):
            self._followed[entry.id] = entry
        else:
            self.book.remove(entry.topic)  # it was damaged on our disk

    def _make_place(self, entry: AppEntry) -> bool:
        if not self._goes_first(entry):
            return False
        other = next((each for each in self._followed.values() if not self._goes_first(each)), None)
        if other is None:
            return False
        self.unfollow(other)
        self._has_left_out = True
        return True

    def unfollow(self, entry: AppEntry) -> None:
        """It has no place any more."""
        self._followed.pop(entry.id, None)
        self.archive.records.let_go(entry.topic)

    def fill(self) -> None:
        """Give the places to those that go first, and then to whoever was heard of first."""
        self._has_left_out = False
        wanting = [each for each in self.book.entries.values() if self.matters(each)]
        for entry in sorted(wanting, key=self._goes_first, reverse=True):
            self.follow(entry)

    def look(self) -> None:
        """Who matters no more has no place any more, and who had none gets it."""
        for entry in self.followed():
            if self.book.entries.get(entry.topic) is not entry or not self.matters(entry):
                self.unfollow(entry)
        if self._has_left_out and len(self._followed) < MOST_FOLLOWED:
            self.fill()

    def set_settings(self, settings: CoreSettings) -> None:
        """The owner changed whom to trust: all places are given anew."""
        self.settings = settings
        self._followed.clear()
        for entry in self.book.entries.values():
            self.archive.records.let_go(entry.topic)
        self.fill()
