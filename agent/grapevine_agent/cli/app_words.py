"""What `apply`, `get`, `explain` and `review show` all say of an application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grapevine_agent.cli.output import shown

BEFORE: Final = "until this version is approved, the one before it runs"


def standing_here(found: Mapping[str, Any]) -> str:
    """What this agent makes of it, and why: `waiting here: 0 of 1 approvals by trusted reviewers`."""
    return f"{shown(found['standing'])} here: {shown(found['why'])}"
