"""Taking a YAML tree apart, field by field: what is of another kind, or unknown, is noted with its line and goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from grapevine_agent.intent.yaml_tree import Mapping, Problems, Scalar, Sequence, Tree
from grapevine_tasks.suggestions import did_you_mean

T = TypeVar("T")


@dataclass
class Fields:
    """The fields of one mapping; `path` says where it is. Close it with `finish`."""

    tree: Mapping
    path: str
    problems: Problems
    _asked: dict[str, None] = field(default_factory=dict)

    def line(self, key: str) -> int:
        """Where a field stands; the mapping's own line where it is missing."""
        return self.tree.lines.get(key, self.tree.line)

    def wrong(self, key: str, text: str) -> None:
        """Note what is wrong with a field."""
        self.problems.add(self.line(key), f"{self.at(key)}: {text}")

    def at(self, key: str) -> str:
        """The whole name of a field."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether a field is there, and says something."""
        return self._look(key) is not None

    def _look(self, key: str) -> Tree | None:
        self._asked[key] = None
        found = self.tree.entries.get(key)
        return None if isinstance(found, Scalar) and found.value is None else found

    def text(self, key: str, default: str | None = None, *, form: re.Pattern[str] | None = None, hint: str = "") -> str:
        """A word or a line; without a default it must be there. A number counts as it is written."""
        found = self._look(key)
        if found is None:
            if default is None:
                self.wrong(key, f"is missing; write {key}: {hint or '…'}")
            return default or ""
        if not isinstance(found, Scalar):
            self.wrong(key, f"must be a text; write {key}: {hint or '…'}")
            return default or ""
        text = found.written
        if form is not None and not form.fullmatch(text):
            self.wrong(key, f"{text[:80]!r} has not the right form; write something like {key}: {hint}")
            return default or ""
        return text

    def integer(self, key: str, default: int, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        found = self._look(key)
        if found is None:
            return default
        value = found.value if isinstance(found, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            written = found.written[:40] if isinstance(found, Scalar) else "a list or a table"
            self.wrong(key, f"is {written}; it must be a whole number from {low} to {high}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        found = self._look(key)
        if found is None:
            return default
        value = found.value if isinstance(found, Scalar) else None
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):  # in quotes, as Flocky writes it
            return value == "true"
        self.wrong(key, f"must be true or false; write {key}: true")
        return default

    def texts(self, key: str, *, form: re.Pattern[str] | None = None, hint: str = "…") -> tuple[str, ...]:
        """A list of words, or one word alone."""
        found = self._look(key)
        if found is None:
            return ()
        items = found.items if isinstance(found, Sequence) else [found]
        words: list[str] = []
        for item in items:
            if not isinstance(item, Scalar) or item.value is None:
                self.problems.add(item.line, f"{self.at(key)}: must be a list of words; write {key}: [{hint}]")
            elif form is not None and not form.fullmatch(item.written):
                said = f"{item.written[:80]!r} has not the right form; write something like [{hint}]"
                self.problems.add(item.line, f"{self.at(key)}: {said}")
            else:
                words.append(item.written)
        return tuple(words)

    def mapping(self, key: str) -> Fields:
        """A table; empty where it is missing."""
        found = self._look(key)
        if found is None:
            return Fields(Mapping({}, {}, self.line(key)), self.at(key), self.problems)
        if not isinstance(found, Mapping):
            self.wrong(key, "must be a table of fields")
            return Fields(Mapping({}, {}, found.line), self.at(key), self.problems)
        return Fields(found, self.at(key), self.problems)

    def each(self, key: str) -> Iterator[Fields]:
        """The tables of a list."""
        found = self._look(key)
        if found is None:
            return
        if not isinstance(found, Sequence):
            self.wrong(key, f"must be a list; begin each of its items with '- ' below {key}:")
            return
        for number, item in enumerate(found.items):
            path = f"{self.at(key)}[{number}]"
            if isinstance(item, Mapping):
                yield Fields(item, path, self.problems)
            else:
                self.problems.add(item.line, f"{path}: must be a table of fields")

    def pairs(self, key: str) -> Iterator[tuple[str, str, int]]:
        """The words of a table of words: key, value, line."""
        found = self.mapping(key)
        for name, value in found.tree.entries.items():
            if isinstance(value, Scalar) and value.value is not None:
                yield name, value.written, found.line(name)
            else:
                found.wrong(name, f"must be a word; write {name}: …")

    def converted(self, key: str, convert: Callable[[str], T], default: T, hint: str) -> T:
        """A word that means something: `convert` raises ValueError with what is wrong."""
        text = self.text(key, "")
        if not text:
            return default
        try:
            return convert(text)
        except ValueError as error:
            self.wrong(key, f"{text[:80]!r} {error}; write something like {key}: {hint}")
            return default

    def finish(self, *, ignored: Collection[str] = ()) -> None:
        """Note every field that nobody asked for, with the nearest that is known."""
        known = [*self._asked, *ignored]
        for key in self.tree.entries:
            if key not in known:
                self.wrong(key, f"unknown field; {did_you_mean(key, list(self._asked))}")
