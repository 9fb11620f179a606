"""Tables that were read from TOML as TOML again, for people to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def as_toml(content: Mapping[str, Any]) -> str:
    """A scenario's tables as a file. What lies deeper than a table's keys stands on one line."""
    blocks = []
    for name, value in content.items():
        many = isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)
        for table in value if many else [value]:
            title = f"[[{name}]]" if many else f"[{name}]"
            blocks.append("\n".join([title, *(f"{_key(key)} = {_inline(table[key])}" for key in table)]))
    return "\n\n".join(blocks) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _inline(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        case Mapping():
            return "{ " + ", ".join(f"{_key(key)} = {_inline(inner)}" for key, inner in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
