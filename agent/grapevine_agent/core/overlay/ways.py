"""How far a peer is by each broker, where what is said of it there cannot be true: a gateway asks.

The number of hops stands beside what a peer signs (`gateway.py`). So whoever may write at a broker can say a peer's
state again with fewer hops than it has, and a way that was there when a state was said need not be there now. Believed
for good, that number would end a gateway's duty, or turn a route, until the peer's state changes.

    contested   a peer is said to be at two brokers, and not by us: a probe goes by the nearest of them, or several
       ├─ answered          ─▶ proved: the answer, signed by the peer, says how many hops the probe had. Again in 5 min
       └─ 3 times no answer ─▶ no way, while another one is proved. Again after 30 s, then ever later, up to 10 min
    its state is news       ─▶ all is as it says, until it was asked

A direct way, which is proved with no hops, wins over what anybody carries, and a wrong number costs what three
unanswered probes take: a few seconds. Nobody is suspected by them. Agents that answer no probes are believed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, TypeAlias

MOST_HOPS: Final = 3  # a peer is made known no farther
NO_WAY: Final = MOST_HOPS + 1  # said of a peer that a gateway has lost; what nobody carries is not there

TRIES: Final = 3
PROVED_S: Final = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0
LEAST_S: Final = 10.0  # between two checks of a way, whatever is said of it meanwhile
MOST_AT_A_TIME: Final = 16  # probes in one look

Way: TypeAlias = tuple[str, int]  # a peer, and the broker by which it is reached


@dataclass(kw_only=True)
class _Checked:
    hops: int | None = None  # as it was answered; NO_WAY: it was not; None: not known
    nonces: set[int] = field(default_factory=set)  # of the probes that are not answered
    due_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    began_s: float = 0.0


@dataclass(kw_only=True)
class Ways:
    """See the module's docstring. Times are monotonic seconds."""

    _peers: dict[str, dict[int, _Checked]] = field(default_factory=dict)
    _asked: dict[int, Way] = field(default_factory=dict)  # by the probe's nonce

    def hops(self, peer: str, broker: int, said: int) -> int:
        """How far a peer is by a broker, that is said to be so far."""
        ways = self._peers.get(peer)
        way = None if ways is None else ways.get(broker)
        if ways is None or way is None or way.hops is None:
            return said
        if way.hops == NO_WAY and all(each.hops in (None, NO_WAY) for each in ways.values()):
            return said  # it is silent, or busy: that says nothing of the ways
        return way.hops

    def has_failed(self, peer: str) -> bool:
        """Whether one of the ways to a peer was asked in vain."""
        return any(way.hops == NO_WAY for way in self._peers.get(peer, {}).values())

    def check(
        self, contested: Collection[Way], now_s: float, round_s: float, next_nonce: Callable[[], int]
    ) -> list[tuple[str, int, int]]:
        """Whom to probe now, by which broker, and with which number. What is not contested is forgotten."""
        self._forget_all_but(set(contested))
        probes: list[tuple[str, int, int]] = []
        for peer, broker in contested:
            way = self._peers.setdefault(peer, {}).setdefault(broker, _Checked())
            if now_s < way.due_s:
                continue
            if len(way.nonces) >= TRIES:
                self._end(way, NO_WAY)
                way.due_s, way.pause_s = now_s + way.pause_s, min(2 * way.pause_s, LONGEST_PAUSE_S)
            elif len(probes) < MOST_AT_A_TIME:
                nonce = next_nonce()
                way.began_s = way.began_s if way.nonces else now_s
                way.nonces.add(nonce)
                self._asked[nonce] = (peer, broker)
                way.due_s = now_s + round_s
                probes.append((peer, broker, nonce))
        return probes

    def answered(self, peer: str, nonce: int, hops: int, now_s: float) -> None:
        """A peer has answered a probe, which came to it with so many hops."""
        asked, broker = self._asked.get(nonce, ("", 0))
        if asked != peer:
            return
        way = self._peers[peer][broker]
        self._end(way, min(hops, NO_WAY))
        way.due_s, way.pause_s = now_s + PROVED_S, FIRST_PAUSE_S

    def said_otherwise(self, peer: str, broker: int) -> None:
        """The same state came with another number: look soon. What was proved holds until then."""
        way = self._peers.get(peer, {}).get(broker)
        if way is not None and way.hops is not None and not way.nonces:
            way.due_s = min(way.due_s, way.began_s + LEAST_S)

    def forget(self, peer: str, broker: int) -> None:
        """What a peer says of itself there is news."""
        way = self._peers.get(peer, {}).pop(broker, None)
        if way is not None:
            self._end(way, NO_WAY)

    def _end(self, way: _Checked, hops: int) -> None:
        for nonce in way.nonces:
            del self._asked[nonce]
        way.nonces.clear()
        way.hops = hops

    def _forget_all_but(self, contested: Collection[Way]) -> None:
        for peer, ways in list(self._peers.items()):
            for broker in [number for number in ways if (peer, number) not in contested]:
                self.forget(peer, broker)
            if not ways:
                del self._peers[peer]
