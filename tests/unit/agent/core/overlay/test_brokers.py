"""Several brokers as one overlay: who is where, by which way a message goes, which records which broker lacks."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.effects import Relay
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.overlay.brokers import FROM_A_PEER, HEARD_S, MOST_HEARD, Broker, Brokers
from grapevine_agent.core.overlay.relays import Relays
from grapevine_proto.codec import Received, open_envelope, seal, with_hops
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Message, PeerState, Review
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import PeerTopic, TaskTopic, Topic

KEY = SigningKey(bytes([7] * 32))
PEER = KEY.peer_id
STATE = PeerTopic(PEER, "state")
TASK = "ab" * 32


def brokers(*connected: int) -> Brokers:
    found = Brokers(rng=np.random.default_rng(1))
    for number in connected:
        found.connected(number, 0.0)
    return found


def said(body: object, topic: Topic, sequence: int, session: int = 5) -> Received:
    message = Message(sender=PEER, session=session, sequence=sequence, body=body)  # type: ignore[arg-type]
    return open_envelope(seal(message, topic, KEY), topic, retained=True)


def state(online: bool, connection: int, sequence: int) -> Received:
    return said(PeerState(online=online, connection=connection), STATE, sequence)


def test_who_is_there_at_one_of_two_is_there() -> None:
    found = brokers(0, 1)
    found.hear_state(0, state(True, 1, 10), 0)
    found.hear_state(1, state(True, 2, 12), 0)
    will = found.hear_state(0, state(False, 1, 9), 0)
    assert will is not None
    assert will.online
    assert found.route(PEER) == 1
    last = found.hear_state(1, state(False, 2, 11), 0)
    assert last is not None
    assert not last.online
    assert found.route(PEER) is None


def test_a_new_connection_of_the_same_session_revokes_the_will_of_the_last() -> None:
    found = brokers(0)
    found.hear_state(0, state(True, 1, 10), 0)
    found.hear_state(0, state(False, 1, 9), 0)
    with pytest.raises(WireError, match="stale"):
        found.hear_state(0, state(True, 1, 20), 0)
    back = found.hear_state(0, state(True, 3, 30), 0)
    assert back is not None
    assert back.online
    with pytest.raises(WireError, match="stale"):
        found.hear_state(0, state(False, 1, 9), 0)


def test_what_brokers_that_are_bridged_bring_twice_is_ordered_by_the_connection() -> None:
    found = brokers(0)
    found.hear_state(0, state(True, 2, 12), 0)
    with pytest.raises(WireError, match="stale"):
        found.hear_state(0, state(False, 1, 9), 0)  # the other one's will
    assert found.hear_state(0, state(True, 2, 12), 0) is None
    assert found.route(PEER) == 0


def test_the_way_is_by_the_quickest_and_small_changes_turn_none() -> None:
    found = brokers(0, 1)
    for number in (0, 1):
        found.hear_state(number, state(True, number + 1, 10), 0)
    assert found.route(PEER) == 0
    found.measured(0, 0.1)
    found.measured(1, 0.02)
    assert found.route(PEER) == 1
    found.measured(0, 0.051)
    found.measured(1, 0.039)
    found.measured(0, 0.0501)
    assert found.route(PEER) == 1
    found.measured(0, 0.005)
    assert found.route(PEER) == 0


def test_who_was_only_heard_is_answered_where_it_was_heard_last() -> None:
    found = brokers(0, 1)
    found.hear(0, PEER, 1.0)
    found.hear(1, PEER, 2.0)
    assert found.route(PEER) == 1
    found.hear(0, PEER, 3.0)
    assert found.route(PEER) == 0
    for k in range(MOST_HEARD):
        found.hear(0, f"peer {k}", 4.0)
    assert found.route(PEER) == 1


def test_of_a_broker_that_is_lost_those_are_gone_who_are_nowhere_else() -> None:
    found = brokers(0, 1)
    found.hear_state(0, state(True, 1, 10), 0)
    assert found.num_online(0) == 1
    assert found.lost(0, 0.0) == {PEER}
    assert found.route(PEER) is None
    found.connected(0, 50.0)
    again = found.hear_state(0, state(True, 1, 10), 0)  # the very bytes: they are retained
    assert again is not None
    assert again.online


def test_who_is_heard_by_another_broker_is_there_whatever_that_one_retains() -> None:
    found = brokers(0, 1)
    found.hear_state(0, state(True, 1, 10), 0)
    found.hear(1, PEER, 30.0)
    assert found.lost(0, 30.0 + HEARD_S) == set()
    found.connected(0, 100.0)
    found.hear_state(0, state(True, 1, 10), 0)
    assert found.lost(0, 31.0 + HEARD_S) == {PEER}


def test_the_loss_of_the_only_broker_says_nothing_of_anybody() -> None:
    found = brokers(0)
    found.hear_state(0, state(True, 1, 10), 0)
    assert found.lost(0, 0.0) == set()
    assert found.num_online(0) == 1


def test_a_record_of_one_broker_is_given_to_the_others_unless_somebody_else_has() -> None:
    found = brokers(0, 1, 2)
    record = said(Review(task=TASK, approved=True, reason=""), TaskTopic(PEER, TASK, "review"), 3)
    assert found.due([], 8.0) == []
    found.has(0, record.topic)
    found.spread(0, 20.0)
    assert 20.2 <= found.deadline_s() <= 21.0
    found.has(2, record.topic)
    given = found.due([record], 21.0)
    assert given == [Relay(received=record, broker=1)]
    assert found.due([record], 30.0) == []


def test_who_is_still_sending_what_it_holds_is_given_nothing() -> None:
    found = brokers(0, 1)
    found.spread(0, 0.5)
    assert 3.0 <= found.deadline_s() <= 8.0


def test_what_can_be_counted_on_is_what_all_can() -> None:
    found = brokers(0, 1)
    assert found.found(0, BrokerAbilities(max_packet_bytes=900)).gives_all
    worst = found.found(1, BrokerAbilities(wildcard=False, exact=False, may_lack=True, max_packet_bytes=1_000))
    assert worst == BrokerAbilities(wildcard=False, exact=False, may_lack=True, max_packet_bytes=900)
    found.lost(1, 0.0)
    assert found.found(0, BrokerAbilities()).gives_all


# --- what is left over, and what lies -------------------------------------------------------------


def of_session(session: int, sequence: int, *, online: bool = True, hops: int = 0) -> Received:
    message = Message(sender=PEER, session=session, sequence=sequence, body=PeerState(online=online, connection=1))
    return open_envelope(bytes(with_hops(seal(message, STATE, KEY), hops)), STATE, retained=True)


def test_what_a_broker_holds_of_an_older_session_is_no_way() -> None:
    found = brokers(0, 1)
    found.measured(0, 0.001)
    found.hear_state(0, of_session(5, 10), 0)  # this broker crashed, and sent no will
    found.hear_state(1, of_session(6, 20), 0)
    assert found.route(PEER) == 1
    goodbye = found.hear_state(1, of_session(6, 21, online=False), 0)
    assert goodbye is not None
    assert not goodbye.online


def test_of_two_brokers_of_one_session_the_one_is_taken_by_which_something_comes() -> None:
    found = brokers(0, 1)
    found.measured(0, 0.001)
    for number in (0, 1):
        found.hear_state(number, of_session(5, 10), 0)
    found.hear(0, PEER, 1.0)
    found.hear(1, PEER, 200.0)
    assert found.route(PEER) == 1
    found.hear(0, PEER, 201.0)
    assert found.route(PEER) == 0


def test_what_a_peer_carried_here_is_spread_to_brokers_that_give_all() -> None:
    found = brokers(0, 1)
    found.found(0, BrokerAbilities(wildcard=True))
    found.found(1, BrokerAbilities(may_lack=True))
    record = said(Review(task=TASK, approved=True, reason=""), TaskTopic(PEER, TASK, "review"), 3)
    found.due([], 8.0)
    found.has(FROM_A_PEER, record.topic)
    found.spread(FROM_A_PEER, 20.0)
    assert found.due([record], 21.0) == [Relay(received=record, broker=0)]


def test_the_presence_of_whom_the_owner_trusts_has_room_at_each_broker() -> None:
    found = brokers(0)
    found.trust(frozenset((PEER,)), "us")
    found.connected(1, 0.0)
    assert [found.at(number).states.trusted for number in (0, 1)] == [{PEER}, {PEER}]


def test_ways_are_looked_up_while_a_found_broker_comes() -> None:
    class Coming(Broker):
        @property
        def is_connected(self) -> bool:
            found.at(10 + len(found._brokers))  # as a turn beside the event loop does
            return True

        @is_connected.setter
        def is_connected(self, value: bool) -> None: ...

    found = brokers(0)
    found._brokers[1] = Coming(number=1, relays=Relays(rng=np.random.default_rng(1)))
    assert [each.number for each in found.connected_ones()] == [0, 1]
