"""How an agent sees a task's server: a small state machine, and a weight that fades.

                    sign of life ×2                silent for 3 T, or its will
        unknown ──────────────────▶ reachable ──────────────────────────────▶ suspect
                                        ▲                                        │ silent for 10 T
                                        │ sign of life ×2                        ▼
                                        └──────────────────────────────────── lost

T is the server's announced heartbeat interval. A *sign of life* is anything fresh from the server:
its advert, a heartbeat, a model. Two of them in a row, at least T/2 apart, are asked for before the server is
trusted with gossip's traffic, so that a flapping link does not make agents oscillate.

Only traffic hangs on the state. Gossip slows down while servers *serve*: they are reachable, their models keep coming,
and half of the members are in these (`serve`). One that is alive and publishes nothing, or has come back and has heard
few yet, lets gossip go on as before. What the server's model weighs in a merge does not: s = ρ·h(τ),
h = 2^−max(0, τ/T − 1) with τ the silence. A lost server fades into gossip, and a returning one fades in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_proto.messages import ServerAdvert, ServerModel
from grapevine_proto.sessions import supersedes

ServerState: TypeAlias = Literal["unknown", "reachable", "suspect", "lost"]

SUSPECT_AFTER = 3.0  # heartbeat intervals of silence
LOST_AFTER = 10.0
SIGNS_NEEDED = 2
STALE_AFTER = 3.0  # times its usual pause without a new model: the server does not serve
LONGEST_PAUSE = 10.0  # between two models that is believed to be usual, in rounds or heartbeat intervals
MOST_SERVED = 64  # members that servers need to have heard half of, of however many
FADED = 1e-3  # a source weight below it no longer changes a float32 mean


@dataclass
class ServerLink:
    """One authorised server of one task."""

    peer: str
    heartbeat_s: float = 1.0
    state: ServerState = "unknown"
    model: ServerModel | None = None
    merged_version: int = 0  # of its model that was merged last: each server counts its own
    cluster: int | None = None  # the cluster that names us
    advertised: frozenset[str] = frozenset()
    last_heard_s: float = field(default=float("-inf"))
    last_model_s: float = float("-inf")  # when a model came that was news
    _pause_s: float = 0.0  # between the last two of these
    _session: int = 0  # of the server, when it said `model`
    _signs: int = 0
    _last_sign_s: float = float("-inf")

    def hear_advert(self, advert: ServerAdvert, now_s: float, *, retained: bool) -> None:
        """The server's record. A retained one may be a leftover: it informs, but is no sign of life."""
        self.advertised = frozenset(advert.contributors)
        if advert.heartbeat_s > 0:
            self.heartbeat_s = advert.heartbeat_s
        if not advert.online:
            self.hear_gone()
        elif not retained:
            self.hear_life(now_s)

    def hear_model(
        self, received: ServerModel, peer: str, session: int = 0, wall_ms: int = 0, now_s: float = float("-inf")
    ) -> None:
        """A model of the server, heard by `peer`: its own cluster's, or cluster 0's while no cluster names it.

        The newest counts. A server that restarted may go on from an earlier version: its newer `session` says so,
        in the sense of `sessions` at `wall_ms` (0: not known).
        """
        named = peer in received.members
        if received.members and not named:
            if received.cluster == self.cluster:
                self.cluster = None  # it was ours, and is no longer
            if received.cluster != 0 or self.cluster is not None:
                return
        self.cluster = received.cluster if named else None
        held = self.model
        goes_on = held is not None and session == self._session and received.model_version > held.model_version
        if held is None or goes_on or supersedes(session, self._session, wall_ms):
            self._pause_s = now_s - self.last_model_s if goes_on else 0.0
            self.model, self._session, self.last_model_s = received, session, now_s

    def hear_life(self, now_s: float) -> None:
        """Anything fresh came from the server."""
        self.last_heard_s = now_s
        if now_s - self._last_sign_s >= self.heartbeat_s / 2:
            self._signs += 1
            self._last_sign_s = now_s
        if self._signs >= SIGNS_NEEDED:
            self.state = "reachable"

    def hear_gone(self) -> None:
        """Its will, or its goodbye."""
        self._signs = 0
        if self.state == "reachable":
            self.state = "suspect"

    def tick(self, now_s: float) -> None:
        """Notice silence."""
        silence = (now_s - self.last_heard_s) / self.heartbeat_s
        if silence > SUSPECT_AFTER:
            self.hear_gone()
        if silence > LOST_AFTER and self.state == "suspect":
            self.state = "lost"

    def brings(self, now_s: float, round_interval_s: float) -> Collection[str]:
        """The members in the server's model, if new ones keep coming."""
        usual_s = max(self.heartbeat_s, round_interval_s)
        stale_s = STALE_AFTER * max(usual_s, min(self._pause_s, LONGEST_PAUSE * usual_s))  # slow members, slow rounds
        if self.state != "reachable" or self.model is None or now_s - self.last_model_s > stale_s:
            return ()
        return self.model.contributions.keys()

    def source_weight(self, now_s: float, *, known: Collection[str], cap: float) -> float:
        """S = ρ·h(τ) of the server's model, 0 while there is none.

        ρ counts the contributors that the model and the advert both name and that are in `known`
        (peers that this agent has itself heard of), at most `cap`, at least 1.
        """
        if self.model is None:
            return 0.0
        contributors = self.model.contributions.keys() & self.advertised & set(known)
        voices = min(float(max(1, len(contributors))), cap)
        silence = (now_s - self.last_heard_s) / self.heartbeat_s
        weight = voices * 2.0 ** -max(0.0, silence - 1.0)
        return weight if weight >= FADED else 0.0


def serve(servers: Collection[ServerLink], now_s: float, *, round_interval_s: float, num_members: int) -> bool:
    """Whether the servers' models spread what half of so many members know, so that gossip need not."""
    heard: set[str] = set()
    for link in servers:
        heard.update(link.brings(now_s, round_interval_s))
    return 2 * len(heard) >= max(1, min(num_members, MOST_SERVED))


def best_state(servers: Mapping[str, ServerLink]) -> str:
    """The best that can be said of any of a task's servers."""
    states = {link.state for link in servers.values()}
    return next((state for state in ("reachable", "suspect", "lost") if state in states), "unknown")
