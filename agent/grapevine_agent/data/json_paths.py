"""Numbers and labels out of JSON payloads, by paths such as `$.temperature`, `$.sensors[0].value`, `$['a b']`."""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeAlias

JsonPath: TypeAlias = tuple[str | int, ...]

MAX_NUMBER = 1e30  # larger ones are no readings, and overflow float32
MAX_LABEL = 64
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d{1,4})\]|\['([^']{1,64})'\]")


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
    """What lies at a path, None if there is nothing."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return None
            value = value[step]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value


def number(value: Any) -> float | None:
    """A finite number, a truth value (ON and OFF too) or a text that is a number; None for everything else."""
    if isinstance(value, str):
        value = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0}.get(value.strip().lower(), value)
    try:
        found = float(value) if isinstance(value, bool | int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= MAX_NUMBER else None


def label(value: Any) -> str | None:
    """A class's name or a number, as text; None for everything else."""
    if isinstance(value, str):
        return value if 0 < len(value) <= MAX_LABEL and value.isprintable() else None
    found = number(value)
    return None if found is None else f"{found:.17g}"
