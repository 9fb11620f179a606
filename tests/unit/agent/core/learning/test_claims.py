"""Whose claims move the median that others' are held against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import digits_manifest

from grapevine_agent.core.learning.intake import CLAIM_FACTOR, MAX_SENDERS, Claims
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.tasks.newcomers import may_have_crowds_model
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState

NOW = Moment(10_000.0, 1_750_000_000_000)
DAY_MS = 86_400_000
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


@pytest.mark.parametrize("ahead_ms", [730 * DAY_MS, NOW.wall_ms])
def test_a_task_dated_ahead_of_our_clock_does_not_make_honest_ages_unbelievable_after_a_restart(ahead_ms: int) -> None:
    manifest = digits_manifest("p" * 20, created_at_ms=NOW.wall_ms + ahead_ms)
    claims = Claims(task="t", manifest=manifest, started=NOW, age_before=50_000)
    assert claims.believed_age(FRIENDS[0], 50_000, NOW) == 50_000
    plan = manifest.training
    later = replace(NOW, monotonic_s=NOW.monotonic_s + 100 * plan.round_interval_s)
    honest = 50_000 + 100 * plan.steps_per_round
    assert claims.believed_age(FRIENDS[0], honest, later) == honest
    assert claims.believed_age(FRIENDS[1], 10**9, later) <= honest + 101 * plan.steps_per_round
    assert claims.most_rounds(later) >= honest // plan.steps_per_round


@pytest.mark.parametrize(
    ("dated_ms", "perhaps"), [(NOW.wall_ms + DAY_MS, True), (NOW.wall_ms + 5_000, False), (NOW.wall_ms - DAY_MS, True)]
)
def test_a_task_dated_ahead_of_our_clock_may_have_a_crowd(dated_ms: int, perhaps: bool) -> None:
    """A publisher's clock that was ahead, or ours that is behind, says nothing of how old a task is."""
    manifest = digits_manifest("p" * 20, created_at_ms=dated_ms)
    claims = Claims(task="t", manifest=manifest, started=NOW)
    assert may_have_crowds_model(manifest, claims, NOW) is perhaps
