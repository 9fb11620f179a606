"""What a message says of a column: a reading, that there is none any more, or nothing that can be used.

    payload ─▶ JSON, or a bare text (21.5, ON, open) ─path▶ a value ─map▶ ─number▶ ─· scale + offset▶ a reading

Sensors say in several ways that they have no reading: null, an empty message, `unavailable` and `unknown` (Home
Assistant), `nan` and `None` (ESPHome). Then the reading before is not held any longer. What is neither a reading nor
one of these words changes nothing: a half-written message is no reason to forget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from grapevine_agent.data import json_paths
from grapevine_agent.data.json_paths import ABSENT, BLANKS, JsonPath
from grapevine_agent.data.source import ColumnPlan, DataSource

GONE_WORDS: Final = ("", "unavailable", "unknown", "none", "null", "nan", "na", "n/a")
_LONGEST_TEXT: Final = 64  # that is no JSON
_LONGEST_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Reading:
    """A column's number, or the target's text."""

    value: float | str


@dataclass(frozen=True, slots=True)
class Gone:
    """The sensor says that it has no reading now."""

    said: str


@dataclass(frozen=True, slots=True)
class Useless:
    """No reading, and why not."""

    why: str


class Reader:
    """Reads one column, or the target, out of messages.

    `is_label`: it may be a text, which names a class.
    """

    def __init__(self, name: str, plan: ColumnPlan, *, is_label: bool = False) -> None:
        self.name = name
        self.plan = plan
        self.is_label = is_label
        self.path: JsonPath = json_paths.parse_path(plan.path)
        self._is_scaled = (plan.scale, plan.offset) != (1.0, 0.0)
        self._map = {text.casefold(): stands for text, stands in plan.map}

    def read(self, message: Any) -> Reading | Gone | Useless:
        """What a parsed message says of this column. Never raises."""
        value = json_paths.find(message, self.path)
        if value is ABSENT:
            if isinstance(message, str) and _word(message) in GONE_WORDS:
                return Gone(shown(message))  # all of it
            return Useless(f"{self.plan.path} is not in it" if isinstance(message, dict | list) else "no JSON object")
        if isinstance(value, bool | int | float | str) and self._map and (key := _word(value)) in self._map:
            return self._scaled(self._map[key])
        if value is None or value != value or (isinstance(value, str) and _word(value) in GONE_WORDS):  # noqa: PLR0124
            return Gone(shown(value))
        if self._map and self.is_label and _is_word(value):  # who lists words has listed the classes
            return Useless(f"{shown(value)} is not in `map`")
        found: float | str | None
        if isinstance(value, str) and self.is_label and not self._is_scaled:
            found = json_paths.label(value.strip(BLANKS))
        else:
            found = json_paths.number(value)
        if found is None:
            what = "no label" if self.is_label else "no number"
            return Useless(f"{shown(value)} is {what}" + (" and not in `map`" if self._map else ""))
        return self._scaled(found)

    def _scaled(self, found: float | str) -> Reading | Useless:
        if isinstance(found, str):
            return Reading(found)
        number = json_paths.number(found * self.plan.scale + self.plan.offset)
        if number is None:
            return Useless(f"{found:g} · {self.plan.scale:g} + {self.plan.offset:g} is too large")
        if self.is_label:
            return Reading(f"{number:.17g}")
        return Reading(number)


def readers(source: DataSource) -> list[Reader]:
    """Of each column of a recorded source, in order, and of its target at the end, if it has one."""
    plan = source.recording
    assert plan is not None
    columns = plan.columns or tuple(ColumnPlan(path=path) for _, path in source.columns)
    found = [Reader(name, each) for (name, _), each in zip(source.columns, columns, strict=True)]
    target = plan.target or (ColumnPlan(path=source.target[0]) if source.target else None)
    return found if target is None else [*found, Reader("target", target, is_label=True)]


def parse(payload: bytes) -> tuple[Any, bool]:
    """A payload's JSON and True, or its text and False. Raises ValueError for what is neither, or nested too deeply."""
    try:
        return json_paths.parse_payload(payload), True
    except ValueError:
        text = payload[: 4 * _LONGEST_TEXT + 1].decode("utf-8").strip(BLANKS)  # UnicodeDecodeError is a ValueError
        if len(text) > _LONGEST_TEXT or text[:1] in ("{", "[", '"') or not text.isprintable():
            raise
        return text, False


def shown(value: Any) -> str:
    """A value for people: not too long, and on one line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = "an empty message" if value == "" else "null" if value is None else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _is_word(value: Any) -> bool:
    """Whether a value is no number as it is written: a word such as ON stands for one, without a map."""
    return not json_paths.is_written_number(value, ".") if isinstance(value, str) else isinstance(value, bool)


def _word(value: bool | int | float | str) -> str:
    text = value if isinstance(value, str) else str(value)
    return text.strip(BLANKS).casefold()
