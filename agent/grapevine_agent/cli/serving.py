"""What `grapevine status` says of a task that a server aggregates."""

from __future__ import annotations

from typing import Any

from grapevine_agent.cli.output import counted, shown
from grapevine_agent.cli.turned_away import turned_away_words
from grapevine_agent.spoken import span

MOST_REASONS = 4


def served_line(task: dict[str, Any]) -> str:
    """In words: `serving, model 12 of 5 members, published 3 s ago; 60 updates folded in, none refused; holds 2 MB`."""
    served = task["served"]
    model = f"model {served['model_version']}"
    if served["num_members"]:
        model += f" of {counted(served['num_members'], 'member')}"
    if served["num_clusters"] > 1:
        model += f" in {served['num_clusters']} clusters"
    since_s = served["since_published_s"]
    when = "none published since the start" if since_s is None else f"published {span(since_s)} ago"
    folded = f"{counted(served['num_folded'], 'update')} folded in"
    refused, holds = _refused(served["refused"]), _size(served["held_bytes"])
    return f"serving, {model}, {when}; {folded}, {refused}; holds {holds}" + turned_away_words(task)


def _refused(refused: dict[str, int]) -> str:
    """`3 refused (2 non-finite, 1 wrong-shape)`, what is most often first."""
    if not refused:
        return "none refused"
    most = sorted(refused.items(), key=lambda each: (-each[1], each[0]))
    reasons = [f"{count:,} {shown(reason)}" for reason, count in most[:MOST_REASONS]]
    if len(most) > MOST_REASONS:
        reasons.append(f"{sum(count for _, count in most[MOST_REASONS:]):,} otherwise")
    return f"{sum(refused.values()):,} refused ({', '.join(reasons)})"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"
