"""Whose updates of a task are not listened to, in the words of `grapevine status`."""

from __future__ import annotations

from typing import Any

from grapevine_agent.cli.output import counted, shown


def turned_away_words(task: dict[str, Any]) -> str:
    """In words: `; not listened to: fnuvdgp4pigw3wrnjztv for 12 rounds (an update of …)`; empty: everybody is."""
    held = [
        f"{shown(each['peer'])} for {counted(each['rounds'], 'round')} ({shown(each['why'], 120)})"
        for each in task.get("quarantined", ())
    ]
    return f"; not listened to: {', '.join(held)}" if held else ""
