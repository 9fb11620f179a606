"""What is wrong with a file, gathered, so that its owner sees all of it at once and corrects it in one go.

Theory of operation. The tables of a file share one `Mistakes`. Whoever reads a key and finds it wrong notes that and
goes on with a value in its place, most often the default. What only follows from such a value is not the owner's
mistake: so whoever compares keys says which (`beside`), and is not heard where one of them was wrong already. What is
raised all the same ends its own part of the file, and the other parts are read. Keys that nobody asked for are judged
at the end, when it is known what all the other tables take. Lines are looked up only then, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from grapevine_proto.errors import ConfigError
from grapevine_tasks.suggestions import all_of, near_to
from grapevine_tasks.toml_lines import TomlPath, line_of

if TYPE_CHECKING:
    from grapevine_agent.config.toml_reader import Table

ENVIRONMENT: Final = "environment"
_VERY_NEAR: Final = 0.8  # of `difflib`: in another table, where more keys could be meant


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One thing that is wrong, as its owner is told. `key` is written in full, such as `mqtt.brokers`."""

    said: str  # key, value and remedy; without the value where it may be a secret
    source: str = ""  # the file, or "environment"
    key: str = ""
    line: int = 0  # from 1; 0: none of its own
    path: TomlPath = field(default=(), repr=False, compare=False)

    @property
    def where(self) -> str:
        """The file, and the line if there is one."""
        return f"{self.source}, line {self.line}" if self.line else self.source

    def __str__(self) -> str:
        return f"{self.where}: {self.said}" if self.source else self.said


class MistakesError(ConfigError):
    """What is wrong with the owner's words: one line, or several below a head."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(_shown(self.mistakes))


class Mistakes:
    """The mistakes of one file, see above. `text` is what it holds, for the lines."""

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._found: list[Mistake] = []
        self._finished: list[Table] = []
        self._tables: list[Table] = []

    def opened(self, table: Table) -> None:
        """Another table of the file is read."""
        self._tables.append(table)

    def finished(self, table: Table) -> None:
        """All has been asked of a table that it may hold."""
        self._finished.append(table)

    def note(self, error: ConfigError, *, beside: Collection[str] = ()) -> None:
        """Remember what is wrong, unless it follows from a mistake in one of the keys `beside` (written in full)."""
        found = error.mistakes if isinstance(error, MistakesError) else (Mistake(said=str(error)),)
        told = {mistake.key for mistake in self._found}
        if not told.isdisjoint({*beside, *(mistake.key for mistake in found)} - {""}):
            return
        self._found.extend(found)

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of the file that can be read without what comes after: what it raises is noted, and it ends there."""
        try:
            yield
        except ConfigError as error:
            self.note(error)

    def end(self, elsewhere: Callable[[], Mapping[str, Collection[str]]] = dict) -> None:
        """Raise `MistakesError` for all that was found.

        `elsewhere` are the keys of tables that this file does not have, by their headers such as `[[data]]`.
        """
        for table in self._finished:
            for key in table.unasked():
                remedy = self._remedy(table, key, elsewhere)
                self.note(table.unknown(key, remedy))
        if self._found:
            found = [self._with_line(mistake) for mistake in self._found]
            raise MistakesError(sorted(found, key=lambda mistake: (mistake.source, mistake.line)))

    def _remedy(self, table: Table, key: str, elsewhere: Callable[[], Mapping[str, Collection[str]]]) -> str:
        """Where an unknown key belongs: its name in another table, before a name like it in its own."""
        known: dict[str, set[str]] = {}
        for header, keys in (*((each.header, each.asked) for each in self._tables), *elsewhere().items()):
            known.setdefault(header, set()).update(keys)
        known.pop("", None)  # above all tables there are only tables
        known.pop(table.header, None)
        if exact := [header for header, keys in known.items() if key in keys]:
            return _there(exact, key, is_table=table.holds_table(key))
        if near := table.alike(key):
            return f"did you mean {near!r}?"
        names = {other for keys in known.values() for other in keys}
        if found := near_to(key, names, _VERY_NEAR):
            headers = [header for header, keys in known.items() if found in keys]
            return _there(headers, found, is_table=table.holds_table(key))
        return all_of(table.asked)

    def _with_line(self, mistake: Mistake) -> Mistake:
        if mistake.line or not mistake.path:
            return mistake
        return replace(mistake, line=self.line_of(mistake.path))

    def line_of(self, path: TomlPath) -> int:
        """The line of a key, or else of the table that it would be in; 0 where that is not written either."""
        return line_of(self._text, path)


def _there(headers: Sequence[str], key: str, *, is_table: bool) -> str:
    if is_table:
        inner = [header.replace("]", f".{key}]", 1) for header in headers]
        return f"did you mean {' or '.join(inner)}?"
    if len(headers) == 1:
        return f"did you mean {headers[0]} {key}?"
    return f"did you mean {key} in {', '.join(headers[:-1])} or {headers[-1]}?"


def _shown(mistakes: Sequence[Mistake]) -> str:
    if len(mistakes) == 1:
        return str(mistakes[0])
    sources = {mistake.source for mistake in mistakes} - {"", ENVIRONMENT}
    if len(sources) != 1:
        return "\n  ".join([f"{len(mistakes)} mistakes", *map(str, mistakes)])
    (source,) = sources

    def line(mistake: Mistake) -> str:
        if mistake.source != source:
            return str(mistake)
        return f"line {mistake.line}: {mistake.said}" if mistake.line else mistake.said

    return "\n  ".join([f"{source}: {len(mistakes)} mistakes", *map(line, mistakes)])
