"""The service's clock. Everything inside the core is told the time; this is where it comes from."""

from __future__ import annotations

import time
from typing import Final

from grapevine_agent.core.moment import Moment

_SINCE_BOOT: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)  # runs on while the device is suspended


def now() -> Moment:
    """The present moment."""
    monotonic_s = time.monotonic()
    since_boot_s = time.clock_gettime(_SINCE_BOOT) if _SINCE_BOOT is not None else monotonic_s
    suspended_s = max(0.0, since_boot_s - monotonic_s)
    return Moment(monotonic_s=monotonic_s, wall_ms=int(time.time() * 1000), suspended_s=suspended_s)
