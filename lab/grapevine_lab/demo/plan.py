"""What a demo is asked to do, and when things happen in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grapevine_proto.errors import GrapevineError

DEFAULT_SECONDS = 90.0
DEFAULT_PEERS = 5
DEFAULT_ENGINE = "embedded"
MAX_PEERS = 20  # each one is two processes and some 350 MB
ROOT_PREFIX = "grapevine/demo-"


class DemoError(GrapevineError):
    """The demo cannot go on; the message says what happened and what to do."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Seconds since learning began. Without a server, both of its times are None."""

    duration_s: float
    server_appears_s: float | None
    server_killed_s: float | None

    def phase(self, t_s: float) -> str:
        """Who learns with whom at `t_s`, in a few words."""
        if self.server_appears_s is None or self.server_killed_s is None or t_s < self.server_appears_s:
            return "gossip only"
        return "with a server" if t_s < self.server_killed_s else "server killed, gossip only"


def make_timeline(duration_s: float, *, with_server: bool) -> Timeline:
    """The server comes at one third of the time, and is killed at two thirds."""
    return Timeline(
        duration_s=duration_s,
        server_appears_s=duration_s / 3 if with_server else None,
        server_killed_s=duration_s * 2 / 3 if with_server else None,
    )


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """The command line, read."""

    timeline: Timeline
    out: Path
    num_peers: int = DEFAULT_PEERS
    seed: int = 0
    broker_url: str = ""  # "": start one
    engine: str = DEFAULT_ENGINE  # of the broker that is started
    keep: bool = False
    dashboard_port: int | None = None  # where the page is shown; None: there is none

    @property
    def with_server(self) -> bool:
        """Whether a server takes part for a while."""
        return self.timeline.server_appears_s is not None
