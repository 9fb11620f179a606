"""Members that say that they sleep: nobody suspects them, nobody counts on them, and they are waited for."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.agent.core.overlay.test_suspicion import BEAT, SESSION, answer, members_of, rounds

from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.sleepers import GRACE_HEARTBEATS, Sleepers
from grapevine_agent.core.overlay.suspicion import Round
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState

A, B = "a" * 20, "b" * 20
ONLINE, WILL = PeerState(online=True), PeerState(online=False)
ASLEEP = PeerState(online=False, goodbye=True, asleep_until_ms=1)
GONE = PeerState(online=False, goodbye=True)
TASK = "t"


def with_a_sleeper(asleep_s: float = 100.0) -> Members:
    """A has said at 2 s that it sleeps, and B beats."""
    members = members_of(A, B)
    for peer in (A, B):
        members.hear_announcement(peer, PeerAnnouncement(tasks=(TASK,)))
    members.hear_state(A, ASLEEP, SESSION, 2.0, asleep_s=asleep_s)
    return members


def pass_to(members: Members, from_s: float, until_s: float) -> list[tuple[float, Round]]:
    """What is asked of whom, while B goes on to beat."""
    found = []
    for now_s in np.arange(from_s, until_s, 1.0):
        members.hear_heartbeat(B, BEAT, float(now_s), session=SESSION)
        found += rounds(members, float(now_s), float(now_s) + 1.0)
    return found


def test_who_sleeps_is_no_target_and_is_not_asked_whether_it_is_there() -> None:
    members = with_a_sleeper()
    assert pass_to(members, 2.0, 100.0) == []
    assert members.of_task(TASK, 100.0) == [B]
    assert A in members.sleepers
    assert members.is_member(A)
    assert not members.is_alive(A, 100.0)


def test_who_is_awake_again_is_counted_at_once_and_told_of_once() -> None:
    members = with_a_sleeper()
    assert members.sleepers.take_woken() == []
    members.hear_state(A, ONLINE, SESSION + 1, 50.0)
    assert A in members.of_task(TASK, 50.0)
    assert members.sleepers.take_woken() == [A]
    assert members.sleepers.take_woken() == []
    members.hear_state(A, ONLINE, SESSION + 2, 51.0)
    assert members.sleepers.take_woken() == [], "it had not slept"


@pytest.mark.parametrize("sign", ["heartbeat", "answer"])
def test_anything_in_a_newer_session_shows_that_it_is_awake(sign: str) -> None:
    members = with_a_sleeper()
    if sign == "heartbeat":
        members.hear_heartbeat(A, BEAT, 50.0, session=SESSION + 1)
    else:
        answer(members, Round(peer=A, nonce=1, suspected=1, helpers=()), 50.0, session=SESSION + 1)
    assert A in members.of_task(TASK, 50.0)
    assert members.sleepers.take_woken() == [A]


def test_the_will_of_who_sleeps_says_nothing_more() -> None:
    members = with_a_sleeper()
    members.hear_state(A, WILL, SESSION, 3.0)
    assert A in members.sleepers
    assert pass_to(members, 3.0, 100.0) == []


def test_who_says_that_it_is_gone_after_all_is_no_sleeper() -> None:
    members = with_a_sleeper()
    members.hear_state(A, GONE, SESSION, 3.0)
    assert A not in members.sleepers


def test_who_does_not_come_back_is_probed_then_and_gone_after_that() -> None:
    members = with_a_sleeper(asleep_s=100.0)
    due_s = 102.0 + GRACE_HEARTBEATS
    assert pass_to(members, 2.0, due_s - 1) == []
    asked = pass_to(members, due_s - 1, due_s + 5)
    assert {each.peer for _, each in asked} == {A}
    assert due_s <= asked[0][0] <= due_s + 1
    assert A not in members.sleepers
    assert not members.peers[A].online
    assert pass_to(members, due_s + 5, due_s + 50) == [], "once"


def test_who_answers_when_it_is_overdue_is_counted() -> None:
    members = with_a_sleeper(asleep_s=10.0)
    asked = pass_to(members, 2.0, 22.1)
    answer(members, asked[0][1], 22.2, session=SESSION + 1)
    assert members.of_task(TASK, 22.2) == [A, B]


def test_what_it_had_it_still_has_after_a_sleep_and_not_after_a_new_start() -> None:
    members = with_a_sleeper()
    assert members.life_of(A) == SESSION
    members.hear_state(A, ONLINE, SESSION + 1, 50.0)
    assert (members.session_of(A), members.life_of(A)) == (SESSION + 1, SESSION)
    members.hear_state(A, ASLEEP, SESSION + 1, 60.0, asleep_s=100.0)
    members.hear_state(A, ONLINE, SESSION + 2, 70.0)
    assert members.life_of(A) == SESSION, "after several"
    members.hear_state(A, ONLINE, SESSION + 3, 80.0)
    assert members.life_of(A) == SESSION + 3


def test_who_claims_to_sleep_and_goes_on_sending_is_sent_nothing() -> None:
    members = with_a_sleeper()
    for now_s in range(3, 100):
        members.hear_heartbeat(A, Heartbeat(incarnation=5), float(now_s), session=SESSION)
        members.hear_update(A, TASK, float(now_s), session=SESSION)
    assert A not in members.of_task(TASK, 100.0)
    assert members.sleepers.take_woken() == []
    assert A in members.sleepers


def test_a_stranger_that_says_it_sleeps_is_a_stranger() -> None:
    members = Members(1.0, np.random.default_rng(0))
    members.hear_state(A, ASLEEP, SESSION, 0.0, asleep_s=100.0)
    assert len(members.sleepers) == 0


def test_where_room_is_made_sleepers_are_kept_while_half_of_the_book_does_not_sleep() -> None:
    members = Members(1.0, np.random.default_rng(0), capacity=60)
    names = [f"{number:020d}" for number in range(60)]
    for now_s in range(300):  # they are taken in at a bounded rate
        for peer in names:
            members.hear_state(peer, ONLINE, SESSION, float(now_s))
            members.hear_heartbeat(peer, BEAT, float(now_s), session=SESSION)
    assert all(members.is_member(peer) for peer in names)
    sleepers, gone = names[:40], names[40:]
    for peer in sleepers:
        members.hear_state(peer, ASLEEP, SESSION, 300.0, asleep_s=86_400.0)
    for peer in gone:
        members.hear_state(peer, GONE, SESSION, 301.0)
    kept = []
    for turn in range(1, 11):
        members.tick(300.0 + 11 * turn)
        for number in range(10):  # others come, and have the room
            members.hear_state(f"x{turn:09d}{number:010d}", GONE, SESSION, 300.0 + 11 * turn)
        kept.append((sum(peer in members.peers for peer in sleepers), sum(peer in members.peers for peer in gone)))
    assert kept[2:4] == [(40, 2), (36, 0)], "sleepers last"
    assert kept[-1] == (30, 0), "and half of the book stays with them"
    assert len(members.sleepers) == 30


def test_a_million_claims_take_no_more_room_than_there_is() -> None:
    members = Members(1.0, np.random.default_rng(0), capacity=50)
    for number in range(3_000):
        members.hear_state(f"{number:020d}", ASLEEP, SESSION, 1.0, asleep_s=86_400.0)
    assert len(members.peers) == 50
    assert len(members.sleepers) == 0


def test_when_the_next_is_overdue_is_known() -> None:
    sleepers = Sleepers(heartbeat_s=1.0)
    assert sleepers.deadline_s() == float("inf")
    sleepers.fell_asleep(A, 100.0)
    sleepers.fell_asleep(B, 50.0)
    assert sleepers.deadline_s() == 60.0
    assert sleepers.take_overdue(59.0) == []
    assert sleepers.take_overdue(60.0) == [B]
    assert sleepers.deadline_s() == 110.0
    sleepers.woke(A)
    assert sleepers.deadline_s() < 0, "it is to be told of"


# --- we sleep -------------------------------------------------------------------------------------


def test_what_we_did_not_hear_while_we_slept_says_nothing_of_anybody() -> None:
    members = members_of(A, B)
    members.hear_announcement(A, PeerAnnouncement(tasks=(TASK,)))
    members.fell_asleep(2.0)
    assert members.of_task(TASK, 2.0) == []
    assert members.is_away
    members.woke_up(3602.0)
    assert not members.is_away
    assert members.of_task(TASK, 3602.0) == [A]
    assert rounds(members, 3602.0, 3602.5) == []
    assert {each.peer for _, each in rounds(members, 3602.5, 3607.0)} == {A, B}, "who is gone is found as ever"
