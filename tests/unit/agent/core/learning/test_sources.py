"""Whose work is in a model: what others say of it, held against what the sources say themselves."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.sources import MAX_SOURCES, MAX_UNHEARD, Sources
from grapevine_agent.core.overlay.members import Members
from grapevine_proto.messages import Heartbeat, PeerState, TaskProgress

ME, ALICE, BOB, LIAR = (letter * 20 for letter in "mabl")
PLENTY = 10**9


def beat(members: Members, peer: str, version: int, session: int = 0) -> None:
    progress = (TaskProgress(task="t", version=version, age=version),)
    members.hear_heartbeat(peer, Heartbeat(progress=progress), 0.0, session=session, ours=("t",))


@pytest.fixture
def sources() -> Sources:
    members = Members(1.0, np.random.default_rng(0))
    for peer in (ALICE, BOB, LIAR):
        beat(members, peer, 10)
    return Sources(task="t", peer=ME, members=members, versions={})


def test_staleness_counts_the_versions_that_a_model_lags_behind(sources: Sources) -> None:
    sources.mix_in({ALICE: 7}, sender=BOB, most=PLENTY)
    assert sources.mean_staleness({ALICE: 10, BOB: 5}) == 4
    assert sources.mean_staleness({}) is None


def test_names_that_nobody_heard_are_passed_over(sources: Sources) -> None:
    sources.mix_in({f"x{k:019d}": 1 for k in range(20_000)}, sender=LIAR, most=PLENTY)
    sources.mix_in({ALICE: 3, ME: 99}, sender=LIAR, most=PLENTY)
    assert sources.versions == {ALICE: 3}


def test_a_version_that_its_source_has_not_reached_counts_for_nothing(sources: Sources) -> None:
    sources.mix_in({ALICE: 4}, sender=BOB, most=PLENTY)
    for version in range(11, 60):
        sources.mix_in({ALICE: 1_000}, sender=LIAR, most=PLENTY)
        beat(sources.members, ALICE, version)
        assert sources.mean_staleness({ALICE: version}) == version - 4
        assert sources.versions[ALICE] == 4


def test_news_that_travel_faster_than_heartbeats_count_once_they_are_confirmed(sources: Sources) -> None:
    sources.mix_in({ALICE: 12}, sender=BOB, most=PLENTY)
    assert sources.versions[ALICE] <= 10
    assert sources.told(64) == {ALICE: 12}  # handed on all the same
    assert sources.mean_staleness({ALICE: 13}) == 1  # to who knows that it is at 13, it is true
    beat(sources.members, ALICE, 13)
    assert sources.mean_staleness({ALICE: 13}) == 1
    assert sources.versions[ALICE] == 12


def test_what_nobody_can_have_reached_is_not_even_handed_on(sources: Sources) -> None:
    sources.mix_in({ALICE: 2**53}, sender=LIAR, most=100)
    assert sources.told(64) == {}


def test_a_senders_own_update_is_its_word(sources: Sources) -> None:
    sources.hear(BOB, 15)
    sources.mix_in({BOB: 15}, sender=BOB, most=PLENTY)
    assert sources.versions == {BOB: 15}


def test_what_changed_last_is_told_first_and_not_more_than_asked_for(sources: Sources) -> None:
    sources.mix_in({ALICE: 1, BOB: 1}, sender=BOB, most=PLENTY)
    sources.mix_in({ALICE: 2}, sender=ALICE, most=PLENTY)
    assert list(sources.told(64)) == [ALICE, BOB]
    assert sources.told(1) == {ALICE: 2}


def test_where_only_neighbours_are_listened_to_so_many_others_are_remembered() -> None:
    members = Members(1.0, np.random.default_rng(0), named={ALICE}, only_named=True)
    sources = Sources(task="t", peer=ME, members=members, versions={})
    sources.mix_in({f"x{k:019d}": 1 for k in range(2 * MAX_UNHEARD)}, sender=ALICE, most=PLENTY)
    assert len(sources.versions) == MAX_UNHEARD
    members.hear_state(ALICE, PeerState(online=True), 1, 0.0)
    sources.mix_in({ALICE: 1}, sender=ALICE, most=PLENTY)
    assert ALICE in sources.versions


def test_where_only_neighbours_are_listened_to_who_was_named_last_is_remembered() -> None:
    members = Members(1.0, np.random.default_rng(0), named={ALICE}, only_named=True)
    sources = Sources(task="t", peer=ME, members=members, versions={})
    for version in (1, 2, 3):
        sources.mix_in({f"x{version}{k:018d}": 1 for k in range(MAX_UNHEARD - 10)}, sender=ALICE, most=PLENTY)
        sources.mix_in({BOB: version}, sender=ALICE, most=PLENTY)
    sources.mix_in({LIAR: 1}, sender=ALICE, most=PLENTY)
    assert {BOB, LIAR} <= sources.versions.keys()
    assert len(sources.versions) == len(sources._unheard) == MAX_UNHEARD


def test_words_of_those_who_left_are_forgotten(sources: Sources) -> None:
    members = sources.members
    for k in range(2 * MAX_SOURCES + 10):
        peer = f"x{k:019d}"
        members.name([peer])
        members.hear_state(peer, PeerState(online=True), 1, 0.0)
        sources.hear(peer, 1)
        members._forget(peer)
        members.named.clear()
        assert len(sources._words) <= MAX_SOURCES
    sources.hear(ALICE, 12)
    sources.mix_in({ALICE: 12}, sender=ALICE, most=PLENTY)
    assert sources.versions == {ALICE: 12}


@pytest.mark.parametrize("says_first", ["heartbeat", "update", "state"])
def test_a_member_that_begins_again_is_not_taken_for_what_it_was(sources: Sources, says_first: str) -> None:
    beat(sources.members, ALICE, 5_000, session=1)
    sources.hear(ALICE, 5_000, 1)
    sources.mix_in({ALICE: 5_000}, sender=ALICE, most=PLENTY)
    assert sources.mean_staleness({ALICE: 5_000}) == 0
    if says_first == "state":
        sources.members.hear_state(ALICE, PeerState(online=True), 2, 0.0)
        assert sources.mean_staleness({}) is None
    if says_first == "update":
        sources.hear(ALICE, 1, 2)
    for version in (1, 100, 4_000):
        beat(sources.members, ALICE, version, session=2)
        assert sources.mean_staleness({ALICE: version}) == version
        assert sources._word(ALICE) == version
    sources.hear(ALICE, 4_001, 2)
    sources.mix_in({ALICE: 4_001}, sender=ALICE, most=PLENTY)
    assert sources.mean_staleness({ALICE: 4_002}) == 1


def test_a_member_that_connects_again_goes_on(sources: Sources) -> None:
    sources.mix_in({ALICE: 10}, sender=BOB, most=PLENTY)
    beat(sources.members, ALICE, 11, session=5)
    assert sources.mean_staleness({ALICE: 11}) == 1
    beat(sources.members, ALICE, 11, session=6)
    assert sources.mean_staleness({ALICE: 11}) == 1


def test_of_too_many_senders_members_are_kept(sources: Sources) -> None:
    sources.mix_in({ALICE: 1}, sender=ALICE, most=PLENTY)
    for k in range(MAX_SOURCES + 10):
        name = f"x{k:019d}"
        sources.hear(name, 1)
        sources.mix_in({name: 1}, sender=name, most=PLENTY)
    assert len(sources.versions) <= MAX_SOURCES
    assert ALICE in sources.versions
