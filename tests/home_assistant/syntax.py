"""Python of 3.12 to 3.14, as 3.11 reads it: what Home Assistant's own schemas are written in, and nothing more.

    type X = …               X = Any
    def f[T](…), class C[T]  without the brackets; T is a type variable of the module
    except A, B:             except (A, B):

Only tokens are looked at, so it holds for code that is formatted as Home Assistant's is.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass, field
from typing import Final

GENERIC: Final = "_Subscriptable"  # the base that stands in for brackets of a class; its importer puts it there
_PARAMETER: Final = re.compile(r"(\*{0,2})\s*([A-Za-z_]\w*)\s*(?::[^,]*)?(?:=[^,]*)?(?:,|$)")
_BLANK: Final = (tokenize.NL, tokenize.COMMENT)
_LINE: Final = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
_NOT_SUBSCRIPTABLE: Final = ("Protocol", "TypedDict", "NamedTuple")


@dataclass
class Translated:
    """Source for 3.11, and the names of the type parameters that it was written with: `T`, `*Ts`, `**P`."""

    source: str
    parameters: list[str] = field(default_factory=list)


def translate(source: str) -> Translated:
    """See the module's docstring."""
    return _Translation(source).run()


class _Translation:
    def __init__(self, source: str) -> None:
        self._lines = source.splitlines(keepends=True)
        self._tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        self._changes: list[tuple[tuple[int, int], tuple[int, int], str]] = []
        self._parameters: list[str] = []

    def run(self) -> Translated:
        begins = True
        for at, token in enumerate(self._tokens):
            if token.type in (*_LINE, *_BLANK):
                begins = begins or token.type in _LINE
                continue
            if token.type == tokenize.NAME:
                if begins and token.string == "type" and self._tokens[at + 1].type == tokenize.NAME:
                    self._alias(at)
                elif token.string in ("def", "class") and self._tokens[at + 2].string == "[":
                    self._brackets(at)
                elif begins and token.string == "except":
                    self._except(at)
            begins = False
        for (row, column), (last_row, last_column), new in sorted(self._changes, reverse=True):
            head, tail = self._lines[row - 1][:column], self._lines[last_row - 1][last_column:]
            self._lines[row - 1 : last_row] = [head + new + tail]
        return Translated("".join(self._lines), self._parameters)

    def _alias(self, at: int) -> None:
        end = next(index for index in range(at, len(self._tokens)) if self._tokens[index].type == tokenize.NEWLINE)
        name = self._tokens[at + 1].string
        self._change(at, end, f"{name} = __import__('typing').Any")

    def _brackets(self, at: int) -> None:
        closing = self._closing(at + 2)
        inside = " ".join(token.string for token in self._tokens[at + 3 : closing] if token.type not in _BLANK)
        self._parameters += ["".join(found) for found in _PARAMETER.findall(inside)]
        is_class = self._tokens[at].string == "class"
        is_bare = self._tokens[closing + 1].string == ":"
        self._change(at + 2, closing + 1, f"({GENERIC})" if is_class and is_bare else "", upto_end_of=closing)
        if is_class and not is_bare:
            self._base(closing + 1)

    def _base(self, opening: int) -> None:
        """One more base, behind the others and before keywords."""
        closing, depth, last = self._closing(opening), 0, opening
        inside = self._tokens[opening + 1 : closing]
        if any(token.string in _NOT_SUBSCRIPTABLE for token in inside):
            return
        for at in range(opening + 1, closing):
            token = self._tokens[at]
            depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
            if depth == 0 and token.type == tokenize.NAME and self._tokens[at + 1].string == "=":
                self._changes.append((token.start, token.start, f"{GENERIC}, "))
                return
            last = last if token.type in _BLANK else at
        comma = " " if self._tokens[last].string in (",", "(") else ", "
        end = self._tokens[last].end
        self._changes.append((end, end, comma + GENERIC))

    def _except(self, at: int) -> None:
        if self._tokens[at + 1].string in (":", "(", "*"):
            return
        end, depth, has_comma = at + 1, 0, False
        while not (self._tokens[end].string == ":" and depth == 0):
            text = self._tokens[end].string
            depth += (text in ("(", "[")) - (text in (")", "]"))
            has_comma = has_comma or (text == "," and depth == 0)
            end += 1
        if has_comma:
            first, last = self._tokens[at + 1].start, self._tokens[end - 1].end
            self._changes += [(first, first, "("), (last, last, ")")]

    def _closing(self, opening: int) -> int:
        depth = 0
        for at in range(opening, len(self._tokens)):
            token = self._tokens[at]
            if token.type == tokenize.OP:
                depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
                if depth == 0:
                    return at
        raise AssertionError("a bracket is not closed")

    def _change(self, first: int, end: int, new: str, *, upto_end_of: int | None = None) -> None:
        stop = self._tokens[end].start if upto_end_of is None else self._tokens[upto_end_of].end
        self._changes.append((self._tokens[first].start, stop, new))
