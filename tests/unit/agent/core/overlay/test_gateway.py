"""Gateways: who is made known where, by whom, and what is carried which way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay import gateway as gateways
from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.gateway import LOOK_EVERY_S, Gateway
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.presence import Presence
from grapevine_agent.core.overlay.ways import MOST_HOPS
from grapevine_proto import topics
from grapevine_proto.codec import Received, open_envelope, seal, with_hops
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Body, Heartbeat, Message, PeerAnnouncement, PeerState
from grapevine_proto.records import RecordBook
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, PeerTopic

SETTLED_S = 10.0
KEYS = [SigningKey(bytes([number] * 32)) for number in range(1, 8)]
US, ADA, BOB, RIVAL, *OTHERS = [key.peer_id for key in KEYS]
KEY_OF = {key.peer_id: key for key in KEYS}
INBOX = [topics.inbox_of(ADA), topics.chunks_for(ADA)]


@dataclass
class World:
    """A gateway between brokers 0, 1, …, and what it has subscribed to and said."""

    num_brokers: int = 2
    now_s: float = 0.0
    subscribed: set[tuple[int, str]] = field(default_factory=set)
    said: list[fx.Forward] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(1)
        self.members, self.brokers, self.records = Members(5.0, rng), Brokers(rng=rng), RecordBook()
        for number in range(self.num_brokers):
            self.brokers.connected(number, 0.0)
        self.gateway = Gateway(peer=US, brokers=self.brokers, members=self.members, records=self.records, is_open=True)
        self._sequence = 0
        self.now_s = SETTLED_S

    def sealed(self, peer: str, body: Body, leaf: str, hops: int) -> Received:
        self._sequence += 1
        topic = PeerTopic(peer, leaf)  # type: ignore[arg-type]
        payload = seal(Message(sender=peer, session=1, sequence=self._sequence, body=body), topic, KEY_OF[peer])
        return open_envelope(bytes(with_hops(payload, hops)), topic, retained=True)

    def is_there(self, peer: str, *at: int, hops: int = 0, gateway: bool = False) -> None:
        """A member that is at these brokers."""
        announced = self.sealed(peer, PeerAnnouncement(name=peer, gateway=gateway), "announcement", hops)
        self.records.accept(announced, 0)
        self.members.hear_announcement(peer, announced.message.body)  # type: ignore[arg-type]
        for number in at:
            state = self.sealed(peer, PeerState(online=True, connection=number + 1), "state", hops)
            self.brokers.hear_state(number, state, 0)
        self.members.hear_state(peer, PeerState(online=True), 1, self.now_s)
        self.members.hear_heartbeat(peer, Heartbeat(), self.now_s, session=1)

    def goes(self, peer: str, at: int) -> None:
        self.brokers.hear_state(at, self.sealed(peer, PeerState(online=False, connection=at + 1), "state", 0), 0)

    def look(self) -> list[fx.Forward]:
        """Time passes; what was said again."""
        self.now_s += LOOK_EVERY_S
        said = []
        for effect in self.gateway.tick(self.now_s):
            match effect:
                case fx.SubscribeAt(broker=broker, filter=name):
                    self.subscribed.add((broker, name))
                case fx.UnsubscribeAt(broker=broker, filter=name):
                    self.subscribed.remove((broker, name))
                case fx.Forward():
                    said.append(effect)
        self.said += said
        return said


def heartbeat_of(peer: str) -> str:
    return PeerTopic(peer, "heartbeat").below_root()


def test_a_member_of_one_broker_is_made_known_at_the_other() -> None:
    world = World()
    world.is_there(ADA, 0)
    said = world.look()
    assert {(each.broker, each.topic.below_root(), each.hops, each.retain) for each in said} == {
        (1, f"peer/{ADA}/announcement", 1, True),
        (1, f"peer/{ADA}/state", 1, True),
    }
    assert world.subscribed == {(1, INBOX[0]), (1, INBOX[1]), (0, heartbeat_of(ADA))}
    assert world.gateway.ways_of(InboxTopic(ADA, BOB), ADA, 1) == [0]
    assert world.gateway.ways_of(InboxTopic(ADA, BOB), ADA, 0) == []
    assert world.gateway.ways_of(PeerTopic(ADA, "heartbeat"), "", 0) == [1]
    assert world.gateway.ways_of(PeerTopic(ADA, "heartbeat"), "", 1) == []
    assert world.look() == []


def test_whoever_goes_is_said_to_be_gone_and_is_carried_no_more() -> None:
    world = World()
    world.is_there(ADA, 0)
    world.look()
    world.goes(ADA, 0)
    (gone,) = world.look()
    state = open_envelope(gone.payload, gone.topic)
    assert state.message.body == PeerState(online=False, connection=1)
    assert world.subscribed == set()
    assert world.gateway.status() == {}


def test_a_will_of_another_connection_is_brought_to_the_peer_which_contradicts_it() -> None:
    """Ada is at 0, and at a broker that we do not know, which another gateway joins with 1."""
    world = World()
    world.is_there(ADA, 0)
    world.look()
    topic = PeerTopic(ADA, "state")
    far = world.sealed(ADA, PeerState(online=True, connection=2), "state", 1)
    will = world.sealed(ADA, PeerState(online=False, connection=2), "state", 1)
    for state in (far, will):
        world.brokers.hear_state(1, state, 0)
    (brought,) = world.look()
    assert (brought.broker, brought.topic, brought.retain, brought.hops) == (0, topic, False, 2)
    assert open_envelope(brought.payload, topic).message == will.message
    assert world.look() == []
    presence = Presence(peer=ADA, heartbeat_s=5.0)
    presence.connected(1, Moment(monotonic_s=0.0, wall_ms=0))
    (says,) = presence.echoed(will.message.body, 1, hops=2)
    assert isinstance(says, fx.Publish)
    world.brokers.hear_state(0, world.sealed(ADA, says.body, "state", 0), 0)
    (again,) = world.look()
    assert (again.broker, again.retain) == (1, True)
    known = world.brokers.hear_state(1, open_envelope(bytes(with_hops(again.payload, 1)), topic), 0)
    assert known is not None
    assert known.online
    assert ADA in world.brokers.at(1).online


@pytest.mark.parametrize(
    "said",
    [
        PeerState(online=False, goodbye=True, connection=2),
        PeerState(online=False, goodbye=True, asleep_until_ms=99, connection=2),
        PeerState(online=True, connection=2),
    ],
    ids=["a goodbye", "asleep", "there"],
)
def test_what_is_no_will_is_brought_to_nobody(said: PeerState) -> None:
    world = World()
    world.is_there(ADA, 0)
    world.look()
    world.brokers.hear_state(1, world.sealed(ADA, said, "state", 1), 0)
    assert [each for each in world.look() if each.broker == 0] == []


def test_who_is_at_both_itself_needs_nobody() -> None:
    world = World()
    world.is_there(ADA, 0, 1)
    assert world.look() == []
    assert world.subscribed == set()


def test_strangers_and_ourselves_are_not_made_known() -> None:
    world = World()
    world.brokers.hear_state(0, world.sealed(BOB, PeerState(online=True), "state", 0), 0)
    world.brokers.hear_state(0, world.sealed(US, PeerState(online=True), "state", 0), 0)
    assert world.look() == []


def test_a_closed_gateway_does_nothing() -> None:
    world = World()
    world.gateway.is_open = False
    world.is_there(ADA, 0)
    assert world.look() == []


@pytest.mark.parametrize(("here", "there", "is_carried"), [(0, 1, True), (1, 1, False), (1, 2, True), (2, 1, False)])
def test_messages_go_only_from_the_farther_to_the_nearer_broker(here: int, there: int, is_carried: bool) -> None:
    world = World()
    world.is_there(ADA, 0, hops=here)
    world.is_there(ADA, 1, hops=there)
    world.look()
    assert bool(world.gateway.ways_of(InboxTopic(ADA, BOB), ADA, 1)) == is_carried


def test_so_far_and_no_farther() -> None:
    world = World()
    world.is_there(ADA, 0, hops=MOST_HOPS)
    assert world.look() == []
    world.is_there(BOB, 0, hops=MOST_HOPS - 1)
    assert {each.hops for each in world.look()} == {MOST_HOPS}


def test_who_comes_back_empty_is_filled_by_the_peers_themselves() -> None:
    world = World()
    world.brokers.connected(1, world.now_s)
    world.is_there(ADA, 0)
    assert world.look() == []
    world.now_s += 8.0
    assert len(world.look()) == 2


def test_a_peer_is_nearer_than_a_quicker_gateway_said() -> None:
    world = World()
    topic = PeerTopic(ADA, "state")
    payload = seal(Message(sender=ADA, session=1, sequence=1, body=PeerState(online=True)), topic, KEY_OF[ADA])
    for hops in (2, 0, 1):
        world.brokers.hear_state(0, open_envelope(bytes(with_hops(payload, hops)), topic), 0)
    assert world.brokers.at(0).online == {ADA: 0}


def test_of_three_brokers_the_nearest_is_the_way() -> None:
    world = World(num_brokers=3)
    world.is_there(ADA, 2)
    world.look()
    assert world.gateway.ways_of(InboxTopic(ADA, BOB), ADA, 0) == [2]
    assert world.gateway.ways_of(InboxTopic(ADA, BOB), ADA, 1) == [2]
    assert sorted(world.gateway.ways_of(PeerTopic(ADA, "heartbeat"), "", 2)) == [0, 1]


def test_of_two_gateways_exactly_one_has_each_duty() -> None:
    one, other = World(), World()
    other.gateway.peer = RIVAL
    one.is_there(RIVAL, 0, 1, gateway=True)
    other.is_there(US, 0, 1, gateway=True)
    for peer in (ADA, BOB, *OTHERS):
        one.is_there(peer, 0)
        other.is_there(peer, 0)
    one.look()
    other.look()
    ours, theirs = set(one.gateway._duties), set(other.gateway._duties)
    assert ours | theirs == {gateways._Duty(peer, 1) for peer in (ADA, BOB, *OTHERS)}
    assert not ours & theirs
    for number in (0, 1):
        one.goes(RIVAL, number)
    one.look()
    assert set(one.gateway._duties) == ours | theirs
    assert not one.gateway.num_refused


def test_a_gateway_that_is_not_there_itself_is_no_rival() -> None:
    world = World()
    world.is_there(RIVAL, 0, gateway=True)
    for peer in (ADA, BOB, *OTHERS):
        world.is_there(peer, 0)
    world.look()
    assert len(world.gateway._duties) == 3 + len(OTHERS)  # the rival too is made known


def test_so_many_peers_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "MOST_DUTIES", 2)
    world = World()
    for peer in (ADA, BOB, *OTHERS):
        world.is_there(peer, 0)
    world.look()
    assert len(world.gateway._duties) == 2
    assert world.gateway.num_refused == len(OTHERS)


def test_an_announcement_that_is_news_is_said_again() -> None:
    world = World()
    world.is_there(ADA, 0)
    world.look()
    news = world.sealed(ADA, PeerAnnouncement(name="Ada"), "announcement", 0)
    (said,) = world.gateway.took(news)
    assert isinstance(said, fx.Forward)
    assert (said.broker, said.hops, said.payload) == (1, 1, news.envelope)


def test_hops_stand_beside_what_is_signed_and_the_last_number_holds() -> None:
    topic = PeerTopic(ADA, "state")
    payload = seal(Message(sender=ADA, session=1, sequence=1, body=PeerState(online=True)), topic, KEY_OF[ADA])
    assert open_envelope(payload, topic).hops == 0
    again = bytes(with_hops(bytes(with_hops(payload, 1)), 3))
    assert open_envelope(again, topic).hops == 3
    assert open_envelope(again, topic).message == open_envelope(payload, topic).message


def test_so_many_at_a_time_and_what_had_no_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "NEW_AT_A_TIME", 3)
    world = World()
    for peer in (ADA, BOB, *OTHERS):
        world.is_there(peer, 0)
    assert len(world.look()) == 2 * 3
    late = world.look()
    assert len(late) == 2 * (2 + len(OTHERS) - 3)
    world.gateway.not_said(1, late[0].topic)
    assert {each.topic for each in world.look()} == {late[0].topic, late[1].topic}


def test_hops_that_lie_end_at_the_door() -> None:
    topic = PeerTopic(ADA, "state")
    message = Message(
        sender=ADA, session=1, sequence=100, body=PeerState(online=True, connection=9), hop_limit=2**32 - 1
    )
    payload = seal(message, topic, KEY_OF[ADA])
    with pytest.raises(WireError, match="hops"):
        open_envelope(bytes(with_hops(payload, 2**32 - 1)), topic)
    world = World()
    world.is_there(ADA, 0)
    world.brokers.hear_state(0, open_envelope(bytes(with_hops(payload, 16)), topic), 0)
    assert all(each.hops <= 17 for each in world.look())


class Meddling(str):
    """A name: to compare it lets somebody else take on a duty, as a turn beside the event loop does."""

    gateway: Gateway
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        number = len(self.gateway._duties)
        self.gateway._duties[gateways._Duty(f"somebody {number}", 1)] = 0
        return str.__eq__(self, other)


def test_what_is_carried_is_looked_up_while_duties_are_taken_on_elsewhere() -> None:
    world = World()
    for peer in (ADA, BOB):
        world.is_there(peer, 0)
    world.look()
    name = Meddling(ADA)
    name.gateway = world.gateway
    assert world.gateway.ways_of(PeerTopic(name, "heartbeat"), "", 0) == [1]
    announced = world.records.get(PeerTopic(ADA, "announcement"))
    assert announced is not None
    announced = replace(announced, message=replace(announced.message, sender=name))
    (again,) = world.gateway.took(announced)
    assert isinstance(again, fx.Forward)
    assert again.broker == 1


def test_duties_are_counted_while_others_are_taken_on() -> None:
    class Number(int):
        def __str__(self) -> str:
            world.gateway._duties[gateways._Duty(f"somebody {len(world.gateway._duties)}", 1)] = 0
            return int.__repr__(self)

    world = World()
    world.gateway._duties = {gateways._Duty(peer, Number(1)): 0 for peer in (ADA, BOB)}
    assert world.gateway.status() == {"1": 2}
