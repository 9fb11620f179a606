"""The owner's scope: with whom models are exchanged, by site, distance, time and broker."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.measuring import AGAIN_HEARTBEATS, MOST_AT_A_TIME, Measuring
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.peer import KEPT_TRIPS
from grapevine_agent.core.overlay.scope import Whereabouts, distance_km, why_out
from grapevine_agent.core.settings import Scope
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.codec import Received, open_envelope, seal, with_hops
from grapevine_proto.errors import WireError
from grapevine_proto.location import Location
from grapevine_proto.messages import Heartbeat, Message, PeerAnnouncement, PeerState, ProbeAnswer
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import PeerTopic

TASK = "7" * 64
BERLIN, POTSDAM = Location(latitude=5252, longitude=1340), Location(latitude=5240, longitude=1307)
HUB, BARN = "mqtt://hub:1883", "mqtt://barn:1883"
PLACES = st.builds(
    Location, latitude=st.integers(min_value=-9000, max_value=9000), longitude=st.integers(-18000, 18000)
)


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        (BERLIN, BERLIN, 0.0),
        (BERLIN, POTSDAM, 26.0),
        (Location(latitude=4885, longitude=235), Location(latitude=4071, longitude=-7401), 5837.0),  # Paris, New York
        (Location(latitude=0, longitude=17990), Location(latitude=0, longitude=-17990), 22.2),  # over the date line
        (Location(latitude=9000, longitude=0), Location(latitude=9000, longitude=9000), 0.0),  # one pole
        (Location(latitude=0, longitude=0), Location(latitude=0, longitude=18000), math.pi * 6371.0088),
    ],
)
def test_distances_are_those_of_great_circles(one: Location, other: Location, km: float) -> None:
    assert distance_km(one, other) == pytest.approx(km, rel=2e-3, abs=1e-6)


@given(PLACES, PLACES)
def test_a_distance_is_the_same_from_both_ends_and_at_most_half_way_round(one: Location, other: Location) -> None:
    away_km = distance_km(one, other)
    assert away_km == pytest.approx(distance_km(other, one), rel=1e-9, abs=1e-6)
    assert 0.0 <= away_km <= 20_016


@pytest.mark.parametrize(
    ("scope", "peer", "why"),
    [
        (Scope(), Whereabouts(), ""),
        (Scope(site="lake"), Whereabouts(site="lake"), ""),
        (Scope(site="lake"), Whereabouts(site="hill"), "is at another site, hill"),
        (Scope(site="lake"), Whereabouts(), "says no site"),
        (Scope(within_km=30), Whereabouts(location=POTSDAM), ""),
        (Scope(within_km=25), Whereabouts(location=POTSDAM), "is 26 km away"),
        (Scope(within_km=25), Whereabouts(), "does not say where it is"),
        (Scope(within_ms=40), Whereabouts(trip_s=0.04), ""),
        (Scope(within_ms=40), Whereabouts(trip_s=0.06), "answers after 60 ms"),
        (Scope(within_ms=40), Whereabouts(), ""),  # it is we who have not asked yet
        (Scope(brokers=frozenset((HUB,))), Whereabouts(brokers=(BARN, HUB)), ""),
        (Scope(brokers=frozenset((HUB,))), Whereabouts(brokers=(BARN,)), "is at none of the brokers"),
        (Scope(brokers=frozenset((HUB,))), Whereabouts(), "is at none of the brokers"),
        (Scope(site="lake", within_km=30), Whereabouts(site="lake", location=POTSDAM), ""),
        (Scope(site="lake", within_km=5), Whereabouts(site="lake", location=POTSDAM), "is 26 km away"),
        (Scope(site="lake", within_ms=4), Whereabouts(site="lake", trip_s=1.0), "answers after 1000 ms"),
    ],
)
def test_all_that_is_set_must_hold(scope: Scope, peer: Whereabouts, why: str) -> None:
    assert why_out(scope, BERLIN, peer) == why


def test_who_does_not_say_where_it_is_itself_has_nobody_within_a_distance() -> None:
    assert why_out(Scope(within_km=5), None, Whereabouts(location=BERLIN)) == "does not say where it is"


@pytest.mark.parametrize(("latitude", "longitude"), [(9001, 0), (-9001, 0), (0, 18001), (0, -18001), (20_000, 0)])
def test_a_place_that_is_nowhere_is_no_announcement(latitude: int, longitude: int) -> None:
    key = SigningKey(bytes([9] * 32))
    topic = PeerTopic(key.peer_id, "announcement")
    said = PeerAnnouncement(location=Location(latitude=latitude, longitude=longitude))
    payload = seal(Message(sender=key.peer_id, session=1, sequence=1, body=said), topic, key)
    with pytest.raises(WireError, match="out-of-range"):
        open_envelope(payload, topic)


def test_the_wire_holds_no_more_than_a_hundredth_of_a_degree() -> None:
    fields = pb.Location.DESCRIPTOR.fields
    assert {field.name: field.type for field in fields} == dict.fromkeys(
        ("latitude", "longitude"), pb.Location.DESCRIPTOR.fields[0].TYPE_SINT32
    )


# --- what is measured -----------------------------------------------------------------------------


def names(number: int) -> list[str]:
    return [f"{k:020}" for k in range(2, number + 2)]


def crowd(number: int, scope: Scope, *, incarnation: int = 1) -> Members:
    members = Members(1.0, np.random.default_rng(0), scope=scope)
    for peer in names(number):
        members.hear_state(peer, PeerState(online=True), 1, 0.0)
        members.hear_announcement(peer, PeerAnnouncement(tasks=(TASK,)))
        members.hear_heartbeat(peer, Heartbeat(incarnation=incarnation), 0.0, session=1)
    return members


def answers(members: Members, peer: str, sent_s: float, took_s: float) -> None:
    nonce = members.suspicion.ask(peer, sent_s)
    members.hear_answer(peer, ProbeAnswer(nonce=nonce, incarnation=1), sent_s + took_s, session=1)


def test_who_is_measured_to_be_far_is_out_and_comes_back_when_it_is_near() -> None:
    members = crowd(2, Scope(within_ms=40))
    near, far = names(2)
    assert members.of_task(TASK, 0.0) == [near, far]
    answers(members, near, 0.0, 0.03)
    answers(members, far, 0.0, 0.05)
    assert members.of_task(TASK, 0.1) == [near]
    assert members.reach.why_out(far) == "answers after 50 ms"
    answers(members, near, 0.2, 0.9)  # busy, and no farther away for that
    assert members.of_task(TASK, 1.2) == [near]
    answers(members, far, 1.2, 0.02)
    assert members.of_task(TASK, 1.3) == [near, far]


def test_who_has_moved_away_is_out_once_its_last_few_answers_say_so() -> None:
    members, (peer,) = crowd(1, Scope(within_ms=40)), names(1)
    answers(members, peer, 0.0, 0.01)
    for k in range(KEPT_TRIPS):
        assert members.reach.holds(peer)
        answers(members, peer, 1.0 + k, 0.2)
    assert not members.reach.holds(peer)
    members.hear_heartbeat(peer, Heartbeat(incarnation=1), 9.0, session=2)  # a new session: not measured
    assert members.reach.holds(peer)


def test_an_answer_to_nothing_that_was_asked_measures_nothing() -> None:
    members, (peer,) = crowd(1, Scope(within_ms=40)), names(1)
    members.suspicion.ask(peer, 0.0)
    members.hear_answer(peer, ProbeAnswer(nonce=99, incarnation=1), 0.01, session=1)
    assert members.peers[peer].trip_s is None


def test_a_few_are_measured_at_a_time_and_everybody_in_turn() -> None:
    members = crowd(20, Scope(within_ms=40))
    measuring, asked = Measuring(members=members), []
    for beat in range(3):
        asked.append(measuring.due(float(beat)))
        assert measuring.due(beat + 0.5) == []
    assert [len(each) for each in asked[:2]] == [MOST_AT_A_TIME] * 2
    assert set().union(*asked) == set(names(20))


def test_who_was_measured_a_few_times_is_asked_seldom() -> None:
    members, (peer,) = crowd(1, Scope(within_ms=40)), names(1)
    measuring, asked_s = Measuring(members=members), []
    for beat in range(40):
        if measuring.due(float(beat)):
            asked_s.append(beat)
            answers(members, peer, float(beat), 0.01)
    assert asked_s[:KEPT_TRIPS] == list(range(KEPT_TRIPS))
    assert set(np.diff(asked_s[KEPT_TRIPS - 1 :])) == {int(AGAIN_HEARTBEATS)}


def test_nobody_is_measured_where_no_scope_asks_for_it_or_who_answers_no_probes() -> None:
    assert Measuring(members=crowd(3, Scope(within_km=5))).due(0.0) == []
    assert Measuring(members=crowd(3, Scope(within_ms=5), incarnation=0)).due(0.0) == []


# --- brokers --------------------------------------------------------------------------------------


def state_of(key: SigningKey, connection: int, hops: int = 0) -> Received:
    topic = PeerTopic(key.peer_id, "state")
    body = PeerState(online=True, connection=connection)
    payload = seal(Message(sender=key.peer_id, session=1, sequence=connection, body=body), topic, key)
    return open_envelope(bytes(with_hops(payload, hops)), topic, retained=True)


def test_a_peer_is_met_where_it_is_itself() -> None:
    brokers = Brokers(rng=np.random.default_rng(0))
    brokers.connected(0, 0.0, HUB)
    brokers.connected(1, 0.0, BARN)
    key = SigningKey(bytes([3] * 32))
    assert brokers.met_at(key.peer_id) == frozenset()
    brokers.hear(0, key.peer_id, 0.0)
    assert brokers.met_at(key.peer_id) == {HUB}  # some brokers tell nothing of who is there
    brokers.hear_state(1, state_of(key, 1), 0)
    brokers.hear_state(0, state_of(key, 1, hops=1), 0)  # a gateway says so
    assert brokers.met_at(key.peer_id) == {BARN}
    members = crowd(0, Scope(brokers=frozenset((HUB,))))
    members.reach.brokers = brokers
    members.hear_announcement(key.peer_id, PeerAnnouncement())
    assert members.reach.why_out(key.peer_id) == "is at none of the brokers"
    members.name((key.peer_id,))
    assert members.reach.holds(key.peer_id)
