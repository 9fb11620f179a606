"""One core at several brokers: what one of them does is not done to the others."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.unit.agent.core.tasks.device import ADA, BEN, NOW_MS, SETTINGS, Device

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.overlay.members import LEAST_CARRIED_BYTES
from grapevine_lab.bench import floods
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Heartbeat, Message, PeerAnnouncement, PeerState, Review, TaskPublication
from grapevine_proto.topics import PeerTopic, TaskTopic

SESSION = 7
SETTLED_S = 10.0
TASK = "ab" * 32
AFTER = 2 * NOW_MS  # a sequence


def at_two() -> Device:
    device = Device()
    for broker in (0, 1):
        device.perform(device.core.connected(SESSION, device.moment(), broker))
    device.wait(SETTLED_S)
    device.effects.clear()
    return device


def verdict(sequence: int, reason: str = "", expires_at_ms: int = 0) -> Received:
    body = Review(task=TASK, approved=True, reason=reason)
    topic = TaskTopic(ADA, TASK, "review")
    message = Message(sender=ADA, session=1, sequence=sequence, body=body, expires_at_ms=expires_at_ms)
    return Received(message=message, topic=topic, envelope=f"{sequence} {reason}".encode(), retained=True)


def relayed(device: Device, to: int) -> list[int]:
    """The sequences of what was given to a broker, from now on."""
    device.effects.clear()
    device.wait(30.0)
    given = [each for each in device.effects if isinstance(each, fx.Relay) and each.broker == to]
    return [each.received.message.sequence for each in given]


def test_a_record_of_one_broker_is_given_to_the_other_once() -> None:
    device = at_two()
    device.perform(device.core.receive(verdict(5), device.moment(), 0))
    assert relayed(device, 1) == [5]
    assert relayed(device, 1) == relayed(device, 0) == []


@pytest.mark.parametrize("expires_at_ms", [0, NOW_MS - 1], ids=["stale", "stale and run out"])
def test_a_broker_with_an_older_record_is_given_the_newer_one(expires_at_ms: int) -> None:
    device = at_two()
    for broker in (0, 1):
        device.perform(device.core.receive(verdict(5), device.moment(), broker))
    assert relayed(device, 1) == []
    with pytest.raises(WireError, match="stale" if not expires_at_ms else "expired"):
        device.core.receive(verdict(4, expires_at_ms=expires_at_ms), device.moment(), 1)
    assert relayed(device, 1) == [5]


def test_of_two_records_with_one_sequence_nobody_insists_on_his() -> None:
    device = at_two()
    for broker in (0, 1):
        device.perform(device.core.receive(verdict(5, "one"), device.moment(), broker))
    with pytest.raises(WireError, match="stale"):
        device.core.receive(verdict(5, "other"), device.moment(), 1)
    assert relayed(device, 1) == []


def test_a_tombstone_is_given_to_a_broker_that_retains_a_later_manifest() -> None:
    device = at_two()
    task = device.publish()
    publisher = floods.manifest("e" * 20).publisher
    topic = TaskTopic(publisher, task, "manifest")
    tombstone = Received(
        message=Message(sender=publisher, session=1, sequence=AFTER, body=TaskPublication(retracted=True)),
        topic=topic,
        envelope=b"tombstone",
        retained=True,
    )
    later = Received(
        message=Message(sender=publisher, session=1, sequence=AFTER + 1, body=TaskPublication(manifest=b"x")),
        topic=topic,
        envelope=b"later",
        retained=True,
    )
    for broker in (0, 1):
        device.perform(device.core.receive(tombstone, device.moment(), broker))
    assert relayed(device, 1) == []
    with pytest.raises(WireError, match="retracted"):
        device.core.receive(later, device.moment(), 1)
    assert relayed(device, 1) == [AFTER]


def test_another_broker_does_not_make_an_asking_begin_anew_and_no_two_have_one_number() -> None:
    device = Device()
    asking = device.core.exchange.catching_up
    lacking = BrokerAbilities(wildcard=False, exact=False)
    device.perform(device.core.connected(SESSION, device.moment(), 0))
    device.perform(device.core.found(lacking, device.moment(), 0))
    assert asking.lacks == 1
    device.perform(device.core.connected(SESSION, device.moment(), 1))
    assert asking.lacks == 1
    assert asking._is_open
    device.perform(device.core.connected(SESSION + 1, device.moment(), 0))
    assert asking.lacks == 0
    device.perform(device.core.found(lacking, device.moment(), 0))
    assert asking.lacks == 2


def told_to_ada(device: Device) -> tuple[str, Learning]:
    """A task that is learned, whose model has gone to Ada."""
    task = device.publish()
    device.approve(task)
    device.settle()
    learner = device.core.tasks.learning[task]
    learner.sending.told.sent(learner.model, ADA, 1, device.now_s)
    return task, learner


def test_what_was_sent_is_remembered_when_another_broker_comes_and_forgotten_when_one_goes() -> None:
    device = at_two()
    _, learner = told_to_ada(device)
    told = learner.sending.told
    device.perform(device.core.connected(SESSION, device.moment(), 2))
    assert told.lacking(learner.model, [(ADA, 1)], device.now_s) == []
    device.perform(device.core.lost(device.moment(), 0))
    assert told.lacking(learner.model, [(ADA, 1)], device.now_s) == [ADA]


def test_what_a_peer_carried_here_is_given_to_brokers_that_give_all_they_retain() -> None:
    device = at_two()
    device.perform(device.core.found(BrokerAbilities(may_lack=True), device.moment(), 0))
    device.perform(device.core.receive(verdict(5), device.moment(), -1))
    assert relayed(device, 1) == [5]
    assert relayed(device, 0) == []


def heard(device: Device, broker: int, number: int) -> None:
    """A heartbeat of Ada's comes by a broker."""
    message = Message(sender=ADA, session=1, sequence=NOW_MS + number, body=Heartbeat(incarnation=1))
    received = Received(message=message, topic=PeerTopic(ADA, "heartbeat"), envelope=f"{number}".encode())
    device.perform(device.core.receive(received, device.moment(), broker))


def met_at_the_first(device: Device) -> None:
    """Ada says at broker 0 that she is there; broker 1 gives no states."""
    message = Message(sender=ADA, session=1, sequence=NOW_MS, body=PeerState(online=True, connection=1))
    state = Received(message=message, topic=PeerTopic(ADA, "state"), envelope=b"state", retained=True)
    device.perform(device.core.receive(state, device.moment(), 0))
    heard(device, 0, 1)


def test_who_is_heard_by_another_broker_is_there_when_one_is_lost() -> None:
    device = at_two()
    met_at_the_first(device)
    heard(device, 1, 2)
    device.perform(device.core.lost(device.moment(), 0))
    assert device.core.members.is_alive(ADA, device.now_s)
    assert device.core.brokers.route(ADA) == 1


def test_who_was_lost_with_its_broker_counts_again_as_soon_as_it_is_heard_by_another() -> None:
    device = at_two()
    met_at_the_first(device)
    device.perform(device.core.lost(device.moment(), 0))
    assert not device.core.members.is_alive(ADA, device.now_s)
    heard(device, 1, 2)
    assert device.core.members.is_alive(ADA, device.now_s)


def test_a_will_of_one_connection_outranks_another_until_the_peer_contradicts_it() -> None:
    """Ada is at two brokers that we do not know, and is made known here, by two gateways, with both connections."""
    device = Device()
    device.perform(device.core.connected(SESSION, device.moment(), 0))
    device.wait(SETTLED_S)
    states = [
        PeerState(online=True, connection=1),
        PeerState(online=True, connection=2),
        PeerState(online=False, connection=2),  # her will at one of them
        PeerState(online=True, connection=3),  # what she says at the other when she hears of it
    ]
    alive = []
    for number, body in enumerate(states):
        message = Message(sender=ADA, session=1, sequence=NOW_MS + number, body=body)
        state = Received(message=message, topic=PeerTopic(ADA, "state"), envelope=f"{number}".encode(), hops=1)
        device.perform(device.core.receive(state, device.moment(), 0))
        alive.append(device.core.brokers.num_online(0) == 1)
    assert alive == [True, True, False, True]
    older = replace(state, message=replace(message, body=states[0]), envelope=b"again")
    with pytest.raises(WireError, match="stale"):
        device.core.receive(older, device.moment(), 0)


def test_what_found_no_room_on_its_way_out_goes_again() -> None:
    device = at_two()
    task, learner = told_to_ada(device)
    told = learner.sending.told
    device.core.not_sent(task, BEN)
    assert told.lacking(learner.model, [(ADA, 1)], device.now_s) == []
    device.core.not_sent(task, ADA)
    assert told.lacking(learner.model, [(ADA, 1)], device.now_s) == [ADA]


def test_what_gateways_carry_to_a_peer_bounds_the_packets_to_it() -> None:
    device = at_two()
    met_at_the_first(device)
    gateway = "g" * 20
    for number, carries in enumerate((20_000, 100, 0)):
        announced = PeerAnnouncement(gateway=carries > 0, carries=carries)
        device.core.members.hear_announcement(gateway, announced)
        device.core.members.hear_state(gateway, PeerState(online=True), 1, device.now_s)
        device.core.members.hear_heartbeat(gateway, Heartbeat(), device.now_s, session=1)
        assert device.core.packet_bytes_to(ADA, device.moment()) == math.inf  # she is at a broker of ours
        most = (20_000, LEAST_CARRIED_BYTES, math.inf)[number]
        assert device.core.packet_bytes_to("", device.moment()) == most
    device.core.members.hear_announcement(gateway, PeerAnnouncement(gateway=True, carries=20_000))
    message = Message(sender=BEN, session=1, sequence=NOW_MS, body=PeerState(online=True, connection=1))
    far = Received(message=message, topic=PeerTopic(BEN, "state"), envelope=b"far", retained=True, hops=1)
    device.perform(device.core.receive(far, device.moment(), 0))
    assert device.core.packet_bytes_to(BEN, device.moment()) == 20_000
    device.core.members.hear_state(gateway, PeerState(online=False, goodbye=True), 1, device.now_s)
    assert device.core.packet_bytes_to(BEN, device.moment()) == math.inf


def test_a_gateway_says_what_all_its_brokers_take() -> None:
    device = Device(replace(SETTINGS, is_gateway=True))
    for broker, most in enumerate((50_000, 16_384)):
        device.perform(device.core.connected(SESSION, device.moment(), broker))
        device.perform(device.core.found(BrokerAbilities(max_packet_bytes=most), device.moment(), broker))
    said = [each.body for each in device.effects if isinstance(each, fx.Publish)]
    announced = [each.carries for each in said if isinstance(each, PeerAnnouncement)]
    assert announced[-1] == 16_384
