"""Which tasks, and which verdicts, are listed where somebody asks for all of them.

Strangers may publish any number of either. Those that the owner has had to do with are always listed; of the others the
newest, so many that an answer stays within what a command takes, and the service's loop within a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.apps.app_book import AppEntry
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.core.tasks.judging import Verdict

MAX_STRANGERS: Final = 500
MAX_STRANGERS_VERDICTS: Final = 50  # of one task


def listed(core: AgentCore) -> list[TaskEntry]:
    """The tasks to list, in the order in which they were heard of."""
    entries = core.book.entries
    if len(entries) <= MAX_STRANGERS:
        return list(entries.values())
    strangers = [entry.id for entry in entries.values() if not core.steward.concerns_owner(entry)]
    left_out = frozenset(strangers[:-MAX_STRANGERS])
    return [entry for entry in entries.values() if entry.id not in left_out]


def listed_applications(core: AgentCore) -> list[AppEntry]:
    """The applications to list: our own and those that may be approved, and of the others the newest."""
    entries = list(core.apps.book.entries.values())
    if len(entries) <= MAX_STRANGERS:
        return entries
    strangers = [entry.id for entry in entries if not core.apps.places.may_matter(entry)]
    left_out = frozenset(strangers[:-MAX_STRANGERS])
    return [entry for entry in entries if entry.id not in left_out]


def shown(verdicts: Mapping[str, Verdict], reviewers: Collection[str]) -> dict[str, Verdict]:
    """Of the verdicts on a task those of these reviewers, and the newest of others."""
    if len(verdicts) <= MAX_STRANGERS_VERDICTS:
        return dict(verdicts)
    others = [reviewer for reviewer in verdicts if reviewer not in reviewers]
    left_out = frozenset(others[:-MAX_STRANGERS_VERDICTS])
    return {reviewer: verdict for reviewer, verdict in verdicts.items() if reviewer not in left_out}
