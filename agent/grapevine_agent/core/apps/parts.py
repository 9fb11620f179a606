"""One component of an approved application, as this agent sees it: would it run it, is it its own, since when.

    would run it?   qualifies ─▶ the task could be joined, or the container may run  ─▶ offered
    is it ours?     offered ─▶ among the first of all who offer it ─▶ settled for a while ─▶ placed
    runs now?       placed ─▶ within its hours ─▶ active

What others do changes `is ours` alone, and that has to hold for some heartbeats before anything follows: who was just
started knows nobody yet, and a peer that is late is not gone. What the owner or a reviewer says, and hours, count at
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from grapevine_agent.core.apps.app_book import AppEntry
from grapevine_proto.application import Component
from grapevine_proto.messages import PeerAnnouncement

SETTLE_HEARTBEATS: Final = 4.0
PartKey: TypeAlias = tuple[str, str, str]  # author, application, component


@dataclass(kw_only=True)
class Part:
    """See the module's docstring. Times are monotonic seconds."""

    entry: AppEntry
    component: Component
    why_not: tuple[str, ...] = ()  # why it is not offered; empty: it is
    chosen: tuple[str, ...] = ()  # who has it, as this agent sees it
    num_offers: int = 0
    seen: tuple[Component, bool, Mapping[str, PeerAnnouncement]] | None = None  # what `chosen` was made of
    is_placed: bool = False
    is_in_hours: bool = True
    _differs_since_s: float | None = field(default=None)  # what it should be is another thing than what it is

    @property
    def key(self) -> PartKey:
        """Which one it is, in all versions of its application."""
        return self.entry.author, self.entry.name, self.component.name

    @property
    def word(self) -> str:
        """The same as one word."""
        return "/".join(self.key)

    @property
    def is_offered(self) -> bool:
        """Whether this agent would run it."""
        return not self.why_not

    @property
    def is_active(self) -> bool:
        """Whether it is to run here now."""
        return self.is_placed and self.is_in_hours

    @property
    def is_everywhere(self) -> bool:
        """Whether it runs wherever it is offered, so that nobody has to be looked at."""
        return not self.component.replicas and not self.component.where.apart_by

    def place(self, peer: str, now_s: float, settle_s: float) -> None:
        """Say whether it is this peer's, now that it is known who is chosen."""
        should_be = self.is_offered and (self.is_everywhere or peer in self.chosen)
        if should_be == self.is_placed:
            self._differs_since_s = None
            return
        if self._differs_since_s is None:
            self._differs_since_s = now_s
        if self.is_everywhere or not self.is_offered or now_s >= self._differs_since_s + settle_s:
            self.is_placed, self._differs_since_s = should_be, None

    @property
    def is_settling(self) -> bool:
        """Whether it is about to become this agent's own, or to be no longer."""
        return self._differs_since_s is not None
