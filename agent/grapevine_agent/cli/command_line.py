"""The command line as a whole: what no command takes as a value, whichever it is.

An empty word is most often a shell variable that was not set: `grapevine review approve "$TASK"`. No command has a
meaning for one, so it is refused here, before any of them looks at it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import typer

from grapevine_agent.cli.values import Group
from grapevine_agent.printable import is_blank, printable

MAX_CHARACTERS = 4_096  # of one word: as long as a path may be
_JOINED = re.compile(r"(--[a-z][a-z0-9-]*)=(.*)", re.DOTALL)


class CommandLine(Group):
    """The command `grapevine`: sees every word before its commands do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As its parent, after a look at all words."""
        pairs = [] if ctx.resilient_parsing else zip(["grapevine", *args], args, strict=False)  # not for completion
        for before, word in pairs:
            joined = _JOINED.fullmatch(word)
            option, value = joined.groups() if joined else (f"after {before[:40]!r}", word)
            where = f"the value of {option}" if joined else f"the word {printable(option)}"
            if is_blank(value):
                raise typer.BadParameter(f"{where} is empty; is a variable of your shell not set? Nothing was done")
            if len(value) > MAX_CHARACTERS:
                raise typer.BadParameter(f"{where} has {len(value):,} characters; {MAX_CHARACTERS:,} are allowed")
        return super().parse_args(ctx, args)


def finite(value: float | None) -> float | None:
    """A callback for options that are numbers: bounds alone let NaN through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number that can be counted with; write digits, as in 2.5")
    return value
