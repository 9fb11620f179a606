"""The brokers that this agent is connected to, one or several, and who is where.

What a broker retains, and whom it loses, is its own affair. So for each there is

    states   who says that it is there, at this broker: a record of presence holds where it was heard
    relays   which records it has, and which have to be given to it
    heard    whom a message came from by it, and when

and what the agent makes of them together:

    a peer is *online* while it is so at one broker that we are connected to: a will at one of them, or the loss of our
    own connection, says nothing of those who can be met at another
    a record that is news, whoever brought it, is given to every other broker, after a short while in which somebody
    else may have done so: so records spread by themselves, and a partition that heals leaves nobody without
    a message goes by the *route* of its receiver: the nearest of the brokers at which it is online (`gateway.py`), and
    of these the quickest

Nothing of it limits how far a record comes, since a record that a broker has is given to it by nobody; loops do not
exist for things that are held once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.effects import Effect, Relay
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.overlay.relays import Relays
from grapevine_agent.core.overlay.ways import NO_WAY, Ways
from grapevine_proto.codec import Received
from grapevine_proto.messages import PeerState
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import PeerTopic, Topic

FROM_A_PEER = -1  # in the place of a broker: what a peer has carried here
STEADY = 2.0  # times slower, or quicker, than it was: then it is told anew
HEARD_S = 60.0  # what is said at several brokers comes by each of them within so long
MOST_HEARD = 10_000  # peers of whom is remembered when they were heard by a broker


@dataclass(kw_only=True)
class Broker:
    """What is known of one broker. See the module's docstring."""

    number: int
    relays: Relays
    url: str = ""  # as the owner's scope names it
    states: RecordBook = field(default_factory=RecordBook)
    abilities: BrokerAbilities = field(default_factory=BrokerAbilities)
    is_connected: bool = False
    delay_s: float = math.inf  # what an acknowledgement takes, of late; inf: not measured
    online: dict[str, int] = field(default_factory=dict)  # → how many hops away: 0 but for whom a gateway made known
    heard: dict[str, float] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)  # suspects that were probed by it in vain, and not heard since


@dataclass(kw_only=True)
class Brokers:
    """See the module's docstring. Times are monotonic seconds; brokers are numbers, as the shell gives them."""

    rng: np.random.Generator
    ways: Ways = field(default_factory=Ways)  # what a gateway has found out about them
    _brokers: dict[int, Broker] = field(default_factory=dict)
    _trusted: frozenset[str] = frozenset()
    _own: str = ""

    def at(self, number: int) -> Broker:
        """One of them."""
        if number not in self._brokers:
            self._brokers[number] = Broker(number=number, relays=Relays(rng=self.rng), states=self._new_book())
        return self._brokers[number]

    def trust(self, authors: frozenset[str], own: str) -> None:
        """Whose presence is never turned away."""
        self._trusted, self._own = authors, own
        for each in self._brokers.values():
            each.states.own = own
            each.states.trust(authors)

    def _new_book(self) -> RecordBook:
        return RecordBook(trusted=self._trusted, own=self._own)

    def connected_ones(self) -> list[Broker]:
        """Those that have us."""
        return [each for each in list(self._brokers.values()) if each.is_connected]

    # --- what they do -------------------------------------------------------------------------------

    def connected(self, number: int, now_s: float, url: str = "") -> None:
        """One took us in: nothing is known of what it holds."""
        broker = self.at(number)
        broker.url = url
        broker.is_connected, broker.abilities = True, BrokerAbilities()
        broker.relays.connected(now_s)

    def lost(self, number: int, now_s: float) -> set[str]:
        """One was lost. Those who were met there and nowhere else; nobody where it was the last, which says nothing.

        Not every broker gives the states that it retains: who is heard by one is met there, too.
        """
        broker = self.at(number)
        broker.is_connected = False
        others = self.connected_ones()
        if not others:
            return set()
        heard = ({peer for peer, at_s in each.heard.items() if at_s >= now_s - HEARD_S} for each in others)
        gone = set(broker.online).difference(*(each.online for each in others), *heard)
        broker.states = self._new_book()  # what it retains comes again, and is news then
        broker.online.clear()
        broker.heard.clear()
        broker.unanswered.clear()
        return gone

    def forget(self, number: int) -> None:
        """One that was lost does not come again."""
        self._brokers.pop(number, None)

    def found(self, number: int, abilities: BrokerAbilities) -> BrokerAbilities:
        """What one does with what it retains; what can be counted on with all that we are connected to."""
        broker = self.at(number)
        broker.abilities, broker.relays.is_of_use = abilities, abilities.wildcard
        all_of_them = [broker.abilities for broker in self.connected_ones()] or [abilities]
        return BrokerAbilities(
            wildcard=all(each.wildcard for each in all_of_them),
            exact=all(each.exact for each in all_of_them),
            may_lack=any(each.may_lack for each in all_of_them),
            max_packet_bytes=min(each.max_packet_bytes for each in all_of_them),
            shared=all(each.shared for each in all_of_them),
        )

    # --- who is where -------------------------------------------------------------------------------

    def hear_state(self, number: int, received: Received, wall_ms: int) -> PeerState | None:
        """A peer is there, or is not, at one of them: what that makes of it at all. None: that is known.

        Raises `WireError` as `RecordBook.accept` does.
        """
        broker, peer, state = self.at(number), received.message.sender, received.message.body
        assert isinstance(state, PeerState)
        held = broker.states.get(received.topic)
        if held is not None and held.message == received.message:
            return self._hear_again(broker, received, state)
        if not broker.states.accept(received, wall_ms):
            return None
        self.ways.forget(peer, number)
        broker.unanswered.discard(peer)
        if state.online and received.hops < NO_WAY:
            broker.online[peer] = received.hops
        else:
            broker.online.pop(peer, None)
        for gone in broker.states.take_pushed_out():
            broker.online.pop(gone.message.sender, None)
        return self._in_all(broker, received, state)

    def _hear_again(self, broker: Broker, received: Received, state: PeerState) -> PeerState | None:
        """The same state, said again: by a gateway that was quicker than the peer itself, or has lost it, or has it."""
        peer, hops = received.message.sender, received.hops
        before = broker.online.get(peer)
        if not state.online or (before is None and hops >= NO_WAY) or before == hops:
            return None
        if before is None:
            broker.online[peer] = hops
            return self._in_all(broker, received, state)
        if hops < NO_WAY:
            broker.online[peer] = min(before, hops)
            self.ways.said_otherwise(peer, broker.number)
        elif before > 0:  # who is there itself is lost by nobody
            del broker.online[peer]
            return self._in_all(broker, received, state)
        return None

    def _in_all(self, broker: Broker, received: Received, state: PeerState) -> PeerState | None:
        """What a peer's state at one of them makes of it, after all that the others say."""
        peer, session = received.message.sender, received.message.session
        if state.online and received.hops >= NO_WAY:
            state = PeerState(online=False)  # as a will: whoever can still reach it may ask
        elsewhere = any(each is not broker and self._session_at(each, peer) >= session for each in self._where(peer))
        return state if state.online or not elsewhere else PeerState(online=True)

    def said(self, number: int, topic: Topic) -> Received | None:
        """The newest state on a topic at one of them, unless somebody has lost its peer: then the same is news."""
        held = self.at(number).states.get(topic)
        if held is None or not isinstance(held.message.body, PeerState):
            return held
        is_lost = held.message.body.online and held.message.sender not in self.at(number).online
        return None if is_lost else held

    def _where(self, peer: str) -> list[Broker]:
        """Where a peer is, in its newest session: what a broker holds of an older one is left over."""
        there = [each for each in self.connected_ones() if peer in each.online]
        newest = max((self._session_at(each, peer) for each in there), default=0)
        return [each for each in there if self._session_at(each, peer) == newest]

    @staticmethod
    def _session_at(broker: Broker, peer: str) -> int:
        state = broker.states.get(PeerTopic(peer, "state"))
        return state.message.session if state is not None else 0

    def hear(self, number: int, peer: str, now_s: float) -> None:
        """A message of a peer came by one of them."""
        heard = self.at(number).heard
        self.at(number).unanswered.discard(peer)
        heard.pop(peer, None)
        heard[peer] = now_s
        if len(heard) > MOST_HEARD:
            del heard[next(iter(heard))]

    def route(self, peer: str) -> int | None:
        """By which of them a message to a peer goes; None: nobody knows, so by the first."""
        there = self._where(peer)
        if there:
            there = [each for each in there if peer not in each.unanswered] or there
            lately_s = max(each.heard.get(peer, -math.inf) for each in there) - HEARD_S
            there = [each for each in there if each.heard.get(peer, -math.inf) >= lately_s] or there
            return min(there, key=lambda each: (self.hops(each, peer), each.delay_s, each.number)).number
        heard = [each for each in self.connected_ones() if peer in each.heard]
        return max(heard, key=lambda each: each.heard[peer]).number if heard else None

    def hops(self, broker: Broker, peer: str) -> int:
        """How far a peer is by one of them; `NO_WAY`: it is not there."""
        return self.ways.hops(peer, broker.number, broker.online[peer]) if peer in broker.online else NO_WAY

    def is_far(self, peer: str) -> bool:
        """Whether a peer is nowhere where we are: what we send to it is carried by gateways."""
        there = self._where(peer)
        return bool(there) and all(self.hops(each, peer) > 0 for each in there)

    @property
    def packet_bytes(self) -> int:
        """The largest packet that all of them take."""
        return min((each.abilities.max_packet_bytes for each in self.connected_ones()), default=0)

    def meets(self, peer: str) -> bool:
        """Whether one of them says that a peer is there, itself."""
        return any(each.online.get(peer) == 0 for each in self.connected_ones())

    @property
    def all_share(self) -> bool:
        """Whether all that we are connected to have shared subscriptions."""
        connected = self.connected_ones()
        return bool(connected) and all(each.abilities.shared for each in connected)

    def shared_by(self, peers: Iterable[str], num_bytes: float) -> int | None:
        """One that has shared subscriptions, takes so large a message, and has all of these peers itself."""
        peers = list(peers)
        for each in self.connected_ones():
            may_carry = each.abilities.shared and each.abilities.max_packet_bytes >= num_bytes
            if may_carry and all(each.online.get(peer) == 0 for peer in peers):
                return each.number
        return None

    def no_answer(self, peer: str) -> None:
        """A suspect has not answered by the way that messages to it take: the next take another, if there is one."""
        number = self.route(peer)
        if number is not None and len(self._where(peer)) > 1:
            self.at(number).unanswered.add(peer)

    def met_at(self, peer: str) -> frozenset[str]:
        """The URLs of those that a peer is at itself; where nobody says so, of those by which it was heard."""
        there = self._where(peer)
        if there:
            return frozenset(each.url for each in there if not each.online[peer])
        return frozenset(each.url for each in self.connected_ones() if peer in each.heard)

    def num_online(self, number: int) -> int:
        """How many peers say that they are there, at one of them."""
        return len(self.at(number).online)

    def measured(self, number: int, delay_s: float) -> None:
        """What an acknowledgement by one of them takes, of late. Small changes turn no route."""
        broker = self.at(number)
        if not broker.delay_s / STEADY < delay_s < broker.delay_s * STEADY:
            broker.delay_s = delay_s

    def held(self, number: int, topic: Topic) -> Received | None:
        """The newest state on a topic at one of them."""
        return self.at(number).states.get(topic)

    # --- records ------------------------------------------------------------------------------------

    def has(self, number: int, topic: Topic) -> None:
        """One has this record: it came from there; of what a peer gave it is taken that those have it who did not."""
        if number == FROM_A_PEER:
            for each in self.connected_ones():
                if not each.abilities.gives_all:
                    each.relays.heard(topic)
        else:
            self.at(number).relays.heard(topic)

    def spread(self, number: int, now_s: float) -> None:
        """A record that is news came by one: the others may lack it."""
        for each in self.connected_ones():
            if each.number != number:
                each.relays.lacks_news(now_s)

    def erased(self, number: int, topic: Topic, now_s: float) -> None:
        """Somebody erased a record at one, or there was no room to give it."""
        self.at(number).relays.erased(topic, now_s)

    def due(self, held: Iterable[Received], now_s: float) -> list[Effect]:
        """What is to be given to which now, of the records that are held."""
        return [
            Relay(received=each, broker=broker.number)
            for broker in self.connected_ones()
            for each in broker.relays.due(held, now_s)
        ]

    def deadline_s(self) -> float:
        """When `due` has something to do next."""
        return min((each.relays.due_s for each in self.connected_ones()), default=math.inf)

    def forget_all_but(self, held: RecordBook) -> None:
        """What is remembered of records is of those that are held."""
        for each in self._brokers.values():
            if len(each.relays) > 2 * len(held) + 64:
                each.relays.forget_all_but({received.topic for received in held})
