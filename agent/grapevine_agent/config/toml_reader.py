"""TOML read strictly: every key is asked for by name, type and range, and whatever nobody asked for is an error.

Configuration files and firmware profiles are both read with it, so a mistake in either is told in
the same way: file, key, value, and what to write instead.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from grapevine_proto.errors import ConfigError

ENVIRONMENT_PREFIX = "GRAPEVINE_"


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file. Raises `ConfigError` if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
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
    by_lower = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_lower[near[0]]!r}?"
    return f"known here: {', '.join(sorted(known))}" if known else "nothing is known here; remove it"


class Table:
    """One table of a TOML file, read key by key and then closed with `finish`.

    A key may be overridden by an environment variable, named `GRAPEVINE_<TABLE>_<KEY>`; `prefix`
    is that name without the key, and "" means that this table takes no overrides. All methods
    raise `ConfigError`.
    """

    def __init__(
        self,
        entries: Mapping[str, object],
        *,
        source: str,
        name: str = "",
        prefix: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._entries = entries
        self.source = source
        self._name = name
        self._prefix = prefix
        self._environ = environ or {}
        self._asked: set[str] = set()

    def error(self, key: str, remedy: str) -> ConfigError:
        """The error that says what is wrong with `key` in this table: where it was written, its value, `remedy`."""
        variable = self._variable(key)
        if variable in self._environ:
            return ConfigError(f"environment: {variable} = {self._environ[variable]!r}: {remedy}")
        where = f"{self.source}: {self.path(key)}"
        if key in self._entries:
            return ConfigError(f"{where} = {_shown(self._entries[key])}: {remedy}")
        return ConfigError(f"{where} is missing: {remedy}")

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
        if value is None:
            if default is None:
                raise self.error(key, f"write {key} = {hint or _quoted('…')}")
            return default
        if not isinstance(value, str):
            raise self.error(key, f"must be a string; write {key} = {_quoted(str(value))}")
        if choices and value not in choices:
            raise self.error(key, f"must be one of {', '.join(map(_quoted, choices))}; {suggestion(value, choices)}")
        if pattern and not re.fullmatch(pattern, value):
            raise self.error(key, f"does not have the right form; write something like {key} = {hint}")
        if len(value) > max_length:
            raise self.error(key, f"is longer than {max_length} characters; shorten it")
        return value

    def texts(self, key: str, default: tuple[str, ...] = (), *, pattern: str = "", hint: str = "") -> tuple[str, ...]:
        """A list of strings, each once; in the environment separated by commas."""
        value = self._look(key)
        if value is None:
            return default
        example = f"[{hint or _quoted('…')}]"
        if self._variable(key) in self._environ:
            value = [part.strip() for part in str(value).split(",") if part.strip()]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of strings; write {key} = {example}")
        for item in value:
            if pattern and not re.fullmatch(pattern, item):
                raise self.error(key, f"{item!r} does not have the right form; write {key} = {example}")
        return tuple(dict.fromkeys(value))

    def integer(self, key: str, default: int | None = None, *, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.optional_integer(key, low=low, high=high)
        if value is not None:
            return value
        if default is None:
            raise self.error(key, f"write {key} = … with a whole number from {low} to {high}")
        return default

    def optional_integer(self, key: str, *, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`, or None where nothing is written."""
        value = self._look(key)
        if isinstance(value, str) and self._variable(key) in self._environ:
            value = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()) else value
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"must be a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float | None = None, *, low: float, high: float) -> float:
        """A number from `low` to `high`; whole numbers count."""
        value = self._look(key)
        if isinstance(value, str) and self._variable(key) in self._environ:
            with suppress(ValueError):  # what is no number is refused below, with the range
                value = float(value)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(key, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def optional_boolean(self, key: str) -> bool | None:
        """`true` or `false`, or None where nothing is written."""
        value = self._look(key)
        if isinstance(value, str) and self._variable(key) in self._environ:
            value = {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower(), value)
        if value is None or isinstance(value, bool):
            return value
        raise self.error(key, f"must be true or false, without quotes; write {key} = true")

    def boolean(self, key: str, default: bool) -> bool:
        """`true` or `false`."""
        value = self.optional_boolean(key)
        return default if value is None else value

    def table(self, key: str, *, prefix: str = "") -> Table:
        """The table `[key]`, empty if it is not there; `prefix` opens it to the environment."""
        value = self.mapping(key)
        return Table(value, source=self.source, name=self.path(key), prefix=prefix, environ=self._environ)

    def anything(self, key: str) -> object:
        """Whatever TOML has under `key`, None where nothing is written: for what has a shape of its own."""
        return self._look(key)

    def mapping(self, key: str) -> Mapping[str, object]:
        """The table `[key]` as it is, for whoever reads it in a way of their own; empty if it is not there."""
        value = self._look(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table; write [{self.path(key)}] on a line of its own")
        return value

    def tables(self, key: str) -> list[Table]:
        """The tables `[[key]]`, in their order."""
        value = self._look(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"must be a list of tables; write [[{self.path(key)}]] above each")
        path = self.path(key)
        return [Table(item, source=self.source, name=f"{path}[{i}]") for i, item in enumerate(value, start=1)]

    def variables(self) -> set[str]:
        """The environment variables that this table has listened to."""
        return {self._variable(key) for key in self._asked} if self._prefix else set()

    def reject(self, key: str, remedy: str) -> None:
        """Refuse `key` with a reason of its own, for what people write and should not."""
        if key in self._entries:
            # The value stays out of the message: this is where passwords turn up.
            raise ConfigError(f"{self.source}: {self.path(key)}: {remedy}")

    def finish(self) -> None:
        """Raise `ConfigError` if the table holds a key that nobody asked for."""
        for key in self._entries:
            if key not in self._asked:
                kind = "unknown table" if isinstance(self._entries[key], dict) else "unknown key"
                raise ConfigError(f"{self.source}: {self.path(key)}: {kind}; {suggestion(key, self._asked)}")

    def _look(self, key: str) -> object:
        self._asked.add(key)
        return self._environ.get(self._variable(key), self._entries.get(key))

    def _variable(self, key: str) -> str:
        return f"{self._prefix}{key.upper()}" if self._prefix else ""

    def path(self, key: str) -> str:
        """How `key` of this table is written in full, such as `review.need`."""
        return f"{self._name}.{key}" if self._name else key


def _quoted(text: str) -> str:
    return f'"{text}"'


def _shown(value: object) -> str:
    """A value for an error message, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"
