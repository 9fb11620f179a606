"""Whose claims move the median that others' are held against."""

from __future__ import annotations

import numpy as np
from tests.swarm.digits import digits_manifest

from grapevine_agent.core.learning.intake import CLAIM_FACTOR, MAX_SENDERS, Claims
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState

NOW = Moment(10_000.0, 1_750_000_000_000)
FRIENDS = [f"f{k:019d}" for k in range(5)]


def claims_of() -> Claims:
    members = Members(1.0, np.random.default_rng(0))
    for peer in FRIENDS:
        members.hear_announcement(peer, PeerAnnouncement(tasks=("t",)))
        members.hear_state(peer, PeerState(online=True), 1, 0.0)
        members.hear_heartbeat(peer, Heartbeat(), 0.0)
    manifest = digits_manifest("p" * 20, created_at_ms=0)
    claims = Claims(task="t", manifest=manifest, started=Moment(0.0, 0), members=members)
    for peer in FRIENDS:
        assert claims.believed_age(peer, 100, NOW) == 100
    return claims


def test_new_names_do_not_move_the_median() -> None:
    claims = claims_of()
    for k in range(50):
        assert claims.believed_age(f"x{k:019d}", 10**9, NOW) <= CLAIM_FACTOR * 100
    assert claims.believed_age(FRIENDS[0], 10**9, NOW) <= CLAIM_FACTOR * 100


def test_new_names_do_not_push_out_what_members_said() -> None:
    claims = claims_of()
    for k in range(2 * MAX_SENDERS):
        claims.believed_age(f"x{k:019d}", 10**9, NOW)
    assert set(FRIENDS) <= claims.ages.keys()
    assert len(claims.ages) <= MAX_SENDERS
    assert claims.believed_age("y" * 20, 10**9, NOW) <= CLAIM_FACTOR * 100


def test_claims_of_those_who_left_count_no_more() -> None:
    claims = claims_of()
    assert claims.members is not None
    for peer in FRIENDS[2:]:
        claims.members.hear_state(peer, PeerState(online=False), 1, 1.0)
    # Of the two who stayed one has gone on for years; three who stand still do not hold it back.
    assert claims.believed_age(FRIENDS[0], 5_000, NOW) == 5_000


def test_claims_of_those_who_left_the_task_count_no_more() -> None:
    claims = claims_of()
    assert claims.members is not None
    for peer in FRIENDS[2:]:
        claims.members.hear_announcement(peer, PeerAnnouncement(tasks=("another",)))
    assert claims.believed_age(FRIENDS[0], 5_000, NOW) == 5_000


def test_the_map_of_experiences_is_of_those_who_are_there() -> None:
    claims = claims_of()
    assert claims.members is not None
    for peer in FRIENDS:
        claims.believed_experience(peer, 320, NOW)
    claims.members.hear_state(FRIENDS[4], PeerState(online=False), 1, 1.0)
    assert claims.present_experiences(NOW) == dict.fromkeys(FRIENDS[:4], 320)
    claims.members.hear_state(FRIENDS[4], PeerState(online=True), 2, 2.0)
    assert FRIENDS[4] in claims.present_experiences(NOW)
