"""The parameters of a request, held against what the method that it asks for declares.

The socket is the owner's, and its other end may be any program: what arrives is JSON. A method can then rely on
its own annotations. What a value may be beyond its type (how many days, which task) the method says itself.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from grapevine_agent.printable import is_blank, printable
from grapevine_proto.errors import RequestError
from grapevine_proto.reading import MAX_TEXT

_WORDS: Final = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"}


def checked(name: str, method: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, each of the type that the method declares. Raises `RequestError` that names the wrong one."""
    declared = inspect.signature(method).parameters
    hints = get_type_hints(method)
    for key in params:
        if key not in declared:
            raise RequestError(f"{name}: unknown parameter {printable(key[:80])!r}; known: {', '.join(declared)}")
    for key, parameter in declared.items():
        if key not in params and parameter.default is inspect.Parameter.empty:
            raise RequestError(f"{name}: {key} is missing")
    for key, value in params.items():
        if not _fits(value, hints[key]):
            raise RequestError(f"{name}: {key} = {printable(repr(value)[:80])}: must be {_words(hints[key])}")
    return dict(params)


def checked_reason(reason: str) -> str:
    """A reason that everybody will read, as it can be sent. Raises `RequestError`."""
    if len(reason) > MAX_TEXT:
        raise RequestError(f"the reason has {len(reason):,} characters, and at most {MAX_TEXT} can be sent: shorten it")
    return reason


def needed(text: str, what: str) -> str:
    """A text that says something. Raises `RequestError` for one that is empty or blank."""
    if is_blank(text):
        raise RequestError(f"{what} is empty: write one")
    return text


def within(number: float, low: float, high: float, what: str) -> float:
    """A number in its range. Raises `RequestError`, for NaN as well."""
    if not low <= number <= high:
        raise RequestError(f"{what} = {number:g}: must be from {low:g} to {high:g}")
    return number


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, choice) for choice in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(each, get_args(hint)[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(choice) for choice in get_args(hint))
    if get_origin(hint) is list:
        return f"a list, each of it {_words(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "an object"
    return "null" if hint is type(None) else _WORDS[hint]
