"""The tables of long runs: who speaks for tasks (`[review]`), and what must hold all along (`[life]`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grapevine_agent.config.toml_reader import Table

LONGEST_S: Final = 1e9


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """The nodes whose verdicts count, as their devices' owners have configured it. With it nothing is published yet."""

    reviewers: tuple[int, ...]
    approvals: int = 2
    max_valid_days: float = 7.0  # an approval counts for no longer
    valid_days: float = 7.0  # what reviewers write
    renew: bool = True  # whether their agents sign again before it runs out


@dataclass(frozen=True, kw_only=True)
class LifePlan:
    """Bounds, and how often somebody looks."""

    look_every_s: float = 21_600.0
    settled_s: float = 2_592_000.0  # from here on bounds hold: the first month is for coming together
    known_within_s: float = 172_800.0
    joins_within_s: float = 172_800.0
    stops_within_s: float = 60.0
    max_ghosts: float = 0.02
    forgotten_within_s: float = 432_000.0
    max_growth: float = 1.1  # of a whole core, over the last third of the time in which nothing new comes
    max_same_saves: float = 0.02
    max_disbelieved: float = 0.001
    max_rest_sends: float = 1.25  # of a finished task, a heartbeat and device
    max_written_mb: float = 50.0  # a day and device


def read_review(table: Table, num_nodes: int) -> ReviewPlan | None:
    """Read `[review]`; None where there is none. Raises ConfigError."""
    default = ReviewPlan(reviewers=())
    plan = ReviewPlan(
        reviewers=table.integers("reviewers", low=0, high=num_nodes - 1, what="nodes' numbers", hint="1, 2"),
        approvals=table.integer("approvals", default.approvals, low=0, high=100),
        max_valid_days=table.number("max_valid_days", default.max_valid_days, low=0.01, high=100_000.0),
        valid_days=table.number("valid_days", default.valid_days, low=0.01, high=100_000.0),
        renew=table.boolean("renew", default.renew),
    )
    table.finish()
    if not plan.reviewers:
        if plan != default:
            raise table.error("reviewers", "write whose verdicts count, as in reviewers = [1, 2]")
        return None
    return plan


def read_life(table: Table, *, is_written: bool) -> LifePlan | None:
    """Read `[life]`; None where it is not written, be it empty. Raises ConfigError."""
    default = LifePlan()

    def seconds(key: str, default_s: float) -> float:
        return table.number(key, default_s, low=0.0, high=LONGEST_S)

    def share(key: str, default_share: float) -> float:
        return table.number(key, default_share, low=0.0, high=1.0)

    plan = LifePlan(
        look_every_s=table.number("look_every_s", default.look_every_s, low=1.0, high=LONGEST_S),
        settled_s=seconds("settled_s", default.settled_s),
        known_within_s=seconds("known_within_s", default.known_within_s),
        joins_within_s=seconds("joins_within_s", default.joins_within_s),
        stops_within_s=seconds("stops_within_s", default.stops_within_s),
        max_ghosts=share("max_ghosts", default.max_ghosts),
        forgotten_within_s=seconds("forgotten_within_s", default.forgotten_within_s),
        max_growth=table.number("max_growth", default.max_growth, low=1.0, high=1000.0),
        max_same_saves=share("max_same_saves", default.max_same_saves),
        max_disbelieved=share("max_disbelieved", default.max_disbelieved),
        max_rest_sends=table.number("max_rest_sends", default.max_rest_sends, low=0.0, high=1e6),
        max_written_mb=table.number("max_written_mb", default.max_written_mb, low=0.0, high=1e6),
    )
    table.finish()
    return plan if is_written else None
