"""Near misses: what somebody who wrote a wrong name probably meant."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

NEAR: Final = 0.6  # of `difflib`: a slip of a finger or two


def did_you_mean(word: str, known: Collection[str]) -> str:
    """The end of an error message about an unknown word: the nearest known name, or all of them."""
    near = near_to(word, known)
    return f"did you mean {near!r}?" if near else all_of(known)


def near_to(word: str, known: Collection[str], cutoff: float = NEAR) -> str:
    """The known name that is most like `word`, whatever its case; empty if none is."""
    import difflib  # noqa: PLC0415 - when something is wrong

    by_lower = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else ""


def all_of(known: Collection[str]) -> str:
    """All that is known, for who wrote something else."""
    return f"known here: {', '.join(sorted(known))}" if known else "nothing is known here; remove it"
