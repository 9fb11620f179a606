"""Who holds what of a device, as lines of `grapevine status`."""

from __future__ import annotations

from typing import Any

from grapevine_agent.cli.output import shown
from grapevine_agent.spoken import span

MOST_NAMED = 6


def held_lines(held: dict[str, Any]) -> str:
    """What joined tasks hold, and how much of their work a kill costs; nothing where none is joined."""
    tasks = held["tasks"]
    if not tasks:
        return ""
    limits, free = held["limits"], held["free"]
    holders = ", ".join(
        f"{shown(each['name'], 40)} {each['memory_mb']:,} MB and {_cores(each['cores'])}" for each in tasks[:MOST_NAMED]
    )
    more = f" and {len(tasks) - MOST_NAMED} more" if len(tasks) > MOST_NAMED else ""
    return (
        f"\nheld: {holders}{more}; free: {free['memory_mb']:,} of {limits['memory_mb']:,} MB, "
        f"{free['cores']} of {limits['cores']} cores\n"
        f"models that change are saved every {span(held['saved_every_s'])}: a kill costs so much training at most"
    )


def folder_line(folder: dict[str, Any]) -> str:
    """What the state folder takes, and what is kept there of tasks that are not in use."""
    if folder["mb"] is None:
        return ""
    left = folder["left"]
    kept = ""
    if left:
        names = ", ".join(shown(each["name"], 40) or each["task"][:12] for each in left[-MOST_NAMED:])
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        total_mb = sum(each["mb"] for each in left)
        kept = f"; {total_mb:,.1f} of them models that are not in use (grapevine forget): {names}{more}"
    return f"\nstate folder: {folder['mb']:,.1f} of {folder['limit_mb']:,.0f} MB{kept}"


def _cores(num: int) -> str:
    return "1 core" if num == 1 else f"{num} cores"
