"""Reading what agents and files say, whatever it is: bounded, printable text and finite numbers, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from grapevine_agent.printable import printable

LONGEST_TEXT: Final = 400
LONGEST_NAME: Final = 64
LONGEST_ID: Final = 128
LARGEST_NUMBER: Final = 1e18
LATEST_MS: Final = 8_000_000_000_000_000  # what a browser's Date can hold


def text_in(line: Mapping[str, Any], key: str, most: int = LONGEST_TEXT) -> str:
    """The text under `key`, fit to be shown and no longer than `most`; empty where there is none."""
    value = line.get(key)
    return fit(value, most) if isinstance(value, str) else ""


def fit(text: str, most: int = LONGEST_TEXT) -> str:
    """A stranger's text, fit to be shown and no longer than `most`."""
    cut = text[:most]
    shown = cut if cut.isascii() and cut.isprintable() else printable(cut)
    return shown if len(text) <= most else shown[: most - 1] + "…"


def name_in(line: Mapping[str, Any], key: str) -> str:
    """A name under `key`."""
    return text_in(line, key, LONGEST_NAME)


def id_in(line: Mapping[str, Any], key: str) -> str:
    """An id under `key`; a number, such as a simulated node's, is taken as its digits."""
    value = line.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER:
        return str(value)
    return text_in(line, key, LONGEST_ID)


def number_in(line: Mapping[str, Any], key: str) -> float | None:
    """The finite number under `key`; None where there is none."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -LARGEST_NUMBER < value < LARGEST_NUMBER else None  # false for nan, too


def count_in(line: Mapping[str, Any], key: str) -> int | None:
    """The whole number from 0 on under `key`; None where there is none."""
    value = number_in(line, key)
    return int(value) if value is not None and value >= 0 else None


def time_in(line: Mapping[str, Any], key: str) -> int | None:
    """The time under `key` in milliseconds; None where there is none that a page could show."""
    value = number_in(line, key)
    return int(value) if value is not None and 0 <= value <= LATEST_MS else None


def truth_in(line: Mapping[str, Any], key: str) -> bool:
    """Whether `key` says true."""
    return line.get(key) is True


def mapping_in(line: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under `key`; an empty one where there is none."""
    value = line.get(key)
    return value if isinstance(value, dict) else {}


def list_in(line: Mapping[str, Any], key: str) -> list[Any]:
    """The list under `key`; an empty one where there is none."""
    value = line.get(key)
    return value if isinstance(value, list) else []


def objects_in(line: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of the list under `key`."""
    return [each for each in list_in(line, key) if isinstance(each, dict)]


def rounded(value: float | None, digits: int = 6) -> float | None:
    """A number as it is told: to so many significant digits; None where there is none."""
    if value is None or not math.isfinite(value):
        return None
    if value == int(value) and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.{digits}g}")
