"""Who is late, and whether it is dead: asked before it is believed (SWIM: Das, Gupta and Motivala, DSN 2002).

                    late, or its will
            ┌──────────────────────────────▶ suspect ──────────────┐
            │                                 │   ▲                │ all rounds over,
          alive ◀─────────────────────────────┘   │ a round over:  │ and no answer
            ▲     it was heard, or it has         │ the next one   ▼
            │     answered one of us              └─────────     silent, or offline where its will said so
            └──────────────────────────────────────────────────────┘
                              it was heard

*Late* is a member in the sample (see `members`) that was not heard for longer than heartbeats take here. This is
learned: 1.5 intervals where they come in time, up to 3.5 where many are lost, and longer by what the peer itself says
that it may be late. A suspect counts as alive.

*A round* is a probe to the suspect's inbox, and from the second round on a request to three other members to probe it
too: perhaps only what it says to us is lost. All of it is QoS 0. A round lasts as long as answers take (learned too),
at least an eighth of an interval, or a 32nd after a will. How many rounds there are follows from how many heartbeats
are lost here: so many that of a thousand living suspects one is not heard. Where nothing is lost that is two.

    a share p of messages lost ─▶ a probe fails with 1 − (1 − p)², a request with 1 − (1 − p)⁴

*Perhaps it is us.* While nothing came from anybody since the suspicion began, nobody is lost by it for 3.5 intervals:
our own line may be dead (Lifeguard: Dadgar, Phillips and Currey, 2018).

*The will* of a peer that was heard within an interval may come from a broker that took a broken connection for a dead
peer. Then what the peer sent before says nothing, but an answer to a probe does. A goodbye is no will, and is believed.

*What refutes a suspicion.* Anything fresh from the peer itself. Through somebody else only an answer to a request of
ours, of the suspect's session, with a higher *incarnation* than the suspected one: a suspect that hears of it counts
its incarnation up, so an answer that was recorded in an earlier suspicion does not fit. Who answers for another could
lie; so after `MOST_RELAYED` such answers the peer must be heard here.

*What it costs.* Only members are probed that say they answer (`incarnation`), with at most as many rounds in an
interval as the sample has places. Of others the old rule decides: 3.5 intervals of silence.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.overlay.allowance import Allowance
from grapevine_agent.core.overlay.learned_times import LearnedTime
from grapevine_agent.core.overlay.peer import Peer
from grapevine_agent.core.overlay.sample import SAMPLE_ALL_BELOW
from grapevine_proto.messages import Heartbeat

SILENT_HEARTBEATS = 3.5  # so late a member is suspect at the latest; one that answers no probes is silent
SOONEST_HEARTBEATS = 1.5  # nobody is suspect before
MOST_SUSPICION_HEARTBEATS = 3.5  # so long nobody is a suspect, however slow the answers are
MOST_QUIET_HEARTBEATS = 10.0  # of what a peer says that it may be late
FEWEST_GAP_HEARTBEATS = 0.8  # between two heartbeats of a peer that are counted: they are due after one
MOST_GAP_HEARTBEATS = 8.0  # a longer gap between two heartbeats says nothing of how many are lost
SHORTEST_ROUND, LONGEST_ROUND = 1 / 8, 1 / 2  # in heartbeat intervals
SHORTEST_WILL_ROUND = 1 / 32
LONGEST_ROUND_S = 60.0  # as RFC 6298, (2.5)
NUM_HELPERS = 3  # k in SWIM
MISTAKES = 1e-3  # living suspects that are not heard
FEWEST_ROUNDS, MOST_ROUNDS = 2, 24
MOST_LOST = 0.75  # where more heartbeats are lost than this, learning how many means little
MOST_RELAYED = 8  # answers in a row through others
MAX_SENT = 256  # nonces whose answers still teach how long answers take


@dataclass(frozen=True, kw_only=True)
class Round:
    """Probe this suspect now, and ask these helpers to do so."""

    peer: str
    nonce: int
    suspected: int  # in this incarnation
    helpers: tuple[str, ...]
    is_again: bool = False  # it has not answered in the round before


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Nobody has brought an answer."""

    peer: str
    by_will: bool


@dataclass(kw_only=True)
class Suspect:
    """A suspicion: of whom in which session and incarnation, and what was done about it."""

    session: int
    incarnation: int
    by_will: bool
    since_s: float
    due_s: float  # of the next round, or of the verdict
    num_rounds: int  # that it gets
    nonces: set[int] = field(default_factory=set)  # of its rounds so far
    helpers: set[str] = field(default_factory=set)  # that were asked


def rounds_for(lost: float) -> int:
    """How many rounds it takes until a living suspect is heard, all but surely, where so many messages are lost."""
    no_answer = 1 - (1 - lost) ** 2
    no_relay = (1 - (1 - lost) ** 4) ** NUM_HELPERS
    unheard, rounds = no_answer, 1
    while (unheard > MISTAKES or rounds < FEWEST_ROUNDS) and rounds < MOST_ROUNDS:
        unheard *= no_answer * no_relay
        rounds += 1
    return rounds


@dataclass(kw_only=True)
class Suspicion:
    """See the module's docstring. Times are monotonic seconds."""

    heartbeat_s: float
    rng: np.random.Generator
    peers: Mapping[str, Peer]
    suspects: dict[str, Suspect] = field(default_factory=dict)
    _look_at_s: float = -math.inf  # for members that are late
    _sent: OrderedDict[int, tuple[str, float]] = field(default_factory=OrderedDict)  # nonce → to whom, and when
    _anybody_s: float = -math.inf  # when anybody at all was heard
    _nonce: int = 0

    def __post_init__(self) -> None:
        trip_s = self.heartbeat_s / 32
        self.trips = LearnedTime(mean=trip_s, deviation=trip_s / 4)  # of a probe and its answer, in seconds
        # Between two heartbeats of a peer, in intervals: from 16 peers in an interval, and one says little.
        self.gaps = LearnedTime(mean=1.0, deviation=0.125, gain=1 / 32)
        self._rounds = Allowance(interval_s=self.heartbeat_s, first=SAMPLE_ALL_BELOW)

    # --- what is learned --------------------------------------------------------------------------

    def hear_beat(self, known: Peer, beat: Heartbeat, session: int, now_s: float, *, since_s: float | None) -> None:
        """A heartbeat came of a peer that is in the sample since then; None: it is not."""
        self.hear_incarnation(known, session, beat.incarnation)
        if session == known.session:
            known.quiet_s = beat.quiet_s
        was_listened_to = since_s is not None and known.last_beat_s >= since_s
        gap = (now_s - known.last_beat_s) / self.heartbeat_s
        if was_listened_to and gap < FEWEST_GAP_HEARTBEATS:
            return  # who beats more often than we do teaches no more than others
        if was_listened_to and not known.quiet_s:
            self.gaps.saw(min(gap, MOST_GAP_HEARTBEATS))
        known.last_beat_s = now_s

    @property
    def lost_share(self) -> float:
        """Of the heartbeats that were to come: with mean gap g it is 1 − 1/g."""
        return min(max(0.0, 1 - 1 / max(self.gaps.mean, 1.0)), MOST_LOST)

    @property
    def late_after_s(self) -> float:
        """How long a member that has not said otherwise may be unheard."""
        return min(max(self.gaps.limit, SOONEST_HEARTBEATS), SILENT_HEARTBEATS) * self.heartbeat_s

    def round_s(self, *, by_will: bool) -> float:
        """How long a round lasts. A will is nearly always right: then nobody waits longer than answers take."""
        shortest_s = (SHORTEST_WILL_ROUND if by_will else SHORTEST_ROUND) * self.heartbeat_s
        return max(shortest_s, min(self.trips.limit, LONGEST_ROUND * self.heartbeat_s, LONGEST_ROUND_S))

    def patience_s(self, known: Peer) -> float:
        """Who is unheard for longer is silent, whatever came of probes."""
        if not known.incarnation:
            return SILENT_HEARTBEATS * self.heartbeat_s
        return (SILENT_HEARTBEATS + MOST_SUSPICION_HEARTBEATS) * self.heartbeat_s + self._quiet_s(known)

    def _quiet_s(self, known: Peer) -> float:
        return min(known.quiet_s, MOST_QUIET_HEARTBEATS * self.heartbeat_s)

    # --- suspects ---------------------------------------------------------------------------------

    def suspect(self, known: Peer, now_s: float, *, by_will: bool = False) -> None:
        """This member may be dead."""
        self.suspects[known.id] = Suspect(
            session=known.session,
            incarnation=known.incarnation,
            by_will=by_will,
            since_s=now_s,
            due_s=now_s,
            num_rounds=rounds_for(self.lost_share),
        )

    def doubts_will(self, known: Peer, num_sampled: int, now_s: float) -> bool:
        """Whether its will may be a mistake, and there is room to ask it. Then it is a suspect."""
        if known.id in self.suspects and self.suspects[known.id].by_will:
            return True  # the same will again is no new suspicion
        was_heard = now_s - known.last_heard_s <= self.heartbeat_s
        has_room = self._rounds.room(now_s, num_sampled) > len(self.suspects)
        if not known.incarnation or not was_heard or not has_room:
            return False
        self.suspect(known, now_s, by_will=True)
        return True

    def heard(self, peer: str, now_s: float) -> None:
        """Something fresh came from it. After its will that may have been on its way since before."""
        self._anybody_s = now_s
        found = self.suspects.get(peer)
        if found is not None and not found.by_will:
            del self.suspects[peer]

    def clear(self, peer: str) -> None:
        """It is no suspect: it has a new beginning, has said goodbye, or is forgotten."""
        self.suspects.pop(peer, None)

    def hear_incarnation(self, known: Peer, session: int, incarnation: int) -> None:
        """A peer says which incarnation it is in. In its present session a higher one contradicts the suspicion."""
        found = self.suspects.get(known.id)
        if known.hear_incarnation(session, incarnation) and found is not None and incarnation > found.incarnation:
            del self.suspects[known.id]

    def answered(self, peer: str, nonce: int, now_s: float) -> None:
        """A peer has answered a probe."""
        asked, sent_s = self._sent.get(nonce, ("", 0.0))
        if asked == peer:
            del self._sent[nonce]
            self.trips.saw(min(now_s - sent_s, LONGEST_ROUND_S))
            self.peers[peer].hear_trip(now_s - sent_s)
        found = self.suspects.get(peer)
        if found is not None and nonce in found.nonces:
            del self.suspects[peer]

    def brought(self, known: Peer, helper: str, nonce: int, session: int, incarnation: int) -> bool:
        """Somebody says that a peer has answered it. Whether that counts: then the peer is no suspect any more."""
        found = self.suspects.get(known.id)
        if found is None or helper not in found.helpers or nonce not in found.nonces:
            return False
        is_new = session > found.session or (session == found.session and incarnation > found.incarnation)
        if not is_new or known.num_relayed >= MOST_RELAYED:
            return False
        known.num_relayed += 1
        del self.suspects[known.id]
        return True

    def ask(self, peer: str, now_s: float) -> int:
        """The number of a probe that is sent now. Its answer says how long answers take."""
        nonce = self.next_nonce()
        self._sent[nonce] = (peer, now_s)
        if len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)
        return nonce

    def next_nonce(self) -> int:
        """A number that was not used before."""
        self._nonce += 1
        return self._nonce

    # --- time -------------------------------------------------------------------------------------

    def look(self, sampled_since_s: Mapping[str, float], now_s: float) -> None:
        """Find those in the sample who are late, if it is time to."""
        if now_s < self._look_at_s:
            return
        after_s, next_s = self.late_after_s, math.inf
        for peer, since_s in sampled_since_s.items():
            known = self.peers.get(peer)
            if known is None or not known.incarnation or not known.is_counted or peer in self.suspects:
                continue
            late_s = max(known.last_heard_s, since_s) + after_s + self._quiet_s(known)
            if late_s <= now_s:
                self.suspect(known, now_s)
            else:
                next_s = min(next_s, late_s)
        # What is late may come to be so sooner, as it is learned.
        self._look_at_s = min(next_s, now_s + self.heartbeat_s / 2) if sampled_since_s else math.inf

    def look_again(self) -> None:
        """The sample is another one."""
        self._look_at_s = -math.inf

    def tick(self, num_sampled: int, now_s: float) -> list[Round | Lost]:
        """What is to be asked now, and who is lost."""
        found: list[Round | Lost] = []
        for peer in sorted(self.suspects, key=lambda peer: self.suspects[peer].due_s):
            suspect = self.suspects[peer]
            if suspect.due_s > now_s:
                break
            is_over = now_s - suspect.since_s >= MOST_SUSPICION_HEARTBEATS * self.heartbeat_s and suspect.nonces
            if not is_over and self._may_be_us(suspect, num_sampled):
                suspect.due_s = now_s + self.round_s(by_will=False)
            elif is_over or len(suspect.nonces) >= suspect.num_rounds:
                del self.suspects[peer]
                found.append(Lost(peer=peer, by_will=suspect.by_will))
            elif self._rounds.take(now_s, num_sampled):
                found.append(self._begin_round(peer, suspect, now_s))
            else:
                suspect.due_s = now_s + self.round_s(by_will=suspect.by_will)
        return found

    def deadline_s(self) -> float:
        """When there is something to do next."""
        return min(each.due_s for each in self.suspects.values()) if self.suspects else math.inf

    def next_look_s(self) -> float:
        """When somebody in the sample may be late."""
        return self._look_at_s

    def _may_be_us(self, suspect: Suspect, num_sampled: int) -> bool:
        """Whether all has been asked, and nothing came from anybody since: perhaps nothing reaches us."""
        is_asked = len(suspect.nonces) >= suspect.num_rounds
        return is_asked and not suspect.by_will and num_sampled > 1 and self._anybody_s < suspect.since_s

    def _begin_round(self, peer: str, suspect: Suspect, now_s: float) -> Round:
        is_again = bool(suspect.nonces)
        helpers = self._helpers() if is_again else ()
        nonce = self.ask(peer, now_s)
        suspect.nonces.add(nonce)
        suspect.helpers.update(helpers)
        is_last = len(suspect.nonces) >= suspect.num_rounds
        # An answer through somebody else takes two trips.
        suspect.due_s = now_s + self.round_s(by_will=suspect.by_will) * (2 if is_last else 1)
        return Round(peer=peer, nonce=nonce, suspected=suspect.incarnation, helpers=helpers, is_again=is_again)

    def _helpers(self) -> tuple[str, ...]:
        """Members that answer and are no suspects: any, as SWIM draws them."""
        others = [p.id for p in self.peers.values() if p.incarnation and p.is_counted and p.id not in self.suspects]
        return tuple(others[k] for k in self.rng.permutation(len(others))[:NUM_HELPERS])
