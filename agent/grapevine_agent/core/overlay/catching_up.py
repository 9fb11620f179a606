"""Getting the records of tasks from peers, where a broker does not give what it retains.

    the broker gives nothing, or perhaps not all
      ──▶ our announcement counts up `lacks`   (whoever hears it may answer: see `record_giver`)
      ◀── digests: short names and sequences
      ──▶ a request for those that are news    (each of one peer at a time)
      ◀── batches: records, which are taken as if each had come on its own topic

An asking ends when nothing has come for a while. If nobody answered, or something that was asked for did not come, it
is repeated after a pause that doubles; where the broker only may have left some out, it is not. Where it gives nothing
at all, a partition that heals shows nowhere: so there each announcement says a digest of the records that its sender
holds, and whoever hears another digest than its own asks that peer, after a random while, seldom, and more seldom the
less it has brought. Announcements are repeated there, each some ten minutes after the last, or later where many are
heard.

A broker that gives all that it retains may have lost it: Mosquitto without persistence, at a restart. Where its access
rules let nobody put back another peer's records, only their author can. So there, whoever hears for half a minute of a
task that is trained, and has no record of it, asks the peer that trains it; of each such task ever more seldom.

Bounded: only what was asked for is taken, of the peer that was asked, and so many records of one peer in an asking.
What was taken once is not asked for again, whatever became of it.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.effects import Effect, Publish, TakeRecord
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_proto import messages as m
from grapevine_proto.errors import WireError
from grapevine_proto.short_names import short_name
from grapevine_proto.topics import InboxTopic, LastingTopic

WAIT_S = 8.0  # for the first digests: whoever answers waits for up to 3 s
QUIET_S = 5.0  # after whatever came last
FIRST_PAUSE_S = 20.0
LONGEST_PAUSE_S = 3_600.0
MOST_TAKEN = 2_000  # records of one peer in an asking
MOST_REMEMBERED = 20_000
QUERY_AFTER_S = 10.0  # at most, after a digest that is not ours
BETWEEN_QUERIES_S = 60.0
MISSING_AFTER_S = 30.0  # a broker has sent by then what it retains
MOST_MISSING = 1_000
MOST_MISSING_OF_ONE = 2  # that a single peer may have us miss: one asking brings all that it holds
SAY_AFTER_S = (5.0, 15.0)  # that our records have changed
REPEAT_AFTER_S = 600.0
REPEAT_PER_PEER_S = 6.0  # so many peers' announcements: one in so many seconds, however many they are


@dataclass(kw_only=True)
class CatchingUp:
    """See the module's docstring. Times are monotonic seconds."""

    peer: str  # ourselves
    rng: np.random.Generator
    abilities: BrokerAbilities = field(default_factory=BrokerAbilities)
    lacks: int = 0  # as our announcement says it
    said: int = 0  # the digest of our records, as our announcement says it
    _ask_at_s: float = math.inf
    _pause_s: float = FIRST_PAUSE_S
    _open_until_s: float = -math.inf  # digests are welcome
    _is_open: bool = False
    _was_answered: bool = False
    _wanted: dict[bytes, str] = field(default_factory=dict)  # what was asked for → of whom
    _taken: Counter[str] = field(default_factory=Counter)  # records, of whom
    _had: OrderedDict[bytes, int] = field(default_factory=OrderedDict)  # what was taken → its sequence
    _query: tuple[str, int] | None = None  # a peer and its session
    _query_at_s: float = math.inf
    _next_query_s: float = -math.inf
    _query_pauses: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)  # until when, how long
    _missing: OrderedDict[str, tuple[float, float, str]] = field(
        default_factory=OrderedDict
    )  # task → ask when, pause, who
    _say_at_s: float = math.inf
    _repeat_at_s: float = math.inf
    _num_askings: int = 0

    # --- what the broker does -----------------------------------------------------------------------

    def connected(self) -> None:
        """A broker took us in. What it can is not known yet."""
        self.abilities = BrokerAbilities()
        self.lacks = self.said = 0  # the next asking has a number that no other had
        self._ask_at_s = self._query_at_s = self._say_at_s = self._repeat_at_s = math.inf
        self._pause_s, self._is_open, self._query = FIRST_PAUSE_S, False, None
        self._wanted.clear()
        self._query_pauses.clear()
        self._missing.clear()

    def found(self, abilities: BrokerAbilities, now_s: float) -> None:
        """It is known now, or known better."""
        before, self.abilities = self.abilities, abilities
        if abilities.gives_all:
            self._ask_at_s = self._say_at_s = self._repeat_at_s = math.inf
        elif before.gives_all:
            self._ask_at_s = now_s
            if not abilities.wildcard:
                self._say_at_s = now_s
                self._repeat_at_s = now_s + REPEAT_AFTER_S * float(self.rng.uniform(0.75, 1.25))

    def changed(self, now_s: float) -> None:
        """We hold another record, or a newer one."""
        if not self.abilities.wildcard:
            self._say_at_s = min(self._say_at_s, now_s + float(self.rng.uniform(*SAY_AFTER_S)))

    def hears_of(self, peer: str, session: int, digest: int, ours: int, now_s: float) -> None:
        """A peer says which records it holds."""
        if not self.abilities.wildcard and digest not in (0, ours):
            self._plan_query(peer, session, now_s)

    def hears_of_tasks(self, peer: str, session: int, unknown: Iterable[str], now_s: float) -> None:
        """A peer trains tasks of which we hold no record, though our broker gives what it retains."""
        if not self.abilities.wildcard:
            return  # digests say as much
        unknown = set(unknown)
        # What a peer invents takes the place of what it invented before, and never of what another one trains.
        for task in [task for task, (_, _, who) in self._missing.items() if who == peer and task not in unknown]:
            del self._missing[task]
        room = MOST_MISSING_OF_ONE - sum(who == peer for _, _, who in self._missing.values())
        new = sorted(unknown - self._missing.keys())[: max(0, room)]
        for task in new:
            self._missing[task] = now_s + MISSING_AFTER_S, BETWEEN_QUERIES_S, peer
            if len(self._missing) > MOST_MISSING:
                self._missing.popitem(last=False)
        for task in sorted(unknown & self._missing.keys()):
            ask_at_s, pause_s, who = self._missing[task]
            if now_s >= ask_at_s and self._plan_query(peer, session, now_s):
                self._missing[task] = now_s + pause_s, min(2 * pause_s, LONGEST_PAUSE_S), who

    def _plan_query(self, peer: str, session: int, now_s: float) -> bool:
        """Ask this peer soon, unless it was asked lately or another one is to be."""
        until_s, _ = self._query_pauses.get(peer, (-math.inf, 0.0))
        if self._query is not None or now_s < until_s:
            return False
        self._query = peer, session
        self._query_at_s = max(now_s + float(self.rng.uniform(0.0, QUERY_AFTER_S)), self._next_query_s)
        return True

    # --- answers ------------------------------------------------------------------------------------

    def take_digests(
        self, sender: str, session: int, digests: m.RecordDigests, held: Mapping[bytes, int], now_s: float
    ) -> list[Effect]:
        """Ask for what is news of it. Raises `WireError` where nobody had asked."""
        if not self._is_open or now_s > self._open_until_s:
            raise WireError("not-asked", f"digests of {sender}")
        self._was_answered = True
        self._open_until_s = now_s + QUIET_S
        news = [
            name
            for name, sequence in digests.sequences.items()
            if name not in self._wanted and sequence > max(held.get(name, -1), self._had.get(name, -1))
        ][: max(0, MOST_TAKEN - self._taken[sender])]
        if not news:
            return []
        self._taken[sender] += len(news)
        self._wanted.update(dict.fromkeys(news, sender))
        return [self._letter(sender, session, m.RecordRequest(names=tuple(news)))]

    def take_batch(self, sender: str, batch: m.RecordBatch, now_s: float) -> list[Effect]:
        """Take the records of it that this peer was asked for. Raises `WireError` if it was asked for none."""
        asked = [each for each in batch.records if self._wanted.get(short_name(each.topic)) == sender]
        if not asked:
            raise WireError("not-asked", f"records of {sender}")
        for each in asked:
            self._wanted.pop(short_name(each.topic), None)
        self._open_until_s = max(self._open_until_s, now_s + QUIET_S)
        if not self.abilities.wildcard:  # else we ask for what is invented, too, and whoever invents answers
            self._query_pauses.pop(sender, None)  # it was worth asking
        return [TakeRecord(topic=each.topic, envelope=each.envelope) for each in asked]

    def took(self, topic: LastingTopic, sequence: int) -> None:
        """A record was verified, and is held or will be refused: it need not come again."""
        if self.abilities.gives_all and not self._is_open:
            return
        name = short_name(topic)
        self._wanted.pop(name, None)
        self._had[name] = max(sequence, self._had.get(name, 0))
        self._had.move_to_end(name)
        if len(self._had) > MOST_REMEMBERED:
            self._had.popitem(last=False)

    # --- time ---------------------------------------------------------------------------------------

    def tick(self, ours: int, num_peers: int, now_s: float) -> tuple[list[Effect], bool]:
        """What is due; and whether our announcement is to be said again though nothing in it has changed."""
        if self._is_open and now_s >= self._open_until_s:
            self._close(now_s)
        if now_s >= self._ask_at_s:
            self._ask_at_s = math.inf
            self._num_askings += 1
            self.lacks = self._num_askings
            self._open(now_s + WAIT_S)
        if now_s >= self._say_at_s:
            self.said, self._say_at_s = ours, math.inf
        is_repeated = now_s >= self._repeat_at_s
        if is_repeated:
            pause_s = max(REPEAT_AFTER_S, REPEAT_PER_PEER_S * num_peers)
            self.said, self._repeat_at_s = ours, now_s + pause_s * float(self.rng.uniform(0.75, 1.25))
        return self._ask_one(now_s), is_repeated

    def deadline_s(self) -> float:
        """When `tick` has something to do next."""
        closes_s = self._open_until_s if self._is_open else math.inf
        return min(closes_s, self._ask_at_s, self._say_at_s, self._repeat_at_s, self._query_at_s)

    def _ask_one(self, now_s: float) -> list[Effect]:
        if self._query is None or now_s < self._query_at_s:
            return []
        (peer, session), self._query, self._query_at_s = self._query, None, math.inf
        self._next_query_s = now_s + BETWEEN_QUERIES_S
        _, length_s = self._query_pauses.pop(peer, (0.0, 0.0))
        length_s = min(max(BETWEEN_QUERIES_S, 2 * length_s), LONGEST_PAUSE_S)
        self._query_pauses[peer] = now_s + length_s, length_s
        if len(self._query_pauses) > MOST_REMEMBERED:
            self._query_pauses.popitem(last=False)
        self._open(now_s + WAIT_S)
        return [self._letter(peer, session, m.RecordRequest())]

    def _open(self, until_s: float) -> None:
        if not self._is_open:
            self._taken.clear()
            self._was_answered = False
        self._is_open, self._open_until_s = True, max(self._open_until_s, until_s)

    def _close(self, now_s: float) -> None:
        """The asking is over: whatever did not come is asked for again, of whoever answers then."""
        is_done = self._was_answered and not self._wanted
        self._is_open = False
        self._wanted.clear()
        if not is_done and not self.abilities.wildcard:
            self._ask_at_s = now_s + self._pause_s * float(self.rng.uniform(0.75, 1.25))
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        elif is_done:
            self._pause_s = FIRST_PAUSE_S

    def _letter(self, peer: str, session: int, body: m.Body) -> Effect:
        return Publish(topic=InboxTopic(peer, self.peer), body=body, receiver_session=session)
