"""Who is late is asked before it is believed to be dead: rounds, learned times, and what refutes a suspicion."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.overlay.learned_times import LearnedTime
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.overlay.suspicion import (
    MISTAKES,
    MOST_RELAYED,
    MOST_ROUNDS,
    NUM_HELPERS,
    Round,
    rounds_for,
)
from grapevine_proto.messages import Heartbeat, PeerState, ProbeAnswer

A, B = "a" * 20, "b" * 20
SESSION = 5
BEAT = Heartbeat(incarnation=1)


def members_of(*peers: str, beat: Heartbeat = BEAT) -> Members:
    """Members that beat at 0 s and at 1 s, at an interval of a second, and are all listened to."""
    members = Members(1.0, np.random.default_rng(0))
    for now_s in (0.0, 1.0):
        for peer in peers:
            members.hear_state(peer, PeerState(online=True), SESSION, now_s)
            members.hear_heartbeat(peer, beat, now_s, session=SESSION)
        members.tick(now_s)
    return members


def rounds(members: Members, from_s: float, until_s: float) -> list[tuple[float, Round]]:
    """What is asked between two times, and when."""
    found: list[tuple[float, Round]] = []
    for now_s in np.arange(from_s, until_s, 0.01):
        found += [(round(float(now_s), 2), each) for each in members.find_lost(float(now_s))]
        members.tick(float(now_s))
    return found


def answer(members: Members, asked: Round, now_s: float, incarnation: int = 2, session: int = SESSION) -> None:
    members.hear(asked.peer, now_s)
    members.hear_answer(asked.peer, ProbeAnswer(nonce=asked.nonce, incarnation=incarnation), now_s, session=session)


# --- times ----------------------------------------------------------------------------------------


def test_times_are_learned_as_tcp_learns_round_trips() -> None:
    time = LearnedTime(mean=1.0, deviation=0.5)
    time.saw(2.0)
    assert (time.mean, time.deviation) == (1.125, 0.625)  # RFC 6298, (2.3), with alpha 1/8 and beta 1/4
    assert time.limit == 1.125 + 4 * 0.625
    for _ in range(100):
        time.saw(2.0)
    assert time.limit == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(("lost", "num"), [(0.0, 2), (0.01, 2), (0.19, 4), (0.51, 16), (0.75, MOST_ROUNDS)])
def test_the_more_is_lost_the_more_often_a_suspect_is_asked(lost: float, num: int) -> None:
    assert rounds_for(lost) == num
    if num < MOST_ROUNDS:
        unheard = (1 - (1 - lost) ** 2) ** num * (1 - (1 - lost) ** 4) ** (NUM_HELPERS * (num - 1))
        assert unheard <= MISTAKES


def test_where_heartbeats_come_in_time_a_member_is_late_after_one_and_a_half() -> None:
    members = members_of(A)
    for now_s in range(2, 40):
        members.hear_heartbeat(A, BEAT, float(now_s), session=SESSION)
    assert members.suspicion.late_after_s == 1.5
    assert members.suspicion.lost_share == 0.0
    assert [now_s for now_s, _ in rounds(members, 40.0, 41.2)] == [40.51, 40.64]


def test_where_half_of_them_are_lost_it_takes_three_and_a_half() -> None:
    members = members_of(A)
    rng, now_s = np.random.default_rng(1), 1.0
    for _ in range(400):
        now_s += float(rng.geometric(0.5))
        members.hear_heartbeat(A, BEAT, now_s, session=SESSION)
    assert members.suspicion.late_after_s == 3.5
    assert 0.35 < members.suspicion.lost_share < 0.65


def test_who_beats_more_often_than_others_teaches_no_more_than_they_do() -> None:
    quick = 50
    members = members_of(A, B)
    rng, due_s = np.random.default_rng(1), {A: 1.0, B: 1.0}
    for tick in range(1, 400 * quick):
        now_s = 1.0 + tick / quick
        members.hear_heartbeat(B, BEAT, now_s, session=SESSION)
        if now_s >= due_s[A] + 1.0:
            due_s[A] += float(rng.geometric(0.5))
            members.hear_heartbeat(A, BEAT, now_s, session=SESSION)
    assert members.suspicion.lost_share > 0.1  # of A's half are lost, of B's none; B's fifty count as one


def test_who_says_that_it_may_be_late_is_waited_for_up_to_ten_intervals() -> None:
    beat = Heartbeat(incarnation=1, quiet_s=4.0)
    assert rounds(members_of(A, beat=beat), 1.0, 6.5) == []
    assert rounds(members_of(A, beat=beat), 1.0, 6.6)
    for_ever = Heartbeat(incarnation=1, quiet_s=1e9)
    assert rounds(members_of(A, beat=for_ever), 1.0, 12.4) == []
    assert rounds(members_of(A, beat=for_ever), 1.0, 12.6)


def test_a_round_lasts_as_long_as_answers_take() -> None:
    members = members_of(A)
    assert members.suspicion.round_s(by_will=False) == 1 / 8
    for k in range(50):
        members.suspicion.suspect(members.peers[A], float(k))
        (asked,) = members.find_lost(float(k))
        answer(members, asked, k + 0.3)
    assert 0.3 < members.suspicion.round_s(by_will=False) < 0.4
    assert members.suspicion.round_s(by_will=True) == members.suspicion.round_s(by_will=False)


def test_answers_that_come_too_late_teach_how_long_they_take() -> None:
    members = members_of(A)
    ((_, first), (_, second), *_) = rounds(members, 1.0, 3.5)
    assert members.of_task("", 3.5) == []
    assert not members.is_alive(A, 3.5)
    before = members.suspicion.trips.mean
    answer(members, first, 3.6)
    assert members.suspicion.trips.mean > before
    assert members.is_alive(A, 3.6)
    assert second.nonce != first.nonce


# --- suspects -------------------------------------------------------------------------------------


def test_a_suspect_is_asked_then_others_are_and_then_it_is_silent() -> None:
    peers = [chr(ord("a") + k) * 20 for k in range(6)]
    members = members_of(*peers)
    for peer in peers[1:]:
        members.hear_heartbeat(peer, BEAT, 2.0, session=SESSION)
    asked = rounds(members, 2.0, 2.7)
    members.hear_heartbeat(peers[1], BEAT, 2.7, session=SESSION)
    (_, first), (_, second) = asked = [*asked, *rounds(members, 2.7, 3.4)]
    assert [now_s for now_s, _ in asked] == [2.51, 2.64]
    assert (first.peer, first.helpers, first.suspected) == (peers[0], (), 1)
    assert len(set(second.helpers)) == NUM_HELPERS
    assert peers[0] not in second.helpers
    assert not members.is_alive(peers[0], 3.4)
    assert peers[0] in members.strangers.listened_since_s  # it comes back when it is heard
    members.hear_heartbeat(peers[0], BEAT, 3.5, session=SESSION)
    assert members.is_alive(peers[0], 3.5)


def test_a_suspect_counts_until_nobody_has_brought_an_answer() -> None:
    members = members_of(A)
    for now_s in np.arange(1.0, 2.8, 0.01):
        members.find_lost(float(now_s))
        assert members.is_alive(A, float(now_s))
    rounds(members, 2.8, 3.1)
    assert not members.is_alive(A, 3.1)


def test_who_answers_is_no_suspect() -> None:
    members = members_of(A)
    ((now_s, asked),) = rounds(members, 1.0, 2.55)
    answer(members, asked, now_s)
    assert not members.suspicion.suspects
    assert members.peers[A].incarnation == 2
    assert rounds(members, 2.55, 4.0) == []


def test_who_does_not_say_that_it_answers_is_not_asked_and_silent_after_three_and_a_half() -> None:
    members = members_of(A, beat=Heartbeat())
    assert rounds(members, 1.0, 4.45) == []
    assert members.is_alive(A, 4.45)
    assert not members.is_alive(A, 4.55)


def test_in_an_interval_there_are_as_many_rounds_as_there_are_places_in_the_sample() -> None:
    peers = [f"{k:020d}" for k in range(40)]
    members = members_of(*peers)
    asked = rounds(members, 1.0, 3.4)  # everybody is dead
    in_first = [each for now_s, each in asked if now_s < asked[0][0] + 0.99]
    assert len(in_first) == len({each.peer for each in in_first}) == 16  # nobody twice before everybody once


def test_while_nobody_is_heard_it_may_be_our_own_line_and_nobody_is_lost_for_long() -> None:
    members = members_of(A, B)
    rounds(members, 1.0, 5.9)
    assert members.is_alive(A, 5.9)
    assert members.is_alive(B, 5.9)
    rounds(members, 5.9, 6.2)  # late after 1.5, suspect for 3.5
    assert members.num_alive(6.2) == 0
    members = members_of(A, B)
    asked = rounds(members, 1.0, 5.0)
    members.hear_heartbeat(B, BEAT, 5.0, session=SESSION)
    rounds(members, 5.0, 5.2)
    assert not members.is_alive(A, 5.2)
    assert members.is_alive(B, 5.2)
    assert len(asked) == 4  # no more rounds than ever


# --- through others -------------------------------------------------------------------------------


def through(members: Members, asked: Round, helper: str, incarnation: int, session: int = SESSION) -> bool:
    told = ProbeAnswer(nonce=asked.nonce, peer=asked.peer, session=session, incarnation=incarnation)
    members.hear_answer(helper, told, 2.7, session=SESSION)
    return asked.peer not in members.suspicion.suspects


def suspected() -> tuple[Members, Round]:
    members = members_of(A, B)
    members.hear_heartbeat(B, BEAT, 2.0, session=SESSION)
    *_, (_, asked) = rounds(members, 2.0, 2.7)
    assert asked.helpers == (B,)
    return members, asked


def test_an_answer_through_a_helper_counts_as_heard() -> None:
    members, asked = suspected()
    assert through(members, asked, B, incarnation=2)
    assert members.peers[A].last_heard_s == 2.7
    assert members.peers[A].incarnation == 1  # that it says itself


def test_of_another_session_it_counts_only_if_that_is_newer() -> None:
    members, asked = suspected()
    assert not through(members, asked, B, incarnation=9, session=SESSION - 1)
    assert through(members, asked, B, incarnation=1, session=SESSION + 1)
    assert members.session_of(A) == SESSION  # nobody else says which session a peer is in


@pytest.mark.parametrize("wrong", ["incarnation", "helper", "nonce", "nobody is suspected"])
def test_what_does_not_fit_the_suspicion_changes_nothing(wrong: str) -> None:
    members, asked = suspected()
    if wrong == "incarnation":
        assert not through(members, asked, B, incarnation=1)
    elif wrong == "helper":
        assert not through(members, asked, "c" * 20, incarnation=2)
    elif wrong == "nonce":
        recorded = Round(peer=A, nonce=asked.nonce + 100, suspected=1, helpers=())
        assert not through(members, recorded, B, incarnation=2)
    else:
        members.suspicion.clear(A)
        before = members.peers[A].last_heard_s
        through(members, asked, B, incarnation=2)
        assert members.peers[A].last_heard_s == before


def test_nobody_keeps_a_dead_peer_alive_for_long() -> None:
    members = members_of(A, B)
    now_s, revived = 1.0, 0
    while members.is_alive(A, now_s):
        now_s += 0.01
        members.hear_heartbeat(B, BEAT, now_s, session=SESSION)
        for each in members.find_lost(now_s):
            if each.helpers:
                told = ProbeAnswer(nonce=each.nonce, peer=A, session=SESSION, incarnation=1_000)
                members.hear_answer(B, told, now_s, session=SESSION)
                revived += 1
    assert revived == MOST_RELAYED + 1  # the last one does not count
    assert now_s < 40


# --- wills ----------------------------------------------------------------------------------------

WILL, GOODBYE = PeerState(online=False), PeerState(online=False, goodbye=True)


def test_a_will_of_who_was_heard_just_now_is_asked_about_first() -> None:
    members = members_of(A)
    members.hear_state(A, WILL, SESSION, 1.2)
    (asked,) = members.find_lost(1.2)
    assert members.is_alive(A, 1.2)
    members.hear_heartbeat(A, BEAT, 1.21, session=SESSION)  # it may have been on its way
    assert A in members.suspicion.suspects
    answer(members, asked, 1.25)
    assert rounds(members, 1.25, 2.0) == []
    assert members.is_alive(A, 2.0)


def test_a_will_that_nobody_contradicts_is_believed_soon() -> None:
    members = members_of(A)
    members.hear_state(A, WILL, SESSION, 1.2)
    assert len(rounds(members, 1.2, 1.45)) == 2
    assert not members.is_alive(A, 1.45)
    assert not members.peers[A].online


@pytest.mark.parametrize(
    ("state", "session", "now_s", "beat"),
    [
        (GOODBYE, SESSION, 1.2, BEAT),
        (WILL, SESSION, 2.2, BEAT),  # not heard for more than an interval
        (WILL, SESSION + 1, 1.2, BEAT),  # of a session that nothing was heard in
        (WILL, SESSION, 1.2, Heartbeat()),  # it does not answer
    ],
)
def test_other_offline_states_count_at_once(state: PeerState, session: int, now_s: float, beat: Heartbeat) -> None:
    members = members_of(A, beat=beat)
    members.hear_state(A, state, session, now_s)
    assert not members.is_alive(A, now_s)
    assert members.find_lost(now_s) == []


def test_a_goodbye_ends_a_suspicion() -> None:
    members = members_of(A)
    members.hear_state(A, WILL, SESSION, 1.2)
    members.hear_state(A, GOODBYE, SESSION, 1.21)
    assert members.find_lost(1.21) == []
    assert not members.is_alive(A, 1.21)


def test_a_newer_session_ends_a_suspicion_and_an_incarnation_is_of_one_session() -> None:
    members = members_of(A, beat=Heartbeat(incarnation=7))
    members.hear_state(A, WILL, SESSION, 1.2)
    members.hear_state(A, PeerState(online=True), SESSION + 1, 1.21)
    assert not members.suspicion.suspects
    assert members.peers[A].incarnation == 0
    members.hear_heartbeat(A, Heartbeat(incarnation=9), 1.3, session=SESSION)  # of before
    assert members.peers[A].incarnation == 0
    members.hear_heartbeat(A, Heartbeat(incarnation=3), 1.4, session=SESSION + 1)
    members.hear_heartbeat(A, Heartbeat(incarnation=2), 1.5, session=SESSION + 1)  # overtaken
    assert members.peers[A].incarnation == 3
