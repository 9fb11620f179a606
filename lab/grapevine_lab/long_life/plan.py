"""What a long life with real agents is to be, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LongLife:
    """Times in seconds of the wall clock."""

    duration_s: float = 3600.0
    num_agents: int = 6
    outage_every_s: float = 300.0  # from one kill of the broker to the next
    outage_s: tuple[float, float] = (1.0, 20.0)  # how long it stays away: drawn
    heals_within_s: float = 120.0
    clock_ahead_s: float = 7_200.0  # of the first agent's clock, between every other pair of outages
    round_s: float = 2.0
    heartbeat_s: float = 2.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Outage:
    """One outage, in seconds since learning began; `known_s` and `merged_s` since the broker was back, None: never."""

    number: int
    at_s: float
    dark_s: float
    clock_ahead_s: float  # of the first agent, from here on
    known_s: float | None  # until every agent counts on every other
    merged_s: float | None  # until every agent's model holds something newer of every other

    @property
    def healed(self) -> bool:
        """Whether all was well again."""
        return self.known_s is not None and self.merged_s is not None


@dataclass(frozen=True, kw_only=True)
class LifeTold:
    """A long life that is over."""

    plan: LongLife
    outages: tuple[Outage, ...]
    lost: tuple[str, ...]  # who was not known, or not merged, at the end, and by whom
    rounds: tuple[int, ...]  # of each agent
    memory_mb: tuple[tuple[float, float], ...]  # of each agent's service, after the first outage and at the end

    @property
    def holds(self) -> bool:
        """Whether nobody was lost."""
        return not self.lost and bool(self.outages) and all(outage.healed for outage in self.outages)
