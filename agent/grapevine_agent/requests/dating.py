"""The date that a statement is signed with."""

from __future__ import annotations

from grapevine_agent.core.moment import Moment
from grapevine_agent.core.tasks.judging import EARLIEST_MS
from grapevine_agent.printable import date_of
from grapevine_agent.service import clock
from grapevine_proto.errors import TaskError


def dated() -> Moment:
    """Now. Raises TaskError while nobody has told this device the time: what it signed would have run out at once."""
    now = clock.now()
    if now.wall_ms < EARLIEST_MS:
        raise TaskError(
            f"this device's clock says {date_of(now.wall_ms)}, and what is signed bears its date: "
            "set the clock (or let NTP do it), then say it again"
        )
    return now
