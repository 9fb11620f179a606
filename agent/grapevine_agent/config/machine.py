"""What this machine reports of itself: cores, memory and its limits, and how files of /proc and /sys are read.

Every file there may be missing, refuse, or hold anything: what cannot be read says nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 4_096  # of a file that is read: those of sysfs are lines
_MB: Final = 1 << 20
_MOST_GROUPS_BYTES: Final = 1 << 16  # of /proc/self/cgroup: version 1 has a line for each of its hierarchies
_THROTTLE_WORDS: Final = (  # of a Raspberry Pi's firmware, whose bus has an address in its name from model 5 on
    "devices/platform/soc/soc:firmware/get_throttled",
    "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
    "devices/platform/soc/soc@7c000000:firmware/get_throttled",
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine reports of itself: usable cores, and memory in MB (2²⁰ bytes)."""

    cores: int
    memory_mb: int


def detect_machine(root: Path = Path("/")) -> Machine:
    """Ask the system for usable cores and memory, with the limits of its control groups: a container's, a service's."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lent = min((memory, *memory_limits(root)))
    return Machine(cores=len(os.sched_getaffinity(0)), memory_mb=max(1, lent // _MB))


def memory_limits(root: Path = Path("/")) -> tuple[int, ...]:
    """What the control groups allow that this process is in, in bytes: its own first, none where there is no limit.

    As version 2 has them (Documentation/admin-guide/cgroup-v2.rst), and version 1 for whom it holds memory. What a
    container sees as the uppermost group is its own, which may be called otherwise outside: so groups that are not
    there are passed over.
    """
    mounts = root / "sys/fs/cgroup"
    lines = text_of(root / "proc/self/cgroup", _MOST_GROUPS_BYTES).splitlines()
    found: list[float | None] = []
    for groups, file, own in (
        (mounts, "memory.max", r"0::(.*)"),  # a number, or "max"
        (mounts / "memory", "memory.limit_in_bytes", r"\d+:(?:.*,)?memory(?:,.*)?:(.*)"),  # without a limit, 19 digits
    ):
        path = next((match[1] for each in lines if (match := re.fullmatch(own, each))), "")
        folder = groups / path.strip("/")
        folders = [folder, *(each for each in folder.parents if each.is_relative_to(groups))]
        found += [number_of(each / file) for each in folders]
    return tuple(int(each) for each in found if each is not None)


def throttle_word(root: Path = Path("/")) -> int | None:
    """What a Raspberry Pi's firmware says of its supply and its heat; None where there is none.

    Bits 0 to 3 are of now: too little voltage, a clock that is capped, throttled, too warm. Those from 16 on say that
    it was so since the start.
    """
    for name in _THROTTLE_WORDS:
        try:
            return int(line_of(root / "sys" / name), 16)
        except ValueError:
            continue
    return None


def text_of(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """What a file says, or its beginning; empty where it says nothing."""
    try:
        with path.open("rb") as file:
            return file.read(most_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def line_of(path: Path) -> str:
    """The first line of a file."""
    return text_of(path).split("\n", 1)[0].strip("\0 \r\t")


def number_of(path: Path) -> float | None:
    """The whole number that a file holds; None where it holds none."""
    text = line_of(path)
    return float(int(text)) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
