"""Checks of one field of a manifest: the error names it, its value and what to write."""

from __future__ import annotations

import math
from collections.abc import Collection

from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.suggestions import did_you_mean

MOST_LISTED = 16  # names of a closed set that are all said


def one_of(field: str, name: str, known: Collection[str]) -> None:
    """Raise TaskError for a name that is not in the closed set."""
    if name not in known:
        remedy = did_you_mean(name, known)
        listed = remedy.startswith("use one of") or len(known) > MOST_LISTED
        allowed = "" if listed else f" Allowed: {', '.join(sorted(known))}"
        raise FieldTaskError(field, f"{field} is {name!r}; {remedy}{allowed}")


def in_range(field: str, number: float, low: float, high: float) -> None:
    """Raise TaskError for a number that is not finite or not from `low` to `high`."""
    if not math.isfinite(number) or not low <= number <= high:
        raise FieldTaskError(field, f"{field} is {number}, outside {low:g} to {high:g}")
