"""TOML read strictly: every key is asked for by name, type and range, and whatever nobody asked for is an error.

Configuration files and firmware profiles are both read with it, so a mistake in either is told in
the same way: file, key, value, and what to write instead.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from grapevine_agent.config.mistakes import ENVIRONMENT, Mistake, Mistakes, MistakesError
from grapevine_proto.errors import ConfigError
from grapevine_tasks.suggestions import all_of, did_you_mean, near_to
from grapevine_tasks.toml_lines import TomlPath

ENVIRONMENT_PREFIX = "GRAPEVINE_"


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file. Raises `ConfigError` if it cannot be read or is not TOML."""
    return read_toml_text(path)[0]


def read_toml_text(path: Path) -> tuple[dict[str, object], str]:
    """As `read_toml`, with the text itself, which `Mistakes` finds lines in."""
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; create it or give another path") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its owner and permissions") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or a number that Python does not read
        raise ConfigError(f'{path}: this is not TOML: {error}; strings need quotes, as in name = "kitchen"') from None


def suggestion(word: str, known: Collection[str]) -> str:
    """How to go on after an unknown `word`: "did you mean …?" if one is near, else all that is known."""
    return did_you_mean(word, known)


class Table:
    """One table of a TOML file, read key by key and then closed with `finish`.

    A key may be overridden by an environment variable, named `GRAPEVINE_<TABLE>_<KEY>`; `prefix`
    is that name without the key, and "" means that this table takes no overrides.

    With `mistakes` a wrong key is noted there and its default, or something like it, is returned; `mistakes.end()`
    tells. Without it all methods raise `ConfigError` for the first.
    """

    def __init__(
        self,
        entries: Mapping[str, object],
        *,
        source: str,
        name: str = "",
        prefix: str = "",
        environ: Mapping[str, str] | None = None,
        mistakes: Mistakes | None = None,
        at: TomlPath = (),
    ) -> None:
        self._entries = entries
        self.source = source
        self._name = name
        self._prefix = prefix
        self._environ = environ or {}
        self._at = at
        self.asked: set[str] = set()
        self._tables: set[str] = set()  # of those, which can be tables alone
        self._either: set[str] = set()  # and which may be tables
        self.mistakes = mistakes
        if mistakes is not None:
            mistakes.opened(self)

    @property
    def header(self) -> str:
        """How the table begins in the file, such as `[mqtt]`; empty for what stands above all tables."""
        plain = re.sub(r"\[\d+\]", "", self._name)
        return f"[[{plain}]]" if self._name.endswith("]") else f"[{plain}]" if plain else ""

    def error(self, key: str, remedy: str) -> MistakesError:
        """The error that says what is wrong with `key` in this table: where it was written, its value, `remedy`."""
        variable, in_full = self._variable(key), self.path(key)
        if variable in self._environ:
            said = f"{variable} = {_shown(self._environ[variable])}: {remedy}"
            return MistakesError([Mistake(source=ENVIRONMENT, key=in_full, said=said)])
        value = f" = {_shown(self._entries[key])}" if key in self._entries else " is missing"
        return self._error(key, f"{in_full}{value}: {remedy}")

    def unknown(self, key: str, remedy: str) -> MistakesError:
        """The error for a key that nobody asked for. Without its value, which may be a password with a slip in it."""
        kind = "unknown table" if self.holds_table(key) else "unknown key"
        return self._error(key, f"{self.path(key)}: {kind}; {remedy}")

    def wrong(self, key: str, remedy: str, *, beside: Collection[str] = ()) -> None:
        """Note that error, or raise it where nobody gathers them.

        `beside` are keys of this table, or with a dot of another, that it also comes from: where one of those is
        wrong, this is not said.
        """
        self._note(self.error(key, remedy), beside)

    def wrong_secret(self, key: str, remedy: str) -> None:
        """The same for a value that must not be shown."""
        self._note(self._error(key, f"{self.path(key)}: {remedy}"))

    def where(self, key: str) -> str:
        """The file and line in which `key` is written, or that it is in the environment."""
        if self._variable(key) in self._environ:
            return ENVIRONMENT
        line = self.mistakes.line_of((*self._at, key)) if self.mistakes is not None else 0
        return f"{self.source}, line {line}" if line else self.source

    def apart(self) -> AbstractContextManager[None]:
        """Within it, what is raised ends only what is read of this table. Without `mistakes` it is raised on."""
        return nullcontext() if self.mistakes is None else self.mistakes.part()

    def _error(self, key: str, said: str) -> MistakesError:
        mistake = Mistake(source=self.source, key=self.path(key), said=said, path=(*self._at, key))
        return MistakesError([mistake])

    def _note(self, error: MistakesError, beside: Collection[str] = ()) -> None:
        if self.mistakes is None:
            raise error
        self.mistakes.note(error, beside=[key if "." in key else self.path(key) for key in beside])

    def text(
        self,
        key: str,
        default: str | None = None,
        *,
        choices: Collection[str] = (),
        pattern: str = "",
        hint: str = "",
        max_length: int = 4096,
    ) -> str:
        """A string; without a `default` the key must be there. `hint` shows what one looks like."""
        value = self._look(key)
        remedy = ""
        if value is None:
            if default is None:
                self.wrong(key, f"write {key} = {hint or _quoted('…')}")
            return default or ""
        if not isinstance(value, str):
            remedy = f"must be a string; write {key} = {_quoted(str(value))}"
        elif choices and value not in choices:
            remedy = f"must be one of {', '.join(map(_quoted, choices))}; {suggestion(value, choices)}"
        elif pattern and not re.fullmatch(pattern, value):
            remedy = f"does not have the right form; write something like {key} = {hint}"
        elif len(value) > max_length:
            remedy = f"is longer than {max_length} characters; shorten it"
        else:
            return value
        self.wrong(key, remedy)
        return default or next(iter(choices), "")

    def texts(self, key: str, default: tuple[str, ...] = (), *, pattern: str = "", hint: str = "") -> tuple[str, ...]:
        """A list of strings, each once; in the environment separated by commas."""
        value = self._look(key)
        if value is None:
            return default
        example = f"[{hint or _quoted('…')}]"
        if self._variable(key) in self._environ:
            value = [part.strip() for part in str(value).split(",") if part.strip()]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.wrong(key, f"must be a list of strings; write {key} = {example}")
            return default
        for item in value:
            if pattern and not re.fullmatch(pattern, item):
                self.wrong(key, f"{item!r} does not have the right form; write {key} = {example}")
                return default
        return tuple(dict.fromkeys(value))

    def integer(self, key: str, default: int | None = None, *, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.optional_integer(key, low=low, high=high)
        if value is not None:
            return value
        if default is None:
            self.wrong(key, f"write {key} = … with a whole number from {low} to {high}")
        return low if default is None else default

    def optional_integer(self, key: str, *, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`, or None where nothing is written."""
        value = self._look(key)
        if isinstance(value, str) and self._variable(key) in self._environ:
            value = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()) else value
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(key, f"must be a whole number from {low} to {high}{_nearest(value, low, high, whole=True)}")
            return None
        return value

    def integers(
        self, key: str, *, low: int, high: int, what: str = "whole numbers", hint: str = ""
    ) -> tuple[int, ...]:
        """A list of whole numbers from `low` to `high`, each once; in the environment separated by commas.

        `what` they are, and `hint` shows what they look like.
        """
        value = self._look(key)
        if value is None:
            return ()
        if isinstance(value, str) and self._variable(key) in self._environ:
            parts = [part.strip() for part in value.split(",") if part.strip()]
            value = [int(part) if re.fullmatch(r"[+-]?[0-9]{1,18}", part) else part for part in parts]
        if not isinstance(value, list) or not all(type(item) is int and low <= item <= high for item in value):
            self.wrong(key, f"must be a list of {what} from {low} to {high}; write {key} = [{hint or low}]")
            return ()
        return tuple(dict.fromkeys(value))

    def number(self, key: str, default: float | None = None, *, low: float, high: float) -> float:
        """A number from `low` to `high`; whole numbers count."""
        value = self._look(key)
        if isinstance(value, str) and self._variable(key) in self._environ:
            with suppress(ValueError):  # what is no number is refused below, with the range
                value = float(value)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.wrong(key, f"must be a number from {low:g} to {high:g}{_nearest(value, low, high)}")
            return low if default is None else default
        return float(value)

    def optional_boolean(self, key: str) -> bool | None:
        """`true` or `false`, or None where nothing is written."""
        value = self._look(key)
        if isinstance(value, str) and self._variable(key) in self._environ:
            value = {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower(), value)
        if value is None or isinstance(value, bool):
            return value
        self.wrong(key, f"must be true or false, without quotes; write {key} = {_truth(value)}")
        return None

    def boolean(self, key: str, default: bool) -> bool:
        """`true` or `false`."""
        value = self.optional_boolean(key)
        return default if value is None else value

    def table(self, key: str, *, prefix: str = "") -> Table:
        """The table `[key]`, empty if it is not there; `prefix` opens it to the environment."""
        return self.part(key, self.mapping(key), prefix=prefix)

    def part(self, key: str, entries: Mapping[str, object], *, prefix: str = "") -> Table:
        """Entries that are read as the table `[key]`, whatever else they lie in."""
        return Table(
            entries,
            source=self.source,
            name=self.path(key),
            prefix=prefix,
            environ=self._environ,
            mistakes=self.mistakes,
            at=(*self._at, key),
        )

    def anything(self, key: str) -> object:
        """Whatever TOML has under `key`, None where nothing is written: for what has a shape of its own."""
        self._either.add(key)
        return self._look(key)

    def mapping(self, key: str) -> Mapping[str, object]:
        """The table `[key]` as it is, for whoever reads it in a way of their own; empty if it is not there."""
        self._tables.add(key)
        value = self._look(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, f"must be a table; write [{self.path(key)}] on a line of its own")
            return {}
        return value

    def tables(self, key: str) -> list[Table]:
        """The tables `[[key]]`, in their order."""
        self._tables.add(key)
        value = self._look(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.wrong(key, f"must be a list of tables; write [[{self.path(key)}]] above each")
            return []
        path, at = self.path(key), (*self._at, key)
        return [
            Table(item, source=self.source, name=f"{path}[{i + 1}]", mistakes=self.mistakes, at=(*at, i))
            for i, item in enumerate(value)
        ]

    def variables(self) -> set[str]:
        """The environment variables that this table has listened to."""
        return {self._variable(key) for key in self.asked} if self._prefix else set()

    def reject(self, key: str, remedy: str) -> None:
        """Refuse `key` with a reason of its own, for what people write and should not."""
        if key in self._entries:
            # The value stays out of the message: this is where passwords turn up.
            self.wrong_secret(key, remedy)

    def finish(self) -> None:
        """Raise `ConfigError` if the table holds a key that nobody asked for; with `mistakes` their `end()` does."""
        if self.mistakes is not None:
            self.mistakes.finished(self)
            return
        for key in self.unasked():
            near = self.alike(key)
            raise self.unknown(key, f"did you mean {near!r}?" if near else all_of(self.asked))

    def unasked(self) -> list[str]:
        """The keys that nobody asked for, in their order."""
        return [key for key in self._entries if key not in self.asked]

    def alike(self, key: str) -> str:
        """Of the keys that were asked for, the one that is most like `key`; a table is meant by no other key."""
        is_table = self.holds_table(key)
        return near_to(key, self._tables | self._either if is_table else self.asked - self._tables)

    def holds(self, key: str) -> bool:
        """Whether the owner wrote `key`, here or in the environment."""
        return key in self._entries or self._variable(key) in self._environ

    def holds_table(self, key: str) -> bool:
        """Whether what is written under `key` is a table, or a list of them."""
        value = self._entries.get(key)
        return isinstance(value[0] if isinstance(value, list) and value else value, dict)

    def _look(self, key: str) -> object:
        self.asked.add(key)
        return self._environ.get(self._variable(key), self._entries.get(key))

    def _variable(self, key: str) -> str:
        return f"{self._prefix}{key.upper()}" if self._prefix else ""

    def path(self, key: str) -> str:
        """How `key` of this table is written in full, such as `review.need`."""
        return f"{self._name}.{key}" if self._name else key


def _quoted(text: str) -> str:
    return f'"{text}"'


def _nearest(value: object, low: float, high: float, *, whole: bool = False) -> str:
    """The nearest number that is allowed, for one that is not; nothing for what is no number."""
    if isinstance(value, str):  # a number in quotes
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        return ""
    nearest = min(max(value, low), high)
    nearest = round(nearest) if whole else nearest
    return f"; the nearest is {nearest:.15g}"


def _truth(value: object) -> str:
    """What somebody meant who wrote `"no"`."""
    return "false" if str(value).strip().lower() in ("false", "no", "off", "0", "") else "true"


def _shown(value: object) -> str:
    """A value for an error message, not longer than a line and without the login of a URL."""
    text = re.sub(r"(?<=//)[^/\s'\"]*@", "…@", repr(value))
    return text if len(text) <= 120 else text[:117] + "…"
