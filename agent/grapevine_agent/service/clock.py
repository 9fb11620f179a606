"""The service's clock. Everything inside the core is told the time; this is where it comes from."""

from __future__ import annotations

import time

from grapevine_agent.core.moment import Moment


def now() -> Moment:
    """The present moment."""
    return Moment(monotonic_s=time.monotonic(), wall_ms=int(time.time() * 1000))
