"""How a CSV file seems to be written, from its first lines: what to write into `[[data]]` so that it can be read.

Nothing is guessed when a file is read. It is read as its owner says, and where that fails the error proposes what
would do: the owner decides, once, and a file that changes later cannot change its meaning by itself.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Final

from grapevine_agent.data.source import Dialect

SEPARATORS: Final = (",", ";", "\t", "|")
_HEAD_BYTES: Final = 2**16
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+")
_WINDOWS_ONLY: Final = frozenset(range(0x80, 0xA0))  # in Latin-1 these are control characters


def proposed(path: Path, written: Dialect) -> str:
    """What would read a file better than `written` does, as keys of `[[data]]`; empty if nothing comes to mind.

    Looks at the first 64 kB. Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return ""
    seems = _seems(head, written)
    if seems is None:
        return ""
    told = [
        f"{key} = {_quoted(getattr(seems, key))}"
        for key in ("separator", "decimal", "encoding")
        if getattr(seems, key) != getattr(written, key)
    ]
    return f"write {' and '.join(told)} in this [[data]]" if told else ""


def is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of texts by this name."""
    try:
        return "a,1\n".encode(name).decode(name) == "a,1\n"
    except (LookupError, ValueError):
        return False


def _seems(head: bytes, written: Dialect) -> Dialect | None:
    encoding = _encoding(head, written.encoding)
    if encoding is None:
        return None
    text = head.decode(encoding, errors="ignore").lstrip("\ufeff")
    lines = [line for line in text.splitlines()[:-1] or text.splitlines() if line.strip()][:50]
    if not lines:
        return None
    separator = _separator(lines, written.separator)
    cells = [cell.strip().strip('"') for line in lines[1:] for cell in line.split(separator)]
    commas = sum(bool(_DECIMAL_COMMA.fullmatch(cell)) for cell in cells) if separator != "," else 0
    points = sum(bool(_DECIMAL_POINT.fullmatch(cell)) for cell in cells)
    decimal = "," if commas > points else "." if points > commas else written.decimal
    return Dialect(separator=separator, decimal=decimal, encoding=encoding)


def _encoding(head: bytes, written: str) -> str | None:
    """None: it does not look like text."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return written if _is_called(written, name) else name
    if b"\0" in head:
        return None
    if _decodes(head, written):
        return written
    if _decodes(head, "utf-8"):
        return "utf-8"
    if _WINDOWS_ONLY.isdisjoint(head):
        return "latin-1"
    return "windows-1252" if _decodes(head, "windows-1252") else None


def _is_called(written: str, name: str) -> bool:
    """Whether an encoding is this one, in whatever order of bytes and with whatever mark."""
    try:
        return codecs.lookup(written).name.startswith(name)
    except LookupError:
        return False


def _decodes(head: bytes, encoding: str) -> bool:
    try:  # the last character may be cut
        codecs.getincrementaldecoder(encoding)().decode(head, final=len(head) < _HEAD_BYTES)
    except (LookupError, UnicodeError):
        return False
    return True


def _separator(lines: list[str], written: str) -> str:
    """The one that stands in each line as often; the one that was written where it does, too."""

    def num_cells(separator: str) -> int:
        counts = {line.count(separator) for line in lines}
        return counts.pop() if len(counts) == 1 else 0

    return max((written, *SEPARATORS), key=lambda each: (num_cells(each), each == written))


def _quoted(text: str) -> str:
    return '"\\t"' if text == "\t" else f'"{text}"'
