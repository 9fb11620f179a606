"""Peers that say they are there and were not heard yet, and members that fell silent: whom to listen to next.

Each stands in one of four lines:

    missed     a member that fell silent        first in, first out, at most half of the places
    fresh      a stranger, not listened to yet  the newest first: whoever really came must not wait behind a flood
    tried      a stranger that was not heard    first in, first out, when nobody is fresh
    away       a stranger that is offline       not listened to

`NUM_PLACES` of them are listened to at a time, each until it is heard, or until its patience is over
and somebody else waits for the place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

NUM_PLACES = 16
PATIENCE_HEARTBEATS = 1.5  # a live peer is heard within one


@dataclass(kw_only=True)
class Strangers:
    """See the module's docstring. Lines are kept in the order of arrival."""

    heartbeat_s: float
    listened_since_s: dict[str, float] = field(default_factory=dict)  # who has a place, and since when
    _lines: dict[str, str] = field(default_factory=dict)  # who stands in which line
    _missed: dict[str, None] = field(default_factory=dict)
    _fresh: dict[str, None] = field(default_factory=dict)
    _tried: dict[str, None] = field(default_factory=dict)
    _away: dict[str, None] = field(default_factory=dict)

    def __contains__(self, peer: str) -> bool:
        return peer in self._lines

    @property
    def num_waiting(self) -> int:
        """How many would be listened to if there was a place for them."""
        waiting = len(self._missed) + len(self._fresh) + len(self._tried)
        return waiting - len(self.listened_since_s)

    def came(self, peer: str) -> None:
        """A stranger says that it is online."""
        if self._lines.get(peer) not in ("fresh", "tried", "missed"):
            self._put(peer, "fresh")

    def went(self, peer: str) -> None:
        """A stranger is offline, or has not said that it is not."""
        if self._lines.get(peer) != "away":
            self._put(peer, "away")

    def miss(self, peer: str) -> None:
        """A member fell silent."""
        self._put(peer, "missed")

    def remove(self, peer: str) -> None:
        """It was heard, or is forgotten."""
        line = self._lines.pop(peer, None)
        if line is not None:
            del self._line(line)[peer]
        self.listened_since_s.pop(peer, None)

    def to_forget(self) -> str | None:
        """Who may be forgotten first: whoever is away, else the newest, so that a flood pushes out itself."""
        for line in (self._away, self._fresh, self._tried):
            for peer in reversed(line):
                return peer
        return None

    def choose(self, now_s: float) -> list[str]:
        """Who has a place now."""
        self._free_places(now_s)
        seated_members = sum(self._lines[peer] == "missed" for peer in self.listened_since_s)
        self._seat(self._missed, NUM_PLACES // 2 - seated_members, now_s)
        self._seat(reversed(self._fresh), NUM_PLACES, now_s)
        self._seat(self._tried, NUM_PLACES, now_s)
        self._seat(self._missed, NUM_PLACES, now_s)
        return list(self.listened_since_s)

    def next_change_s(self) -> float:
        """When there is a place for who waits; infinite if nobody does."""
        if self.num_waiting <= 0:
            return math.inf
        if len(self.listened_since_s) < NUM_PLACES:
            return -math.inf
        return min(map(self._leaves_s, self.listened_since_s))

    def _leaves_s(self, peer: str) -> float:
        return self.listened_since_s[peer] + PATIENCE_HEARTBEATS * self.heartbeat_s

    def _free_places(self, now_s: float) -> None:
        for peer in [peer for peer in self.listened_since_s if self._leaves_s(peer) <= now_s]:
            if self.num_waiting <= 0:
                return
            self._put(peer, "missed" if self._lines[peer] == "missed" else "tried")

    def _seat(self, line: Iterable[str], most: int, now_s: float) -> None:
        """Give places to the first in a line, at most to so many."""
        room = max(0, min(most, NUM_PLACES - len(self.listened_since_s)))
        waiting = (peer for peer in line if peer not in self.listened_since_s)
        for peer in list(islice(waiting, room)):
            self.listened_since_s[peer] = now_s

    def _put(self, peer: str, line: str) -> None:
        self.remove(peer)
        self._lines[peer] = line
        self._line(line)[peer] = None

    def _line(self, name: str) -> dict[str, None]:
        return {"missed": self._missed, "fresh": self._fresh, "tried": self._tried, "away": self._away}[name]
