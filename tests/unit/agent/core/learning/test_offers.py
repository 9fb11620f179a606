"""To whom an update is offered, and when again: members and brokers as a core has them, without a network."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from grapevine_agent.core.learning.offers import AVOIDED_S, LONGEST_S, MAX_MISSES, Offer, Offers, in_order
from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.overlay.brokers import Brokers
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.messages import PeerState

PEERS = ["server-a", "server-b", "server-c"]
ORDER = in_order("me", PEERS)
SHARED, DIRECT = Offer(group="barn", broker=0), [Offer(group="barn", server=peer) for peer in ORDER]


def made(*, shares: bool, update_bytes: float = 20_000.0) -> Offers:
    """Three servers of one group that can be reached, at one broker."""
    members = Members(1.0, np.random.default_rng(0))
    members.reach.brokers = brokers = Brokers(rng=np.random.default_rng(0))
    broker = brokers.at(0)
    broker.is_connected, broker.abilities = True, BrokerAbilities(shared=shares)
    servers = {}
    for peer in PEERS:
        members.hear_state(peer, PeerState(online=True), 7, 0.0)
        broker.online[peer] = 0
        servers[peer] = ServerLink(peer, state="reachable", group="barn", takes_shared=shares)
    return Offers(peer="me", servers=servers, members=members, update_bytes=update_bytes)


def offered(offers: Offers, version: int) -> tuple[Offer, float]:
    """The next offer of a version that nobody acknowledges, and when it comes."""
    at_s = 0.0 if offers.deadline_s() == math.inf else offers.deadline_s()
    (offer,) = offers.due(version, at_s)
    assert offers.due(version, at_s) == []
    return offer, at_s


def test_an_update_goes_to_one_server_after_the_other_until_one_has_it() -> None:
    offers = made(shares=False)
    found = [offered(offers, 1) for _ in range(8)]
    assert [offer for offer, _ in found] == [DIRECT[k % 3] for k in range(8)]
    pauses = [later - before for (_, before), (_, later) in itertools.pairwise(found)]
    assert pauses == pytest.approx([3.2, 6.4, 12.8, 25.6, 51.2, LONGEST_S, LONGEST_S])
    offers.receipt(ORDER[1], 1, 7)
    assert offers.due(1, 1e6) == []
    assert offers.holder("barn") == ORDER[1]
    assert offers.due(2, 1e6) == [DIRECT[0]]


def test_a_receipt_for_another_version_or_by_a_stranger_is_worth_nothing() -> None:
    offers = made(shares=False)
    assert offers.due(4, 0.0) == [DIRECT[0]]
    offers.receipt(ORDER[0], 3, 7)
    offers.receipt("stranger", 4, 7)
    assert offers.holder("barn") == ""


def test_what_the_holder_may_have_lost_is_offered_again() -> None:
    offers = made(shares=False)
    offers.due(1, 0.0)
    offers.receipt(ORDER[0], 1, 7)
    offers.members.hear_state(ORDER[0], PeerState(online=True), 8, 1.0)  # another session: it restarted
    assert offers.due(1, 1.0) == [DIRECT[0]]
    offers.receipt(ORDER[0], 1, 8)
    offers.servers[ORDER[0]].state = "suspect"
    assert offers.due(1, 2.0) == [DIRECT[1]]


def test_the_shared_way_comes_first_and_is_left_after_misses_in_a_row() -> None:
    offers, now_s = made(shares=True), 0.0
    for version in range(1, MAX_MISSES + 1):
        assert offers.due(version, now_s) == [SHARED]
        now_s = offers.deadline_s()
        assert offers.due(version, now_s) == [DIRECT[0]]
        offers.receipt(ORDER[0], version, 7)
    assert offers.due(MAX_MISSES + 1, now_s) == [DIRECT[0]]
    assert offers.due(MAX_MISSES + 2, now_s + AVOIDED_S) == [SHARED]


def test_one_receipt_by_the_shared_way_forgives_the_misses() -> None:
    offers, now_s = made(shares=True), 0.0
    for version in range(1, 3 * MAX_MISSES):
        assert offers.due(version, now_s) == [SHARED]
        if version % MAX_MISSES:
            now_s = offers.deadline_s()
            offers.due(version, now_s)
        offers.receipt(ORDER[2], version, 7)


def test_nothing_is_shared_while_a_server_is_frozen_or_does_not_share_or_a_packet_does_not_hold_it() -> None:
    frozen = made(shares=True)
    frozen.servers[ORDER[2]].state = "lost"  # and its broker still has it
    assert frozen.due(1, 0.0) == [DIRECT[0]]
    assert frozen.members.reach.brokers is not None
    del frozen.members.reach.brokers.at(0).online[ORDER[2]]
    assert frozen.due(2, 0.0) == [SHARED]
    other = made(shares=True)
    other.servers[ORDER[2]].takes_shared = False
    assert other.due(1, 0.0) == [DIRECT[0]]
    elsewhere = made(shares=True)
    assert elsewhere.members.reach.brokers is not None
    elsewhere.members.reach.brokers.at(0).online[ORDER[2]] = 1  # behind a gateway
    assert elsewhere.due(1, 0.0) == [DIRECT[0]]
    assert made(shares=True, update_bytes=600_000).due(1, 0.0) == [DIRECT[0]]


def test_nothing_is_offered_before_there_is_something_or_somebody() -> None:
    offers = made(shares=False)
    assert offers.due(0, 0.0) == []
    for link in offers.servers.values():
        link.state = "lost"
    assert offers.due(1, 0.0) == []
    assert offers.deadline_s() == math.inf
