"""Time, as an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, order=True)
class Moment:
    """Now: a monotonic clock for liveness and timers, and the wall clock for expiry only.

    The monotonic clock stands still while the device is suspended: `suspended_s` is for how long that was, so far.

    Boards without a battery-backed clock start in 1970 until NTP finds them, so nothing that must
    work at once may rest on `wall_ms`.
    """

    monotonic_s: float
    wall_ms: int
    suspended_s: float = 0.0
