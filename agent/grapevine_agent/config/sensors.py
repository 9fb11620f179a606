"""`[[data]]` with `source = "mqtt"`: live topics, and where in their messages each column is.

    temperature = "$.temperature"                                    a path in the messages of the source's `topic`
    temperature = { topic = "home/+/temperature" }                   a topic of its own, whose payload is the reading
    window      = { topic = "…", map = { open = 1, closed = 0 } }    also: path, scale, offset

Columns with topics of their own make one series together for whatever stands in the places of `+`. So all of them, and
the target, have equally many: which device would a reading without a name belong to?
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Final

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.data.json_paths import BLANKS, MAX_NUMBER, label, parse_path
from grapevine_agent.data.source import ColumnPlan, RecordingPlan
from grapevine_agent.net.filters import check_filter
from grapevine_tasks.suggestions import did_you_mean

_KEYS: Final = ("topic", "path", "map", "scale", "offset")
_EXAMPLE: Final = 'temperature = "$.temperature"'
_OWN_TOPIC: Final = '{ topic = "home/attic/temperature" }'
_MOST_MAPPED: Final = 256
_TARGET: Final = "the target"

Columns = tuple[tuple[str, str], ...]


def read_recording(table: Table, root: str) -> tuple[Columns, tuple[str, ...], RecordingPlan]:
    """The columns, the target and the plan of a recorded source. Raises `ConfigError`."""
    columns, target = _read_columns(table), _read_target(table)
    each = {**columns, **({_TARGET: target} if target is not None else {})}
    needs_topic = not all(plan.topic for plan in each.values())
    topic = table.text("topic", None if needs_topic else "", hint='"zigbee2mqtt/+"', max_length=1024)
    if not needs_topic and topic:
        raise table.error("topic", "is no column's, for all have topics of their own: remove it")
    if topic:
        _check_topic(table, "topic", topic, root)
    for name, column in each.items():
        if column.topic:
            _check_topic(table, "target" if column is target else "columns", column.topic, root, of=name)
    has_own = any(plan.topic for plan in each.values())
    if has_own:
        _check_devices(table, {name: column.topic or topic for name, column in each.items()})
    _check_distinct(table, columns, topic)
    is_plain = not has_own and all(plan == ColumnPlan(path=plan.path) for plan in each.values())
    plan = RecordingPlan(
        topic=topic,
        columns=() if is_plain else tuple(columns.values()),
        target=None if is_plain else target,
        every_s=table.integer("every_s", 60, low=1, high=86_400),
        resample=table.text("resample", "last", choices=("last", "mean")),
        hold_s=table.integer("hold_s", 3600, low=1, high=7 * 86_400),
        keep_days=table.number("keep_days", 30.0, low=0.01, high=36_500.0),
        max_rows=table.integer("max_rows", 100_000, low=10, high=10_000_000),
        devices=table.text("devices", "separate", choices=("separate", "merged")),
    )
    # Of a source with topics of the columns' own two may lie at one path: there columns go by their names.
    named = tuple((name, name if has_own else found.path) for name, found in columns.items())
    return named, () if target is None else (_place(target),), plan


def _place(plan: ColumnPlan) -> str:
    if not plan.topic:
        return plan.path
    return plan.topic if plan.path == "$" else f"{plan.topic} {plan.path}"


def _read_columns(table: Table) -> dict[str, ColumnPlan]:
    value = table.anything("columns")
    if not isinstance(value, dict) or not value:
        raise table.error("columns", f"must be a table of where each column is; write [data.columns] and {_EXAMPLE}")
    return {name: _read_column(table, "columns", name, found) for name, found in value.items()}


def _read_target(table: Table) -> ColumnPlan | None:
    value = table.anything("target")
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | dict) or not value:
        raise table.error("target", 'must be one JSON path; write target = "$.occupied", or { topic = "…" }')
    return _read_column(table, "target", "target", value)


def _read_column(table: Table, key: str, name: str, value: object) -> ColumnPlan:
    """One column, or the target: a path, or a table with more."""
    if isinstance(value, str):
        _check_path(table, key, value)
        return ColumnPlan(path=value)
    if not isinstance(value, dict):
        raise table.error(
            key,
            f"{name} is neither text nor a table: write {_EXAMPLE}, or {_OWN_TOPIC}, and keys of the source above "
            "[data.columns]",
        )
    for inner in value:
        if inner not in _KEYS:
            raise table.error(key, f"{name} has no key {inner!r}; {did_you_mean(inner, _KEYS)}")
    texts = {inner: value.get(inner, default) for inner, default in (("topic", ""), ("path", "$"))}
    for inner, text in texts.items():
        if not isinstance(text, str) or (inner in value and not text):
            raise table.error(key, f"{name}.{inner} is {text!r}; write {name} = {_OWN_TOPIC}, with a path if need be")
    _check_path(table, key, texts["path"])
    numbers = {inner: value.get(inner, default) for inner, default in (("scale", 1.0), ("offset", 0.0))}
    for inner, number in numbers.items():
        if not _is_number(number) or (inner == "scale" and not number):
            raise table.error(key, f"{name}.{inner} is {number!r}; write a number that is not too large, such as 0.1")
    return ColumnPlan(
        topic=texts["topic"],
        path=texts["path"],
        map=_read_map(table, key, name, value.get("map", {})),
        scale=float(numbers["scale"]),
        offset=float(numbers["offset"]),
    )


def _read_map(table: Table, key: str, name: str, value: object) -> tuple[tuple[str, float | str], ...]:
    example = f"{name} = {{ …, map = {{ open = 1, closed = 0 }} }}"
    if not isinstance(value, dict) or len(value) > _MOST_MAPPED:
        raise table.error(key, f"{name}.map is no table of {_MOST_MAPPED} words or fewer; write {example}")
    seen: dict[str, str] = {}
    found: list[tuple[str, float | str]] = []
    for text, stands in value.items():
        is_name = key == "target" and isinstance(stands, str) and label(stands) is not None
        if not is_name and not _is_number(stands):
            what = "a number or a class's name" if key == "target" else "a number"
            raise table.error(key, f"{name}.map: {text} is {stands!r}; write {what} for each word, as in {example}")
        folded = text.strip(BLANKS).casefold()
        if folded in seen:
            raise table.error(
                key, f"{name}.map: {seen[folded]!r} and {text!r} are one word, for case is not looked at: keep one"
            )
        seen[folded] = text
        found.append((folded, stands if isinstance(stands, str) else float(stands)))
    return tuple(found)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and abs(value) <= MAX_NUMBER


def _check_path(table: Table, key: str, text: str) -> None:
    try:
        parse_path(text)
    except ValueError as error:
        raise table.error(key, str(error)) from None


def _check_topic(table: Table, key: str, topic: str, root: str, of: str = "") -> None:
    at = f"{of}.topic {topic!r} " if of else ""
    try:
        check_filter(topic, 0)
    except ValueError:
        raise table.error(
            key, f"{at}is no MQTT filter: + and # stand alone between slashes, and # comes last"
        ) from None
    if _covers(topic, root):
        raise table.error(key, f"{at}would record the agents' own messages below {root}; write a narrower filter")


def _check_devices(table: Table, topics: Mapping[str, str]) -> None:
    """Columns with topics of their own belong together by what stands for `+`: `ConfigError` where that is unclear."""
    for name, topic in topics.items():
        if topic.endswith("#"):
            raise table.error(
                "columns", f"{name}: {topic!r} says not what the devices are called: write + for their name, not #"
            )
    for (name, topic), (other, other_topic) in combinations(topics.items(), 2):
        wild, other_wild = (each.split("/").count("+") for each in (topic, other_topic))
        if wild != other_wild:
            raise table.error(
                "columns",
                f"{name} has {wild} + in {topic!r} and {other} has {other_wild} in {other_topic!r}, so it is not clear "
                "which device a reading belongs to: give all of them equally many, or make two [[data]]",
            )
        if topic != other_topic and _overlap(topic, other_topic):
            raise table.error(
                "columns",
                f"{name} and {other}: a message can be for both {topic!r} and {other_topic!r}, of two devices; write "
                "topics that share no message, or one for both",
            )


def _overlap(topic: str, other: str) -> bool:
    """Whether one topic can match two filters without `#`."""
    levels, others = topic.split("/"), other.split("/")
    return len(levels) == len(others) and all("+" in (a, b) or a == b for a, b in zip(levels, others, strict=True))


def _check_distinct(table: Table, columns: Mapping[str, ColumnPlan], topic: str) -> None:
    """Two columns of one topic and path would be one reading twice. Raises `ConfigError`."""
    for (name, plan), (other, second) in combinations(columns.items(), 2):
        if (plan.topic or topic, parse_path(plan.path)) == (second.topic or topic, parse_path(second.path)):
            where = f"{plan.path} of {plan.topic or topic}"
            raise table.error(
                "columns", f"{name} and {other} are both {where}, and would hold the same numbers: remove one"
            )


def _covers(topic_filter: str, root: str) -> bool:
    """Whether a filter can match topics below the root."""
    for level, own in zip(topic_filter.split("/"), root.split("/"), strict=False):
        if level == "#":
            return True
        if level not in ("+", own):
            return False
    return len(topic_filter.split("/")) > len(root.split("/"))
