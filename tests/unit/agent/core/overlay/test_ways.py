"""Ways to a peer: a wrong number of hops costs some seconds, a way that fails is taken back, and lost ones are said."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from tests.unit.agent.core.overlay.test_gateway import ADA, BOB, INBOX, KEY_OF, US, World
from tests.unit.agent.core.tasks.device import Device

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.ways import FIRST_PAUSE_S, LEAST_S, NO_WAY, PROVED_S, TRIES, Ways
from grapevine_proto.codec import Received, open_envelope, seal, with_hops
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Heartbeat, Message, PeerAnnouncement, PeerState, Probe
from grapevine_proto.topics import InboxTopic, PeerTopic

TASK = "7" * 64


class Asking(World):
    """A gateway whose peers answer probes: `reach` says by which brokers, with so many hops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reach: dict[tuple[str, int], int] = {}
        self.probes: list[tuple[str, int]] = []
        self.asked: list[fx.Publish] = []

    def is_there(self, peer: str, *at: int, hops: int = 0, gateway: bool = False) -> None:
        super().is_there(peer, *at, hops=hops, gateway=gateway)
        self.members.hear_heartbeat(peer, Heartbeat(incarnation=1), self.now_s, session=1)

    def look(self) -> list[fx.Forward]:
        tick = self.gateway.tick

        def noting(now_s: float) -> list[fx.Effect]:
            effects = tick(now_s)
            for each in effects:
                if isinstance(each, fx.Publish):
                    self.asked.append(each)
            return effects

        self.gateway.tick = noting  # type: ignore[method-assign]
        said = super().look()
        self.gateway.tick = tick  # type: ignore[method-assign]
        for asked in self.asked:
            self._answer(asked)
        self.asked.clear()
        for each in said:  # a broker sends us what we say there
            if isinstance(each.topic, PeerTopic) and each.topic.leaf == "state":
                again = open_envelope(bytes(with_hops(each.payload, each.hops)), each.topic)
                with suppress(WireError):  # what the peer says there itself is newer
                    self.brokers.hear_state(each.broker, again, 0)
        return said

    def _answer(self, probe: fx.Publish) -> None:
        assert isinstance(probe.topic, InboxTopic)
        assert isinstance(probe.body, Probe)
        assert probe.by is not None
        peer = probe.topic.receiver
        self.probes.append((peer, probe.by))
        hops = self.reach.get((peer, probe.by))
        if hops is None and (probe.by, INBOX[0]) in self.subscribed and peer == ADA:
            hops = 1  # we carry it ourselves
        if hops is not None:
            self.brokers.ways.answered(peer, probe.body.nonce, hops, self.now_s)

    def passes(self, for_s: float) -> None:
        until_s = self.now_s + for_s
        while self.now_s < until_s:
            self.look()

    def lies(self, peer: str, at: int, hops: int = 0) -> None:
        """Somebody says a peer's state of broker 0 again."""
        state = self.brokers.held(0, PeerTopic(peer, "state"))
        assert state is not None
        self.brokers.hear_state(at, open_envelope(bytes(with_hops(state.envelope, hops)), state.topic), 0)

    @property
    def is_carried(self) -> bool:
        return (1, INBOX[0]) in self.subscribed


def at_first() -> Asking:
    world = Asking()
    world.reach[ADA, 0] = 0
    world.is_there(ADA, 0)
    world.look()
    assert world.is_carried
    assert world.probes == []
    return world


def test_a_state_that_is_repeated_with_fewer_hops_costs_some_seconds() -> None:
    world = at_first()
    world.lies(ADA, 1)
    world.look()
    assert not world.is_carried  # as it is said
    world.passes(10.0)
    assert world.is_carried
    assert world.probes.count((ADA, 1)) >= TRIES
    world.lies(ADA, 1)
    world.passes(2 * FIRST_PAUSE_S)
    assert world.is_carried  # we were asked through ourselves meanwhile, and the answer said so
    assert world.brokers.hops(world.brokers.at(1), ADA) == 1


def test_the_same_lie_again_costs_nothing() -> None:
    world = at_first()
    world.lies(ADA, 1)
    world.passes(2 * FIRST_PAUSE_S)
    for _ in range(20):
        world.lies(ADA, 1)
        world.look()
        assert world.is_carried


def test_who_is_proved_to_be_there_itself_is_not_carried_and_is_asked_seldom() -> None:
    world = Asking()
    world.reach |= {(ADA, 0): 0, (ADA, 1): 0}
    world.is_there(ADA, 0, 1)
    world.passes(PROVED_S - 20.0)
    assert not world.is_carried
    assert sorted(world.probes) == [(ADA, 0), (ADA, 1)]
    world.passes(40.0)
    assert len(world.probes) == 4


def test_a_way_that_ends_unsaid_is_found_when_it_is_asked_again() -> None:
    world = Asking()
    world.reach |= {(ADA, 0): 0, (ADA, 1): 0}
    world.is_there(ADA, 0, 1)
    world.passes(5.0)
    del world.reach[ADA, 1]
    world.passes(PROVED_S + 20.0)
    assert world.is_carried


def test_who_is_silent_everywhere_is_believed_as_before() -> None:
    world = Asking()
    world.is_there(ADA, 0, 1)
    world.passes(60.0)
    assert not world.is_carried
    assert world.brokers.hops(world.brokers.at(0), ADA) == world.brokers.hops(world.brokers.at(1), ADA) == 0


def test_a_new_state_is_believed_until_it_is_asked_about() -> None:
    world = at_first()
    world.lies(ADA, 1)
    world.passes(10.0)
    world.reach[ADA, 1] = 0
    connected = world.sealed(ADA, PeerState(online=True, connection=7), "state", 0)
    world.brokers.hear_state(1, connected, 0)
    world.look()
    assert not world.is_carried
    world.passes(60.0)
    assert not world.is_carried


def test_who_answers_no_probes_and_who_is_met_once_are_not_asked() -> None:
    world = Asking()
    World.is_there(world, BOB, 0, 1)  # of before
    world.is_there(ADA, 0)
    world.passes(20.0)
    assert world.probes == []


def test_a_way_is_looked_at_again_soon_where_somebody_says_otherwise() -> None:
    ways, nonces = Ways(), iter(range(1, 100))
    contested = [(ADA, 0), (ADA, 1)]
    for peer, broker, nonce in ways.check(contested, 0.0, 1.0, nonces.__next__):
        ways.answered(peer, nonce, broker, 0.1)
    assert [ways.hops(ADA, broker, 0) for broker in (0, 1)] == [0, 1]
    assert ways.check(contested, LEAST_S - 1, 1.0, nonces.__next__) == []
    ways.said_otherwise(ADA, 1)
    assert ways.check(contested, LEAST_S - 1, 1.0, nonces.__next__) == []
    ((_, broker, nonce),) = ways.check(contested, LEAST_S, 1.0, nonces.__next__)
    assert broker == 1
    ways.answered(BOB, nonce, 0, LEAST_S)  # somebody else's word
    assert ways.hops(ADA, 1, 0) == 1
    ways.answered(ADA, nonce, 0, LEAST_S)
    assert ways.hops(ADA, 1, 3) == 0
    ways.answered(ADA, nonce, 3, LEAST_S)  # it was answered
    assert ways.hops(ADA, 1, 3) == 0
    ways.check([], LEAST_S, 1.0, nonces.__next__)
    assert ways.hops(ADA, 1, 3) == 3


# --- what a gateway has lost ----------------------------------------------------------------------


def test_a_gateway_that_loses_a_broker_says_whom_it_does_not_reach_any_more() -> None:
    world = at_first()
    lost = world.gateway.lost(0)
    (said,) = [each for each in lost if isinstance(each, fx.Forward)]
    assert (said.broker, said.topic, said.hops, said.retain) == (1, PeerTopic(ADA, "state"), NO_WAY, True)
    assert {each.filter for each in lost if isinstance(each, fx.UnsubscribeAt) and each.broker == 1} == set(INBOX)
    assert world.gateway.status() == {}
    assert world.gateway.lost(1) == []


def state(hops: int, connection: int = 1, peer: str = ADA) -> Received:
    topic = PeerTopic(peer, "state")
    body = PeerState(online=True, connection=connection)
    payload = seal(Message(sender=peer, session=1, sequence=connection, body=body), topic, KEY_OF[peer])
    return open_envelope(bytes(with_hops(payload, hops)), topic, retained=True)


def at(number: int) -> Brokers:
    brokers = Brokers(rng=np.random.default_rng(0))
    for each in range(number):
        brokers.connected(each, 0.0)
    return brokers


def test_whom_a_gateway_has_lost_is_away_until_somebody_has_it_again() -> None:
    brokers = at(1)
    assert brokers.hear_state(0, state(1), 0) == PeerState(online=True, connection=1)
    assert brokers.said(0, PeerTopic(ADA, "state")) is not None
    assert brokers.hear_state(0, state(NO_WAY), 0) == PeerState(online=False)
    assert brokers.route(ADA) is None
    assert brokers.said(0, PeerTopic(ADA, "state")) is None  # the same bytes again are news
    assert brokers.hear_state(0, state(NO_WAY), 0) is None
    assert brokers.hear_state(0, state(1), 0) == PeerState(online=True, connection=1)
    assert brokers.route(ADA) == 0


def test_who_comes_later_hears_that_there_is_no_way() -> None:
    brokers = at(1)
    assert brokers.hear_state(0, state(NO_WAY), 0) == PeerState(online=False)
    assert brokers.num_online(0) == 0


def test_nobody_loses_who_is_there_itself_or_elsewhere() -> None:
    brokers = at(2)
    brokers.hear_state(0, state(0), 0)
    assert brokers.hear_state(0, state(NO_WAY), 0) is None
    assert brokers.route(ADA) == 0
    brokers.hear_state(1, state(1), 0)
    assert brokers.hear_state(1, state(NO_WAY), 0) == PeerState(online=True)
    assert brokers.at(1).online == {}
    assert brokers.route(ADA) == 0


def test_who_hears_of_it_asks_the_peer_before_it_is_gone() -> None:
    device = Device()
    device.perform(device.core.connected(1, device.moment(), 0))
    members = device.core.members
    device.perform(device.core.receive(state(1), device.moment(), 0))
    members.hear_announcement(ADA, PeerAnnouncement(tasks=(TASK,)))
    members.hear_heartbeat(ADA, Heartbeat(incarnation=1), device.moment().monotonic_s, session=1)
    device.effects.clear()
    device.perform(device.core.receive(state(NO_WAY), device.moment(), 0))
    assert members.suspicion.suspects.keys() == {ADA}
    device.wait(0.5)
    assert any(isinstance(each, fx.Publish) and isinstance(each.body, Probe) for each in device.effects)
    device.wait(20.0)
    assert not members.is_alive(ADA, device.moment().monotonic_s)
    device.perform(device.core.receive(state(1), device.moment(), 0))
    assert members.is_alive(ADA, device.moment().monotonic_s)


# --- a way that fails ------------------------------------------------------------------------------


def test_a_suspect_is_asked_by_another_way_if_there_is_one() -> None:
    brokers = at(2)
    for number in (0, 1):
        brokers.hear_state(number, state(0, connection=number + 1), 0)
        brokers.hear(number, ADA, 1.0)
    brokers.hear(0, ADA, 100.0)
    assert brokers.route(ADA) == 0
    brokers.no_answer(ADA)
    assert brokers.route(ADA) == 1
    brokers.no_answer(ADA)
    assert brokers.route(ADA) == 0  # neither answers
    brokers.hear(1, ADA, 101.0)
    assert brokers.route(ADA) == 1
    brokers.hear(0, ADA, 102.0)
    assert brokers.route(ADA) == 0


def test_the_only_way_stays_the_way() -> None:
    brokers = at(2)
    brokers.hear_state(0, state(0), 0)
    brokers.no_answer(ADA)
    assert brokers.at(0).unanswered == set()
    assert brokers.route(ADA) == 0


# --- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_near", [1, 2, 3])
def test_gateways_of_different_pairs_carry_a_copy_for_each_broker_that_a_peer_is_at(num_near: int) -> None:
    """The measure that decision 64 names: brokers 0 of each world are different ones, broker 1 is the same."""
    copies = 0
    for _ in range(num_near):
        world = World()
        world.gateway.peer = US
        world.is_there(ADA, 0)
        world.look()
        copies += len(world.gateway.ways_of(InboxTopic(ADA, BOB), ADA, 1))
    assert copies == num_near
