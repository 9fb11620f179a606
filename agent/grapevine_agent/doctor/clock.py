"""The clock: whether something sets it, and what else says that it is right.

The kernel knows whether a time service keeps its clock (adjtimex(2): STA_UNSYNC), whichever it is. Where it does not
say, systemd is asked. What the clock cannot be before: this program, and what the agent has written. And peers sign
their heartbeats with the time; where several agree with each other and not with us, it is most likely us.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, Final

from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation
from grapevine_agent.identity import DATABASE_FILE, PEER_FILE
from grapevine_agent.spoken import span

WRONG_S: Final = 600.0  # what was published for an hour, say, ends too early or too late
OFF_S: Final = 30.0
_LATE_S: Final = 120.0  # a file may be written by another machine, whose clock is as good as ours
_UNSYNC: Final = 0x40  # <linux/timex.h>
_SYSTEMD_S: Final = 3.0
_SET_IT: Final = (
    "have a time service set it: sudo apt install systemd-timesyncd, then sudo timedatectl set-ntp true; or chrony"
)


class _Timex(ctypes.Structure):
    """The beginning of `struct timex`, as <linux/timex.h> has it; the C library's is not longer than what follows."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def is_kept() -> bool | None:
    """Whether a time service keeps the clock; None: nobody says."""
    with suppress(OSError, AttributeError):
        timex = _Timex()
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) >= 0:
            return not timex.status & _UNSYNC
    if (program := shutil.which("timedatectl")) is not None:
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [program, "show", "-p", "NTPSynchronized", "--value"],
                capture_output=True,
                text=True,
                timeout=_SYSTEMD_S,
                check=True,
            )
            return {"yes": True, "no": False}.get(done.stdout.strip())
    return None


def has_battery(root: Path = Path("/")) -> bool:
    """Whether there is a clock that goes on without power."""
    with suppress(OSError):
        return any((root / "sys/class/rtc").iterdir())
    return False


def youngest(situation: Situation) -> tuple[float, str]:
    """What this clock cannot be before, as Unix seconds, and what says so."""
    places = [Path(__file__)]
    if situation.config is not None and situation.knows("agent"):
        places += [situation.config.agent.state_dir / name for name in (PEER_FILE, DATABASE_FILE)]
    found = [(0.0, "")]
    for each in places:
        with suppress(OSError):
            found.append((each.stat().st_mtime, str(each)))
    return max(found)


def clock(
    *, now_s: float, kept: bool | None, battery: bool, not_before: tuple[float, str], ahead_s: Iterable[float]
) -> list[Finding]:
    """What to make of it: pure. `ahead_s`: by how much each peer's clock is ahead of ours."""
    offsets = sorted(ahead_s)
    middle = median(offsets) if offsets else None
    facts: dict[str, Any] = {
        "now_s": round(now_s, 3),
        "kept": kept,
        "battery": battery,
        "peers_heard": len(offsets),
        "peers_ahead_s": None if middle is None else round(middle, 3),
    }
    date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    clocks = "1 peer's clock says" if len(offsets) == 1 else f"{len(offsets)} peers' clocks say"
    nearby = f"; {clocks} the same" if middle is not None and abs(middle) <= OFF_S else ""

    def finding(level: Any, says: str, remedy: str = "") -> list[Finding]:
        return [Finding(check="clock", level=level, says=says, remedy=remedy, facts=facts)]

    if not_before[0] > now_s + _LATE_S:
        return finding("fail", f"it says {date}, and {not_before[1]} was written after that", _SET_IT)
    if middle is not None and abs(middle) > OFF_S:
        word = "behind" if middle > 0 else "ahead of"
        says = f"it says {date}, {span(abs(middle))} {word} {_whose(len(offsets))}"
        # Of one peer alone it may as well be theirs.
        return finding("fail" if abs(middle) > WRONG_S and len(offsets) > 1 else "warn", says, _SET_IT)
    if kept is False:
        says = f"it says {date}, and no time service keeps it{nearby}"
        says += "" if battery else "; there is no clock with a battery either, so it is wrong after each power cut"
        return finding("warn", says, _SET_IT)
    if kept is None:
        return finding("ok" if nearby else "skip", f"it says {date}; whether something keeps it is not known{nearby}")
    says = f"{date}, kept by a time service{nearby}"
    says += "" if battery else "; without a battery, so it is right only once that was reached"
    return finding("ok", says)


def _whose(num: int) -> str:
    return "the one peer that is heard" if num == 1 else f"those of {num} peers"
