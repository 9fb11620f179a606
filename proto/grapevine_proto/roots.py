"""The root of a topic tree: what stands above everything that peers say to each other (see `topics`)."""

from __future__ import annotations

import re
from typing import Final

from grapevine_proto.errors import ConfigError

DEFAULT_ROOT: Final = "grapevine/v1"
_LEVEL = r"[A-Za-z0-9_-]{1,64}"


def check_root(root: str) -> str:
    """Return `root` if it is one or two plain levels, else raise `ConfigError`."""
    levels = root.split("/")
    if not 1 <= len(levels) <= 2 or not all(re.fullmatch(_LEVEL, level) for level in levels):
        raise ConfigError(
            f"topic root {root!r}: write one or two levels of letters, digits, '-' and '_', "
            f"such as {DEFAULT_ROOT!r} or 'myfarm'"
        )
    return root
