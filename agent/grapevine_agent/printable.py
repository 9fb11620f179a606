"""Text by strangers, made fit to be shown.

Names, descriptions and reasons come from peers. A terminal obeys control characters, and a reader is
misled by invisible ones and by those that turn the direction of writing around.
"""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Control, format (zero width, direction), surrogates, private use, unassigned; line and paragraph separators.
_UNFIT = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_MOST_MARKS = 4  # combining characters in a row: more climb over the lines above


def printable(text: str, *, lines: bool = False) -> str:
    """The text with everything unfit replaced. `lines` keeps line feeds."""
    shown: list[str] = []
    num_marks = 0
    for character in text:
        category = unicodedata.category(character)
        num_marks = num_marks + 1 if category in ("Mn", "Me") else 0
        fits = (category not in _UNFIT and num_marks <= _MOST_MARKS) or (lines and character == "\n")
        shown.append(character if fits else REPLACEMENT)
    return "".join(shown)
