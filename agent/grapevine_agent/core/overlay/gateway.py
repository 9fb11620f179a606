"""A gateway makes peers of one broker known at another, and carries what is said to them: where its owner asks for it.

Records spread without anybody being asked (`brokers.py`). Presence and messages do not: who is met at one broker alone
cannot be reached from another. A gateway that is connected to both

    at the other broker  says its state and announcement again, as it signed them, one *hop* farther; takes in what is
                         said to it there, and gives it to the nearer broker
    at the nearer one    takes in its heartbeats and adverts, and says them again at the other

The number of hops stands in the envelope, beside what is signed, and each gateway that says something again counts it
up. It is 0 where a peer is itself. So everybody knows which of two brokers is the nearer one, messages go only from
the farther to the nearer, and in a ring of gateways nothing goes round; at `MOST_HOPS` a peer is made known no farther.

Several gateways between the same two brokers share the work: for each peer the one with the highest hash of both names
(rendezvous hashing: Thaler and Ravishankar 1998) of those who are at both themselves, and say that they are gateways.
When it goes, the next one has it.

A broker that comes back empty is filled by the peers themselves; a gateway that were quicker would hide that they are
near. So it waits, after each connection, and a peer that sees itself said by others where it is itself says it again.

That number is nobody's word, so where two brokers contradict each other the peer is asked (`ways.py`). A gateway that
loses a broker says so of everybody whom it reached there: their states once more, with so many hops (`NO_WAY`) that
nothing is carried so far. Who hears that asks the peer itself, as after a will.

A peer at two brokers that loses one has a will said there, which other gateways carry on to where it is met by us, too.
There it outranks what we say of the other connection, since a later one is the newer. Only the peer can contradict it,
and does not hear of it where it is. So a will that stands at the other broker, while the peer is met at the nearer one,
is brought there once, and not kept: it answers with a state of a still newer connection, or it has gone from both.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.effects import Effect, Forward, Publish, SubscribeAt, UnsubscribeAt
from grapevine_agent.core.overlay.brokers import Broker, Brokers
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.ways import MOST_HOPS, NO_WAY, Way
from grapevine_proto import topics
from grapevine_proto.codec import Received
from grapevine_proto.messages import PeerState, Probe
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic

MOST_DUTIES: Final = 2_000
LOOK_EVERY_S: Final = 0.5
NEW_AT_A_TIME: Final = 32  # peers that are made known in one look


@dataclass(frozen=True)
class _Duty:
    """To make a peer known at a broker."""

    peer: str
    at: int


@dataclass(kw_only=True)
class Gateway:
    """See the module's docstring. Times are monotonic seconds."""

    peer: str  # ourselves
    brokers: Brokers
    members: Members
    records: RecordBook
    is_open: bool = False  # the owner asks for it
    num_refused: int = 0  # peers that were not made known, because there are so many
    _duties: dict[_Duty, int] = field(default_factory=dict)  # → by which broker the peer is met
    _said: dict[_Duty, bytes] = field(default_factory=dict)  # → the state of it that was said last
    _brought: dict[_Duty, bytes] = field(default_factory=dict)  # → the will that the peer was brought last
    _look_at_s: float = 0.0

    # --- who is made known where --------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Effect]:
        """Take on what has become ours to do, and leave what is not any more."""
        if not self.is_open or now_s < self._look_at_s:
            return []
        self._look_at_s = now_s + LOOK_EVERY_S
        wanted = self._wanted(now_s)
        effects: list[Effect] = []
        for duty, nearer in list(self._duties.items()):
            if wanted.get(duty) != nearer:
                effects += self._leave(duty, nearer, is_others=duty in wanted)
        num_new = 0
        for duty, nearer in wanted.items():
            if duty in self._duties:
                effects += [*self._say_state(duty, nearer), *self._bring_will(duty, nearer)]
            elif len(self._duties) < MOST_DUTIES:
                num_new += 1
                effects += self._begin(duty, nearer) if num_new <= NEW_AT_A_TIME else []
            else:
                self.num_refused += 1
        return [*effects, *self._ask(now_s)]  # when what we do not carry any more has ended

    def deadline_s(self) -> float:
        """When `tick` has something to do next."""
        return self._look_at_s if self.is_open and len(self.brokers.connected_ones()) > 1 else math.inf

    def _wanted(self, now_s: float) -> dict[_Duty, int]:
        connected = self.brokers.connected_ones()
        rivals = self._rivals()
        wanted: dict[_Duty, int] = {}
        for far in connected:
            if now_s < far.relays.settled_s:
                continue  # it is still telling who is there itself
            for peer, (hops, near) in self._nearest([each for each in connected if each is not far]).items():
                is_farther = hops < MOST_HOPS and hops < self.brokers.hops(far, peer)
                between = frozenset((near, far.number))
                if is_farther and self._is_there(peer) and self._is_ours(peer, rivals.get(between, [])):
                    wanted[_Duty(peer, far.number)] = near
        return wanted

    def _nearest(self, among: list[Broker]) -> dict[str, tuple[int, int]]:
        """Each peer's hops at the nearest of some brokers, and which that is."""
        found: dict[str, tuple[int, int]] = {}
        for each in among:
            for peer in each.online:
                found[peer] = min(found.get(peer, (NO_WAY, 0)), (self.brokers.hops(each, peer), each.number))
        return found

    def _ask(self, now_s: float) -> list[Effect]:
        """Probe those of whom two brokers say what cannot both be known without asking."""
        suspicion = self.members.suspicion
        round_s = suspicion.round_s(by_will=False)
        return [
            Publish(
                topic=InboxTopic(peer, self.peer),
                body=Probe(nonce=nonce, suspected=0),
                qos=0,
                receiver_session=self.members.session_of(peer),
                by=broker,
            )
            for peer, broker, nonce in self.brokers.ways.check(self._contested(), now_s, round_s, suspicion.next_nonce)
        ]

    def _contested(self) -> list[Way]:
        """Who is said to be at several brokers, by others than us: where it is nearest, or anywhere if that failed."""
        where: dict[str, list[Broker]] = {}
        for broker in self.brokers.connected_ones():
            for peer in broker.online:
                where.setdefault(peer, []).append(broker)
        found: list[Way] = []
        for peer, brokers in where.items():
            if len(brokers) > 1 and self._is_there(peer) and self.members.peers[peer].incarnation:
                others = [each for each in brokers if not self._is_our_word(peer, each)]
                nearest = min((each.online[peer] for each in others), default=0)
                has_failed = self.brokers.ways.has_failed(peer)
                asked = [each for each in others if has_failed or each.online[peer] == nearest]
                found += [(peer, each.number) for each in asked] if len(others) > 1 else ()
        return found

    def _is_our_word(self, peer: str, broker: Broker) -> bool:
        """Whether a peer is as far by a broker as we say it there ourselves."""
        nearer = self._duties.get(_Duty(peer, broker.number))
        return nearer is not None and broker.online[peer] > self.brokers.hops(self.brokers.at(nearer), peer)

    def lost(self, broker: int) -> list[Effect]:
        """We are about to lose a broker: whom we made known elsewhere from there we do not reach now, and say so."""
        effects: list[Effect] = []
        for duty, nearer in list(self._duties.items()):
            state = self.brokers.held(nearer, PeerTopic(duty.peer, "state"))
            if nearer == broker and state is not None:
                effects += self._leave(duty, nearer, is_others=True)
                effects.append(
                    Forward(broker=duty.at, topic=state.topic, payload=state.envelope, hops=NO_WAY, retain=True)
                )
        return effects

    def _is_there(self, peer: str) -> bool:
        """Strangers are not made known: names cost nothing."""
        return peer != self.peer and self.members.is_member(peer)

    def _rivals(self) -> dict[frozenset[int], list[str]]:
        """The other gateways that are at two brokers themselves, by the two."""
        found: dict[frozenset[int], list[str]] = {}
        connected = self.brokers.connected_ones()
        for known in self.members.peers.values():
            if known.is_member and known.announcement.gateway:
                at = [each.number for each in connected if each.online.get(known.id) == 0]
                for k, one in enumerate(at):
                    for other in at[k + 1 :]:
                        found.setdefault(frozenset((one, other)), []).append(known.id)
        return found

    def _is_ours(self, peer: str, rivals: list[str]) -> bool:
        return all(_rank(peer, self.peer) >= _rank(peer, rival) for rival in rivals)

    def _begin(self, duty: _Duty, nearer: int) -> list[Effect]:
        self._duties[duty] = nearer
        inbox = (topics.inbox_of(duty.peer), topics.chunks_for(duty.peer))
        heartbeat = PeerTopic(duty.peer, "heartbeat").below_root()
        announced = self.records.get(PeerTopic(duty.peer, "announcement"))
        return [
            *(SubscribeAt(broker=duty.at, filter=each) for each in inbox),
            SubscribeAt(broker=nearer, filter=heartbeat, qos=0),
            *([self._again(announced, duty, nearer)] if announced is not None else ()),
            *self._say_state(duty, nearer),
        ]

    def _leave(self, duty: _Duty, nearer: int, *, is_others: bool) -> list[Effect]:
        del self._duties[duty]
        inbox = (topics.inbox_of(duty.peer), topics.chunks_for(duty.peer))
        effects: list[Effect] = [UnsubscribeAt(broker=duty.at, filter=each) for each in inbox]
        if all(other.peer != duty.peer or near != nearer for other, near in self._duties.items()):
            effects.append(UnsubscribeAt(broker=nearer, filter=PeerTopic(duty.peer, "heartbeat").below_root()))
        if not is_others and duty.peer not in self.brokers.at(nearer).online:
            effects += self._say_state(duty, nearer)  # that it is offline
        self._said.pop(duty, None)
        self._brought.pop(duty, None)
        return effects

    def _say_state(self, duty: _Duty, nearer: int) -> list[Effect]:
        state = self.brokers.held(nearer, PeerTopic(duty.peer, "state"))
        if state is None or self._said.get(duty) == state.envelope:
            return []
        self._said[duty] = state.envelope
        return [self._again(state, duty, nearer)]

    def _bring_will(self, duty: _Duty, nearer: int) -> list[Effect]:
        """To the nearer broker, where a will that the other one holds outranks what the peer says there."""
        topic = PeerTopic(duty.peer, "state")
        here, there = self.brokers.held(nearer, topic), self.brokers.held(duty.at, topic)
        if here is None or there is None or here.message.session != there.message.session:
            return []
        now, will = here.message.body, there.message.body
        assert isinstance(now, PeerState)
        assert isinstance(will, PeerState)
        is_will = not (will.online or will.goodbye)
        if not (is_will and now.online) or will.connection < now.connection:
            return []
        if self._brought.get(duty) == there.envelope:
            return []
        self._brought[duty] = there.envelope
        hops = 1 + min(there.hops, MOST_HOPS)
        return [Forward(broker=nearer, topic=topic, payload=there.envelope, hops=hops, retain=False)]

    def _again(self, received: Received, duty: _Duty, nearer: int) -> Effect:
        at = self.brokers.at(nearer)
        hops = 1 + (self.brokers.hops(at, duty.peer) if duty.peer in at.online else min(received.hops, MOST_HOPS))
        return Forward(broker=duty.at, topic=received.topic, payload=received.envelope, hops=hops, retain=True)

    # --- what is carried ----------------------------------------------------------------------------

    def not_said(self, broker: int, topic: Topic) -> None:
        """There was no room for what was to be said again at a broker: the peer is made known there anew."""
        duty = _Duty(topics.writer_of(topic), broker)
        self._duties.pop(duty, None)
        self._said.pop(duty, None)

    def took(self, received: Received) -> list[Effect]:
        """A record of a peer is news: its announcement and adverts are said where it is made known."""
        topic = received.topic
        is_carried = isinstance(topic, PeerTopic) or (isinstance(topic, TaskTopic) and topic.leaf == "server")
        if not self._duties or not is_carried:
            return []
        return [
            self._again(received, duty, nearer)
            for duty, nearer in list(self._duties.items())  # a turn beside the loop may change them
            if duty.peer == received.message.sender
        ]

    def ways_of(self, topic: Topic | None, receiver: str, broker: int) -> list[int]:
        """To which brokers something goes that came by one: a message to a peer, or a heartbeat of one.

        `receiver`: whom a message or a chunk is for; "" for what is said to everybody.
        """
        if receiver:
            nearer = self._duties.get(_Duty(receiver, broker))
            return [] if nearer is None else [nearer]
        if isinstance(topic, PeerTopic) and topic.leaf == "heartbeat":
            duties = list(self._duties.items())
            return [duty.at for duty, nearer in duties if duty.peer == topic.peer and nearer == broker]
        return []

    def status(self) -> dict[str, int]:
        """How many peers are made known, at each broker."""
        found: dict[str, int] = {}
        for duty in list(self._duties):
            found[str(duty.at)] = found.get(str(duty.at), 0) + 1
        return found


def _rank(peer: str, gateway: str) -> bytes:
    return hashlib.sha256(f"{peer} {gateway}".encode()).digest()
