"""The board and its memory."""

from __future__ import annotations

import os
import platform
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from grapevine_agent.config.firmware import LEAST_TRAINING_MB
from grapevine_agent.config.machine import line_of, memory_limits, throttle_word
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation

HOT_C: Final = 80.0  # a Raspberry Pi begins to slow down there
LITTLE_MB: Final = 64
_MB: Final = 1 << 20
_BITS: Final = 8 * struct.calcsize("P")
# Bits of the Raspberry Pi's `throttle_word`: now, and at any time since it was switched on.
_THROTTLED: Final = ((0x1, "too little voltage"), (0x2, "slowed down"), (0x4, "throttled"), (0x8, "too hot"))
_SINCE: Final = 16


def board(*, root: Path = Path("/")) -> list[Finding]:
    """What this machine is, and whether power and heat let it work."""
    model = line_of(root / "proc/device-tree/model") or platform.machine()
    cores = len(os.sched_getaffinity(0))
    heat = _hottest()
    bits_set = throttle_word(root)
    facts: dict[str, Any] = {
        "model": model,
        "machine": platform.machine(),
        "bits": _BITS,
        "cores": cores,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "hottest_c": heat,
        "throttled": bits_set,
    }
    says = f"{model}, {cores} core{'s'[: cores != 1]}, Python {platform.python_version()}"
    says += f", {heat:.0f} °C" if heat is not None else ""
    found = [Finding(check="board", level="ok", says=says, facts=facts)]
    if bits_set is not None:
        now = [word for bit, word in _THROTTLED if bits_set & bit]
        once = [word for bit, word in _THROTTLED if bits_set & bit << _SINCE]
        if now or once:
            when = "now" if now else "since it was switched on"
            says = f"{' and '.join(now or once)} {when}, as its firmware says"
            remedy = "use the power supply that is made for it, a short cable, and a cooler"
            found.append(Finding(check="board", level="fail" if now else "warn", says=says, remedy=remedy))
    if heat is not None and heat >= HOT_C:
        remedy = "cool it: it is slow while it is hot, and lasts less long"
        found.append(Finding(check="board", level="warn", says=f"it is {heat:.0f} °C hot", remedy=remedy))
    if is_narrow():
        remedy = "to train here install a 64-bit system, if the board has one; or write limits.can_train = false"
        found.append(
            Finding(
                check="board",
                level="warn",
                says="its system is one of 32 bits, for which PyTorch has no packages",
                remedy=remedy,
            )
        )
    return found


def is_narrow() -> bool:
    """Whether the system is one of 32 bits, for which PyTorch has no packages."""
    return _BITS == 32


def memory(situation: Situation, *, root: Path = Path("/")) -> list[Finding]:
    """What there is, what is free, who limits it, and what the profile lends of it."""
    machine, swap = psutil.virtual_memory(), psutil.swap_memory()
    limit = min(memory_limits(root), default=None)
    total_mb = min(machine.total, limit or machine.total) // _MB
    free_mb = machine.available // _MB
    lent_mb = situation.profile.memory_mb if situation.profile is not None else None
    facts = {
        "total_mb": machine.total // _MB,
        "available_mb": free_mb,
        "cgroup_limit_mb": limit // _MB if limit is not None else None,
        "swap_mb": swap.total // _MB,
        "swap_used_mb": swap.used // _MB,
        "profile_mb": lent_mb,
    }
    by = f", of which a control group lends {limit // _MB:,}" if limit is not None and limit < machine.total else ""
    says = f"{machine.total // _MB:,} MB{by}; {free_mb:,} MB free, {swap.total // _MB:,} MB swap"
    trains = situation.profile is not None and situation.profile.can_train
    if lent_mb is not None and trains and lent_mb > total_mb:
        says += f"; the profile lends {lent_mb:,} MB to training, which is more than there is"
        half_mb = max(LEAST_TRAINING_MB, total_mb // 2)
        remedy = f"write memory_mb = {half_mb} into [limits], or name the profile of this board"
        return [Finding(check="memory", level="fail", says=says, remedy=remedy, facts=facts)]
    if free_mb < LITTLE_MB:
        remedy = "end what else runs here, or add swap (zram)"
        return [Finding(check="memory", level="fail", says=says, remedy=remedy, facts=facts)]
    # A trainer that runs already has its part of what is not free.
    runs = any(each.get("running") for each in situation.status.get("trainers") or ())
    if trains and not runs and free_mb + swap.free // _MB < LEAST_TRAINING_MB:
        says += f"; a trainer takes {LEAST_TRAINING_MB} MB before its first sample"
        remedy = "end what else runs here, add swap (zram), or write limits.can_train = false"
        return [Finding(check="memory", level="warn", says=says, remedy=remedy, facts=facts)]
    return [Finding(check="memory", level="ok", says=says, facts=facts)]


def _hottest() -> float | None:
    with suppress(OSError, AttributeError):
        found = [each.current for sensors in psutil.sensors_temperatures().values() for each in sensors]
        return max((each for each in found if each), default=None)
    return None
