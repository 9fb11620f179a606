"""Numbers and labels out of JSON payloads, by paths such as `$.temperature`, `$.sensors[0].value`, `$['a b']`."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, TypeAlias

JsonPath: TypeAlias = tuple[str | int, ...]

MAX_NUMBER = 1e30  # larger ones are no readings, and overflow float32
MAX_LABEL = 64
BLANKS = " \t\r\n"  # as JSON has them
_LONGEST_NUMBER = 64
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
TRUTHS = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0}
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]{1,4})\]|\['([^']{1,64})'\]")


class _Absent:
    """Nothing, where null is something."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def parse_path(text: str) -> JsonPath:
    """The steps of a path; `$` alone is the whole payload. Raises ValueError for what is none."""
    if not text.startswith("$"):
        raise ValueError(f"{text!r} is no JSON path; write for example $.temperature")
    steps: list[str | int] = []
    position = 1
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is no JSON path from {text[position:]!r} on; write for example $.a.b or $.a[0]")
        key, index, quoted = match.groups()
        steps.append(int(index) if index is not None else key or quoted)
        position = match.end()
    return tuple(steps)


def parse_payload(payload: bytes) -> Any:
    """A payload's JSON. Raises ValueError for anything else."""
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def find(value: Any, path: JsonPath) -> Any:
    """What lies at a path: None where that is null, or a null is on the way; `ABSENT` if there is nothing."""
    for step in path:
        if value is None:
            return None
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return ABSENT
            value = value[step]
        elif isinstance(value, dict):
            value = value.get(step, ABSENT)
        else:
            return ABSENT
    return value


def number(value: Any) -> float | None:
    """A finite number, a truth value (ON and OFF too) or a text that is a number; None for everything else.

    A text is a number as JSON and C write it, with blanks around it at most. Python's `float` takes more, none of which
    a sensor means: "1_0", "nan", "inf", digits of other scripts.
    """
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if len(text) > _LONGEST_NUMBER:
            return None
        if text.lower() in TRUTHS:
            return TRUTHS[text.lower()]
        if _NUMBER.fullmatch(text) is None:
            return None
        value = text
    try:
        found = float(value) if isinstance(value, bool | int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= MAX_NUMBER else None


def is_written_number(text: str, decimal: str) -> bool:
    """Whether a cell of a table is a number as `number` takes it; its fraction begins with `decimal`, "." or ","."""
    if decimal != "." and "." in text:
        return False
    return _NUMBER.fullmatch(text.strip(BLANKS).replace(decimal, ".")) is not None


def label(value: Any) -> str | None:
    """A class's name or a number, as text; None for everything else."""
    if isinstance(value, str):
        return value if 0 < len(value) <= MAX_LABEL and value.isprintable() else None
    found = number(value)
    return None if found is None else f"{found:.17g}"
