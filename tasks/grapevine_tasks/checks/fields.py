"""Checks of one field of a manifest: the error names it, its value and what to write."""

from __future__ import annotations

import math
from collections.abc import Collection

from grapevine_proto.errors import TaskError
from grapevine_tasks.suggestions import did_you_mean


def one_of(field: str, name: str, known: Collection[str]) -> None:
    """Raise TaskError for a name that is not in the closed set."""
    if name not in known:
        raise TaskError(f"{field} is {name!r}; {did_you_mean(name, known)}")


def in_range(field: str, number: float, low: float, high: float) -> None:
    """Raise TaskError for a number that is not finite or not from `low` to `high`."""
    if not math.isfinite(number) or not low <= number <= high:
        raise TaskError(f"{field} is {number}, outside {low:g} to {high:g}")
