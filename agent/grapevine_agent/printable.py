"""Text by strangers, made fit to be shown.

Names, descriptions and reasons come from peers. A terminal obeys control characters, and a reader is
misled by invisible ones and by those that turn the direction of writing around.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Final

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


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: no characters, or only spaces and such that have no shape."""
    return all(character.isspace() or unicodedata.category(character) in _UNFIT for character in text)


# Letters of Cyrillic and Greek that have the shapes of Latin ones, and what looks the same in many typefaces.
_SHAPES: Final = (
    str.maketrans("АВЕЅІЈКМНОРСТУХаеоѕіјрсухһԁԛԝӏ", "ABESIJKMHOPCTYXaeosijpcyxhdqwl")
    | str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧανορ", "ABEZHIKMNOPTYXavop")
    | str.maketrans("I|10", "lllO")
)


def look_alike(one: str, other: str) -> bool:
    """Whether a reader may take one name for the other: by letter case, spaces, invisible characters or shapes.

    It knows the usual tricks and not all there are (Unicode lists thousands): a name never proves who chose it.
    """
    return _seen(one).casefold() == _seen(other).casefold() or _shaped(one) == _shaped(other)


def _seen(text: str) -> str:
    """What there is to see: compatible forms as one (full width, ligatures), spaces as one, invisible ones left out."""
    plain = unicodedata.normalize("NFKC", text)
    visible = "".join(c for c in plain if c.isspace() or unicodedata.category(c) not in _UNFIT)
    return " ".join(visible.split())


def _shaped(text: str) -> str:
    return _seen(text).translate(_SHAPES).translate(_SHAPES)  # twice: an І becomes I, and that an l


def date_of(wall_ms: int) -> str:
    """A time for people, in UTC to the minute. Anything that a peer may claim is taken."""
    try:
        return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return "the far future"
