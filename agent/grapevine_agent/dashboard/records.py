"""What is known of one peer, task or broker, and how the page is told of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from grapevine_agent.dashboard.curves import OF_A_PEER, OF_A_TASK, Curve
from grapevine_agent.dashboard.words import rounded

Does: TypeAlias = Literal["serves", "publishes", "reviews"]

MOST_TASKS_OF_A_PEER: Final = 16
MOST_MERGES: Final = 10  # of a peer, the newest
MOST_PARTNERS: Final = 32  # of a peer
MOST_REVIEWS: Final = 50  # of a task …
MOST_STRANGERS: Final = 10  # … of which so many count for nobody, at most
MOST_VERDICTS: Final = 100  # of a task that are told one by one, those that are not "approved" first
BUCKET_MS: Final = 1_000  # between two points of a task's curves, at least
LIVES: Final = frozenset(("alive", "suspect", "asleep", "paused"))  # whose last figures count in a mean


@dataclass(kw_only=True)
class Learned:
    """How one peer does at one task."""

    role: str = "member"
    round: int | None = None
    age: int | None = None
    metric: float | None = None
    loss: float | None = None
    metric_name: str = ""
    best: float | None = None
    baseline: float | None = None
    baseline_name: str = ""
    num_evaluated: int | None = None
    num_peers: int | None = None
    staleness: float | None = None
    staleness_bound: float | None = None
    server: str = ""
    energy_j: float | None = None
    curve: Curve = field(default_factory=lambda: Curve(OF_A_PEER))
    measured_ms: int = -1


@dataclass(slots=True)
class Partner:
    """What went between one of our agents and a peer."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0


@dataclass(kw_only=True)
class PeerKnown:
    """One peer. `is_own`: an agent that we talk to, whose own word counts."""

    id: str
    name: str = ""
    known_as: str = ""  # its role, as somebody says who knows it
    does: set[Does] = field(default_factory=set)
    profile: str = ""
    state: str = "offline"  # until it is heard of: who is only named need not be there
    brokers: set[str] = field(default_factory=set)
    site: str = ""
    is_own: bool = False
    is_connected: bool = False  # its events come to us now
    is_followed: bool = False  # its socket is there, and says how it is: what others say of it does not matter
    learned: dict[str, Learned] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    num_bytes: int = 0
    joules: float | None = None  # today, or since it is known; None: nobody knows what it draws
    memory_mb: float | None = None
    temperature_c: float | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    merges: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_MERGES))
    partners: dict[str, Partner] = field(default_factory=dict)
    told_ms: int = 0  # when it was last heard of
    activity: float = 0.0
    pauses: set[str] = field(default_factory=set)  # by which limits

    def partner(self, other: str) -> Partner:
        """What went between it and another; whoever has had least of it makes room."""
        if other not in self.partners:
            if len(self.partners) >= MOST_PARTNERS:
                del self.partners[min(self.partners, key=lambda each: sum(self._counts(each)))]
            self.partners[other] = Partner()
        return self.partners[other]

    def _counts(self, other: str) -> tuple[int, int]:
        return self.partners[other].sent, self.partners[other].received

    @property
    def shown_name(self) -> str:
        """Its name, or how its id begins."""
        return self.name or self.id[:12]

    @property
    def role(self) -> str:
        """What it is, as it is told, or as far as it has shown by what it does."""
        if self.known_as or "serves" in self.does:
            return self.known_as or "server"
        if self.learned:
            return "member"
        return "engineer" if "publishes" in self.does else "reviewer" if "reviews" in self.does else "member"

    @property
    def newest(self) -> Learned | None:
        """How it does at the task that it measured last."""
        return max(self.learned.values(), key=lambda each: each.measured_ms, default=None)

    @property
    def shown_state(self) -> str:
        """Its state; who is there and trains nothing for now is paused."""
        return "paused" if self.state == "alive" and self.pauses else self.state

    def shown(self) -> dict[str, Any]:
        """As the page is told."""
        newest = self.newest or Learned()
        return {
            "id": self.id,
            "name": self.shown_name,
            "role": self.role,
            "profile": self.profile,
            "state": self.shown_state,
            "brokers": sorted(self.brokers),
            "site": self.site,
            "tasks": list(self.learned),
            "own": self.is_own,
            "rejected": sum(self.rejected.values()),
            "bytes_today": self.num_bytes,
            "joules_today": rounded(self.joules),
            "memory_mb": rounded(self.memory_mb, 4),
            "temperature_c": rounded(self.temperature_c, 4),
            "round": newest.round,
            "metric": rounded(newest.metric),
            "staleness": rounded(newest.staleness, 4),
        }


@dataclass(kw_only=True)
class BrokerKnown:
    """One broker, and which of our agents are connected to it."""

    id: str
    name: str
    url: str
    connected: set[str] = field(default_factory=set)
    num_peers: int = 0

    def shown(self) -> dict[str, Any]:
        """As the page is told."""
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "connected": bool(self.connected),
            "peers": self.num_peers,
        }


@dataclass(kw_only=True)
class TaskKnown:
    """One task, with what reviewers say and what each of our agents makes of it."""

    id: str
    label: str = ""
    name: str = ""
    version: int | None = None
    publisher: str = ""
    publisher_name: str = ""
    strategy: str = ""
    metric_name: str = ""
    higher_is_better: bool = True
    baseline: float | None = None
    baseline_name: str = ""
    server: str = ""
    reviews: dict[str, dict[str, Any]] = field(default_factory=dict)
    counting: dict[str, set[str]] = field(default_factory=dict)  # by reviewer, for which of our agents it counts
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    num_told: int = 0  # members, as one of them says
    latest: dict[str, float] = field(default_factory=dict)  # metric, by peer
    staleness: dict[str, float] = field(default_factory=dict)
    bound: float | None = None
    singled_out: set[str] = field(default_factory=set)  # peers whose curves are told one by one
    description: str = ""
    servers: set[str] = field(default_factory=set)
    told_ms: int = 0
    is_told: bool = False  # by an event, or somebody takes part: not just anybody's
    all: Curve = field(default_factory=lambda: Curve(OF_A_TASK))
    stale: Curve = field(default_factory=lambda: Curve(OF_A_TASK))
    closes_ms: int | None = None  # when the next point of its curves is due; None: nothing was measured yet
    has_new: bool = False  # measured since the last point

    def review(self, reviewer: str, review: dict[str, Any], teller: str, *, counts: bool) -> bool:
        """Keep what a reviewer says, if there is room, and whether it counts for who tells it. Whether it was kept.

        Anybody may review: of those that count for nobody few are kept, and they make no room for themselves.
        """
        strangers = [each for each in self.reviews if not self.counting[each]]
        if reviewer not in self.reviews:
            if not counts and len(strangers) >= MOST_STRANGERS:
                return False
            if len(self.reviews) >= MOST_REVIEWS:
                least = (strangers or list(self.reviews))[0]
                del self.reviews[least], self.counting[least]
        self.reviews[reviewer] = review
        tellers = self.counting.setdefault(reviewer, set())
        (tellers.add if counts else tellers.discard)(teller)
        return True

    @property
    def shown_label(self) -> str:
        """What people call it, or how its id begins."""
        return self.label or self.name or self.id[:12]

    def shown(self) -> dict[str, Any]:
        """As the page is told."""
        standings: dict[str, int] = {}
        for each in self.verdicts.values():
            standings[each["standing"]] = standings.get(each["standing"], 0) + 1
        reviews = [{**each, "counts": bool(self.counting[reviewer])} for reviewer, each in self.reviews.items()]
        verdicts = sorted(self.verdicts.values(), key=lambda each: each["standing"] == "approved")
        return {
            "id": self.id,
            "name": self.name or self.label or self.id[:12],
            "label": self.shown_label,
            "version": self.version,
            "publisher": self.publisher,
            "publisher_name": self.publisher_name,
            "strategy": self.strategy,
            "metric_name": self.metric_name,
            "higher_is_better": self.higher_is_better,
            "baseline": rounded(self.baseline),
            "baseline_name": self.baseline_name,
            "reviews": sorted(reviews, key=lambda each: not each["counts"]),
            "verdicts": verdicts[:MOST_VERDICTS],
            "standings": standings,
            "num_members": max(len(self.members), self.num_told),
            "server": self.server,
        }
