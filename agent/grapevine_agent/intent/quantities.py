"""Amounts, hours and offsets as people write them in YAML. What is none of these is a ValueError with what is wrong."""

from __future__ import annotations

import math
import re
from typing import Final

from grapevine_proto.application import DAY_MINUTES, DAYS

_MEMORY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|k|M|G|)")
_CPU: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m?)")
_SPAN: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_OFFSET: Final = re.compile(r"(?:UTC)?([+-])([0-9]{1,2}):([0-9]{2})")
_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def memory_mb(text: str) -> int:
    """`64Mi`, `1Gi` or bytes, in units of 2^20 bytes, rounded up."""
    found = _MEMORY.fullmatch(text)
    if found is None:
        raise ValueError("is no amount of memory")
    return math.ceil(float(found[1]) * _UNITS[found[2]] / 2**20)


def cpu_thousandths(text: str) -> int:
    """`0.5`, `2` or `500m`, in thousandths of a core."""
    found = _CPU.fullmatch(text)
    if found is None:
        raise ValueError("is no number of cores")
    return math.ceil(float(found[1]) * (1 if found[2] else 1_000))


def span(text: str) -> tuple[int, int]:
    """`22:00-06:00`, in minutes after midnight."""
    found = _SPAN.fullmatch(text.replace(" ", ""))
    if found is None:
        raise ValueError("are no hours")
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if begin >= DAY_MINUTES or end > DAY_MINUTES or int(found[2]) > 59 or int(found[4]) > 59 or begin == end:
        raise ValueError("are no hours of a day")
    return begin, end


def utc_offset(text: str) -> int:
    """`UTC`, `+02:00` or `UTC-03:30`, in minutes."""
    if text.upper() in ("UTC", "Z"):
        return 0
    found = _OFFSET.fullmatch(text)
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        raise ValueError("is no offset from UTC, and names of time zones are not read: devices have no table of them")
    minutes = int(found[2]) * 60 + int(found[3])
    return -minutes if found[1] == "-" else minutes


def day(text: str) -> int:
    """`mon` or `Monday`: 0."""
    word = text.lower()
    for number, name in enumerate(DAYS):
        if word == name or (len(word) > len(name) and word in _LONG and _LONG[word] == number):
            return number
    raise ValueError("is no day of the week")


_LONG: Final = {
    "monday": 0,
    "tuesday": 1,
    "wednesday": 2,
    "thursday": 3,
    "friday": 4,
    "saturday": 5,
    "sunday": 6,
}
