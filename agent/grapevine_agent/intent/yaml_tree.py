"""A YAML file as a tree that knows its lines, read so that nothing in it is passed over in silence.

PyYAML's safe loader composes the tree, and nothing is ever constructed but text, numbers, truth values and nothing.
Anchors, aliases, tags and merge keys are refused, so that a file is as large as it looks; so is a key that comes twice.

What is wrong is collected, with its line, and told all at once: `Problems`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError

MAX_FILE_BYTES: Final = 256 * 1024
MAX_DOCUMENTS: Final = 16
MOST_TOLD: Final = 50


@dataclass
class Problems:
    """What is wrong with a file."""

    source: str
    lines: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """One more: the line is counted from 1."""
        self.lines.append((line, text))

    def check(self) -> None:
        """Raise `ConfigError` with all of them, by line."""
        if self.lines:
            told = [f"{self.source}:{line}: {text}" for line, text in sorted(self.lines)]
            more = [f"and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
            raise ConfigError("\n".join(told[:MOST_TOLD] + more))


@dataclass(frozen=True)
class Scalar:
    """A text, a number, a truth value, or nothing."""

    value: str | int | float | bool | None
    written: str
    line: int


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: list[Tree]
    line: int


@dataclass(frozen=True)
class Mapping:
    """Keys and what they say; `lines`: where each key stands."""

    entries: dict[str, Tree]
    lines: dict[str, int]
    line: int


Tree = Scalar | Sequence | Mapping


def read_documents(text: str, problems: Problems) -> list[Tree]:
    """The documents of a YAML text. What is no YAML, or refused, is among the problems, and raised."""
    yaml = _yaml()
    if len(text.encode()) > MAX_FILE_BYTES:
        problems.add(1, f"has {len(text.encode()):,} bytes; at most {MAX_FILE_BYTES:,} are read")
        problems.check()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            _refuse(event, yaml, problems)
        problems.check()
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        if len(nodes) > MAX_DOCUMENTS:
            problems.add(1, f"has {len(nodes)} documents; at most {MAX_DOCUMENTS} are read at once")
            problems.check()
        trees = [_tree(node, yaml, problems) for node in nodes if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problems.add(mark.line + 1 if mark else 1, f"this is not YAML: {error.problem}")
    except (yaml.YAMLError, ValueError) as error:
        problems.add(1, f"this is not YAML: {error}")
    except RecursionError:
        problems.add(1, "is nested too deeply to be an application")
    problems.check()
    return trees


def written(trees: list[dict[str, Any]]) -> str:
    """Trees of plain values as YAML, a document each."""
    text: str = _yaml().safe_dump_all(trees, sort_keys=False, allow_unicode=True, width=120)
    return text


def _yaml() -> Any:
    if importlib.util.find_spec("yaml") is None:
        raise ConfigError(f"this needs PyYAML, which is not installed here: {distribution.to_add_extra('apps')}")
    import yaml  # noqa: PLC0415 - on the engineer's machine, when it is asked for

    return yaml


def _refuse(event: Any, yaml: Any, problems: Problems) -> None:
    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent):
        problems.add(line, f"the alias *{event.anchor}: aliases are not read; write out what is meant")
    elif getattr(event, "anchor", None):
        problems.add(line, f"the anchor &{event.anchor}: anchors are not read; remove it")
    elif getattr(event, "tag", None):
        problems.add(line, f"the tag {event.tag!r}: tags are not read; remove it")


def _tree(node: Any, yaml: Any, problems: Problems) -> Tree:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return Sequence([_tree(item, yaml, problems) for item in node.value], line)
    if isinstance(node, yaml.MappingNode):
        entries: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        for key, value in _pairs(node, yaml, problems):
            name, at = str(key.value), key.start_mark.line + 1
            if name in entries:
                problems.add(at, f"{name}: comes twice; it stands in line {lines[name]} already")
                continue
            entries[name], lines[name] = _tree(value, yaml, problems), at
        return Mapping(entries, lines, line)
    return Scalar(_plain(node, yaml), str(node.value), line)


def _pairs(node: Any, yaml: Any, problems: Problems) -> Iterator[tuple[Any, Any]]:
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            yield key, value
        else:
            problems.add(key.start_mark.line + 1, "a key must be a word")


def _plain(node: Any, yaml: Any) -> str | int | float | bool | None:
    """What a scalar says. Of what YAML takes for a date, or a number by sixties (22:00), the text."""
    tag = node.tag.rsplit(":", 1)[-1]
    if tag in ("bool", "null", "float") or (tag == "int" and ":" not in node.value):
        loader = yaml.SafeLoader("")
        try:
            found = loader.construct_object(node)
        except (ValueError, yaml.YAMLError):
            return str(node.value)
        return found if found is None or isinstance(found, bool | int | float) else str(node.value)
    return str(node.value)
