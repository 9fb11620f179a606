"""A reviewer's own verdicts, signed again before they run out, where the reviewer has asked for that.

Renewed is what still holds: not what was withdrawn, not what ran out while the agent was away (look
at the task or application again then), and nothing of a task that is over, or of what is not known any more.

Owners pass over an approval that is dated far ahead of their clocks. So what this agent signed while its clock was
ahead is signed again as soon as that was set back, and not only when it is due. Never otherwise: a clock that
started behind takes all for dated ahead, and what it signs has run out for everybody else.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.core.tasks.judging import EARLIEST_MS
from grapevine_agent.core.tasks.task_book import TaskBook
from grapevine_proto.messages import Review

RENEW_WITHIN_MS = 3.5 * DAY_MS  # owners believe an approval for a week by default, whatever it says
WITHDRAWAL_MS = 366 * DAY_MS  # a withdrawal outlives every approval that it takes back


def due_renewals(
    book: TaskBook, peer: str, wall_ms: int, *, was_set_back: bool = False, applications: Collection[str] = ()
) -> tuple[list[Review], float]:
    """The verdicts of `peer` to be published again now, and when to look again (unix milliseconds, or inf).

    `was_set_back`: the clock had been ahead until now. `applications`: those that are known, by id.
    """
    due: list[Review] = []
    next_ms = math.inf
    for task in book.reviewed:
        entry, own = book.entries.get(task), book.reviews[task].get(peer)
        if entry is None and task not in applications:
            continue
        over = entry is not None and (entry.retracted or 0 < entry.brief.expires_at_ms < wall_ms)
        if own is None or own.withdrawn or over or own.valid_until_ms < wall_ms:
            continue
        life_ms = own.valid_until_ms - own.made_at_ms
        renew_at_ms = own.made_at_ms + min(life_ms / 2, RENEW_WITHIN_MS)
        is_ahead = was_set_back and own.made_at_ms > wall_ms >= EARLIEST_MS
        if renew_at_ms > wall_ms and not is_ahead:
            next_ms = min(next_ms, renew_at_ms)
            continue
        valid_until_ms = wall_ms + life_ms
        due.append(Review(task=task, approved=own.approved, reason=own.reason, valid_until_ms=valid_until_ms))
    return due, next_ms
