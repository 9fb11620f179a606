"""What can be believed of the number that a server gives its models.

A server publishes at most at each of its heartbeats, and begins to count no earlier than the task was made. A number
beyond that is a lie or a fault, and would stand above every honest one for ever: members refuse it, and no server
goes on from it.
"""

from __future__ import annotations

from typing import Final

from grapevine_agent.core.moment import Moment
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest

MOST_PER_S: Final = 100.0  # models; heartbeats are a second by default
CLOCKS_S: Final = 86_400.0  # by which honest clocks differ at most: see `grapevine_proto.sessions`


def most_published(manifest: TaskManifest, started: Moment, now: Moment) -> int:
    """The number that an honest server of a task can have reached, by our clocks; `started`: when we began with it."""
    since_made_s = (now.wall_ms - manifest.created_at_ms) / 1000
    return int(MOST_PER_S * max(0.0, since_made_s, now.monotonic_s - started.monotonic_s))


def check_number(sender: str, number: int, manifest: TaskManifest, started: Moment, now: Moment) -> None:
    """Raise `WireError` for a server's model, or a record of one, from the future."""
    most = most_published(manifest, started, now) + int(MOST_PER_S * CLOCKS_S)
    if number > most:
        raise WireError(
            "server-ahead", f"{sender} says {manifest.label} has its model {number:,}; at most {most:,} can be"
        )
