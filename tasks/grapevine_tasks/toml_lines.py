"""On which line of a TOML text a key is written: `tomllib` does not say.

Asked only once something is wrong, and only of texts that `tomllib` has read: so what is met here is whole, and only
has to be told apart. A path is made of keys and, in lists, of numbers from 0: `("data", 1, "path")`.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from contextlib import suppress
from typing import Final, TypeAlias

TomlPath: TypeAlias = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"[ \t]*([A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')[ \t]*")
_TEXT: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'  # two quotes may stand before the three that close it
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")


def line_of(text: str, path: TomlPath) -> int:
    """The line, from 1, on which `path` is written; 0 where nothing of it is.

    Of a path that is not there it is the line of the table that it would be in.
    """
    lines = lines_of(text)
    while path:
        if line := lines.get(path):
            return line
        path = path[:-1]
    return 0


def lines_of(text: str) -> dict[TomlPath, int]:
    """The line of each key, table and list item of a text; as many as were found if it is no TOML."""
    scanner = _Scanner(text)
    with suppress(ValueError, IndexError, RecursionError):
        scanner.scan()
    return scanner.lines


class _Scanner:
    """Goes through the text once, from one statement to the next."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._last: dict[TomlPath, int] = {}  # of each list of tables: the number of its last
        self.lines: dict[TomlPath, int] = {}

    def scan(self) -> None:
        table: TomlPath = ()
        while self._skip_blank() < len(self._text):
            start = self._at
            if self._take("["):
                is_listed = self._take("[")
                *above, last = self._keys()
                table = (*self._inside((), above), last)
                if is_listed:
                    self._note(table, start)
                    self._last[table] = self._last.get(table, -1) + 1
                table = self._inside((), (*above, last))
                self._note(table, start)
                self._expect("]]" if is_listed else "]")
            else:
                self._pair(table)

    def _pair(self, table: TomlPath) -> None:
        """`key = value`, of a table or between braces."""
        self._skip_blank()
        start = self._at
        keys = self._keys()
        self._expect("=")
        for number in range(1, len(keys) + 1):
            self._note((*table, *keys[:number]), start)
        self._value((*table, *keys))

    def _value(self, path: TomlPath) -> None:
        self._skip_blank()
        if match := _TEXT.match(self._text, self._at):
            self._at = match.end()
        elif self._take("["):
            self._skip_blank()
            number = 0
            while not self._take("]"):
                self._note((*path, number), self._at)
                self._value((*path, number))
                number += 1
                self._next()
        elif self._take("{"):
            self._skip_blank()
            while not self._take("}"):
                self._pair(path)
                self._next()
        else:
            match = _PLAIN.match(self._text, self._at)
            self._at = match.end() if match else self._at

    def _next(self) -> None:
        """Go over a comma, to the next item or to what closes."""
        self._skip_blank()
        if not self._take(",") and self._text[self._at] not in "]}":
            raise ValueError("neither a comma nor an end")
        self._skip_blank()

    def _keys(self) -> tuple[str, ...]:
        """A key and those that follow its dots."""
        keys: list[str] = []
        while True:
            match = _KEY.match(self._text, self._at)
            if match is None:
                raise ValueError("no key")
            self._at = match.end()
            written = match[1]
            quoted = written[0] in "\"'"
            keys.append(str(tomllib.loads(f"key = {written}")["key"]) if quoted else written)
            if not self._take("."):
                return tuple(keys)

    def _inside(self, path: TomlPath, keys: tuple[str, ...] | list[str]) -> TomlPath:
        """The path of a header: in a list of tables the last one is meant."""
        for key in keys:
            path = (*path, key)
            if path in self._last:
                path = (*path, self._last[path])
        return path

    def _note(self, path: TomlPath, start: int) -> None:
        self.lines.setdefault(path, bisect_left(self._ends, start) + 1)

    def _skip_blank(self) -> int:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _take(self, word: str) -> bool:
        is_here = self._text.startswith(word, self._at)
        self._at += len(word) if is_here else 0
        return is_here

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise ValueError(f"no {word}")
