"""The fields of a manifest, read with suspicion: each within its bounds, or a WireError that names it and its value."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from grapevine_proto.errors import WireError

MAX_NAME = 80
MAX_WORD = 64  # names out of closed sets
LARGEST_COUNT = 2**53  # what every language holds exactly in a double

_ID = re.compile(r"[a-z0-9-]{1,64}")
_WORD = re.compile(r"[a-z0-9_-]{1,64}")


def read_id(text: str, what: str) -> str:
    """An id that can stand in a topic. Raises WireError."""
    if not _ID.fullmatch(text):
        raise WireError("bad-manifest", f"{what} is {text[:70]!r}; an id is 1 to 64 of a-z, 0-9 and '-'")
    return text


def read_word(text: str, what: str, form: re.Pattern[str] = _WORD) -> str:
    """A name out of a closed set, as far as its letters tell. Raises WireError."""
    if not form.fullmatch(text):
        raise WireError("bad-manifest", f"{what} is {text[:70]!r}; a name is 1 to {MAX_WORD} of a-z, 0-9, '-', '_'")
    return text


def read_line(text: str, what: str, longest: int) -> str:
    """A line that can be shown on a terminal, and is not empty. Raises WireError."""
    if not text or "\n" in text:
        raise WireError("bad-manifest", f"{what} must be one line, and not empty")
    return read_text(text, what, longest)


def read_lines(texts: Sequence[str], what: str, most: int) -> tuple[str, ...]:
    """At most so many different lines. Raises WireError."""
    if len(texts) > most or len(set(texts)) != len(texts):
        raise WireError("bad-manifest", f"{what} has {len(texts)} names; at most {most}, each once")
    return tuple(read_line(text, what, MAX_NAME) for text in texts)


def read_text(text: str, what: str, longest: int) -> str:
    """Text that can be shown on a terminal; line feeds are allowed. Raises WireError."""
    if len(text) > longest or not text.replace("\n", "").isprintable():
        raise WireError("bad-manifest", f"{what} has control characters or more than {longest} characters")
    return text


def read_count(number: int, what: str, least: int = 0) -> int:
    """A whole number that every language holds exactly. Raises WireError."""
    if not least <= number <= LARGEST_COUNT:
        raise WireError("bad-manifest", f"{what} is {number}, outside {least} to 2^53")
    return number


def read_finite(number: float, what: str) -> float:
    """A number that is finite. Raises WireError."""
    if not math.isfinite(number):
        raise WireError("bad-manifest", f"{what} is {number}")
    return number


def read_not_negative(number: float, what: str) -> float:
    """A finite number from 0 on. Raises WireError."""
    if read_finite(number, what) < 0:
        raise WireError("bad-manifest", f"{what} is {number}; it cannot be negative")
    return number


def labelled(name: str, version: int) -> str:
    """What a version of a task is called in lists."""
    return name if version == 1 else f"{name} v{version}"
