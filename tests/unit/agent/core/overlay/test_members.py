"""Who counts as a member: heard, taken in at a bounded rate, and kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grapevine_agent.core.effects import Effect, Subscribe, Unsubscribe
from grapevine_agent.core.overlay.allowance import FIRST, Allowance
from grapevine_agent.core.overlay.members import (
    MAX_TO_ASK,
    ROLL_CALL,
    ROTATE_HEARTBEATS,
    Members,
)
from grapevine_agent.core.overlay.sample import SAMPLE_ALL_BELOW
from grapevine_agent.core.overlay.strangers import NUM_PLACES
from grapevine_agent.core.overlay.usefulness import REMEMBER_HEARTBEATS
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState, TaskProgress

ONLINE, OFFLINE = PeerState(online=True), PeerState(online=False)


def members_of(**settings: object) -> Members:
    return Members(1.0, np.random.default_rng(0), **settings)  # type: ignore[arg-type]


def announce(members: Members, peer: str, now_s: float = 0.0, task: str = "t") -> None:
    members.hear_announcement(peer, PeerAnnouncement(tasks=(task,)))
    members.hear_state(peer, ONLINE, 1, now_s)


def names(size: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{number:0{20 - len(prefix)}d}" for number in range(size)]


def crowd(size: int, **settings: object) -> Members:
    """So many members, at second 0: they came in time, and were all just heard."""
    members = members_of(**settings)
    for k, peer in enumerate(names(size)):
        now_s = -100.0 + 100.0 * k / size
        announce(members, peer, now_s)
        members.hear_heartbeat(peer, Heartbeat(), now_s)
    for peer in names(size):
        members.hear_heartbeat(peer, Heartbeat(), 0.0)
    return members


def subscribed(effects: list[Effect]) -> set[str]:
    return {effect.filter for effect in effects if isinstance(effect, Subscribe)}


# --- heard, not said ------------------------------------------------------------------------------


def test_a_member_is_who_was_heard_and_not_who_says_so() -> None:
    members = members_of()
    announce(members, "a" * 20)
    assert members.of_task("t", 0.0) == []
    assert members.num_alive(0.0) == 0
    members.hear_heartbeat("a" * 20, Heartbeat(), 0.5)
    assert members.of_task("t", 0.5) == ["a" * 20]


def test_a_peer_proves_itself_by_an_update_that_could_be_used() -> None:
    members = members_of()
    announce(members, "a" * 20)
    members.hear("a" * 20, 0.5)  # a request, say
    assert members.of_task("t", 0.5) == []
    members.hear_update("a" * 20, "t", 1.0)
    assert members.of_task("t", 1.0) == ["a" * 20]
    assert members.useful("t", ["a" * 20], 1.0) == ["a" * 20]
    assert members.useful("t", ["a" * 20], 2.0 + REMEMBER_HEARTBEATS) == []


def test_whom_the_owner_named_is_a_member_on_its_own_word() -> None:
    members = members_of(named={"a" * 20}, only_named=True)
    announce(members, "a" * 20)
    assert members.of_task("t", 0.0) == ["a" * 20]
    assert members.useful("t", ["a" * 20], 0.0) == ["a" * 20]
    members.hear_update("b" * 20, "t", 0.0)
    assert members.of_task("t", 0.0) == ["a" * 20]


def test_what_a_heartbeat_says_stands_in_for_records_that_were_not_read() -> None:
    members = members_of()
    beat = Heartbeat(progress=(TaskProgress(task="t", version=3, age=30),))
    members.hear_heartbeat("a" * 20, beat, 0.0, session=7, ours=("t",))
    assert members.of_task("t", 0.0) == ["a" * 20]
    assert members.session_of("a" * 20) == 7
    assert members.peers["a" * 20].versions == {"t": 3}
    members.hear_announcement("a" * 20, PeerAnnouncement(tasks=("other",)))  # its own word counts
    assert members.of_task("t", 0.0) == []


def test_of_a_heartbeat_only_our_tasks_are_kept() -> None:
    members = crowd(1)
    progress = tuple(TaskProgress(task=f"invented-{k}", version=1, age=1) for k in range(100))
    members.hear_heartbeat(names(1)[0], Heartbeat(progress=progress), 0.0, ours=("t",))
    assert members.peers[names(1)[0]].versions == {}


def test_a_late_message_does_not_undo_a_goodbye_and_a_new_session_does() -> None:
    members = crowd(1)
    (peer,) = names(1)
    members.hear_state(peer, OFFLINE, 5, 1.0)
    members.hear_heartbeat(peer, Heartbeat(), 1.1, session=5)
    assert members.of_task("t", 1.1) == []
    members.hear_heartbeat(peer, Heartbeat(), 1.2, session=6)
    assert members.of_task("t", 1.2) == [peer]


def test_only_who_was_heard_is_a_voice_in_a_servers_model() -> None:
    members = crowd(2)
    announce(members, "x" * 20)
    assert members.heard_of() == set(names(2))


def test_an_older_session_says_nothing_of_who_was_heard_in_a_newer_one() -> None:
    members = crowd(1)
    (peer,) = names(1)
    members.hear_heartbeat(peer, Heartbeat(), 0.5, session=7)
    members.hear_state(peer, OFFLINE, 6, 1.0)
    assert members.of_task("t", 1.0) == [peer]


def test_who_asks_is_shown_those_who_say_they_are_members_while_nobody_was_heard() -> None:
    members = members_of()
    for peer in names(200):
        announce(members, peer)
    assert len(members.to_ask("t", 0.0)) == MAX_TO_ASK
    members.hear_heartbeat(names(1)[0], Heartbeat(), 0.0)
    assert members.to_ask("t", 0.0) == names(1)


# --- a bounded rate -------------------------------------------------------------------------------


def test_a_group_grows_at_most_to_twice_its_size_in_an_interval() -> None:
    allowance, size = Allowance(interval_s=10.0), 0
    sizes = []
    for now_s in range(60):
        while allowance.take(float(now_s), size):
            size += 1
        sizes.append(size)
    assert sizes[0] == FIRST
    assert sizes[::10] == sizes[9::10] == [FIRST * 2**k for k in range(6)]


def test_invented_peers_that_beat_come_in_no_faster() -> None:
    members = crowd(2)
    for peer in names(5_000, "x"):
        announce(members, peer)
        members.hear_heartbeat(peer, Heartbeat(), 0.0)
    assert members.num_alive(0.0) <= 2 + FIRST


def test_invented_peers_that_send_updates_become_useful_no_faster() -> None:
    members = crowd(2)
    for peer in names(1_000, "x"):
        announce(members, peer)
        members.hear_update(peer, "t", 0.0)
    assert len(members.useful("t", list(members.peers), 0.0)) <= FIRST


# --- keeping places -------------------------------------------------------------------------------


def test_a_flood_pushes_out_itself_and_nobody_who_was_heard() -> None:
    members = crowd(20, capacity=100)
    for peer in names(1_000, "x"):
        announce(members, peer)
    assert len(members.peers) == 100
    assert set(names(20)) <= members.peers.keys()
    assert names(1_000, "x")[0] in members.peers  # the newest goes first
    members.hear_heartbeat("a" * 20, Heartbeat(), 1.0)  # who is heard finds a place
    assert members.is_member("a" * 20)


def test_where_all_places_are_taken_the_long_gone_make_room_and_useful_members_never() -> None:
    members = crowd(10, capacity=10)
    useful, gone, *_ = names(10)
    members.hear_update(useful, "t", 0.0)
    for peer in (useful, gone):
        members.hear_state(peer, OFFLINE, 2, 1.0)
    announce(members, "n" * 20, 1.0)
    assert "n" * 20 not in members.peers
    members.tick(2.0)
    announce(members, "n" * 20, 2.0)
    assert {useful, "n" * 20} <= members.peers.keys()
    assert gone not in members.peers


def test_the_book_of_peers_is_bounded_and_strangers_who_are_offline_go_first() -> None:
    members = members_of(capacity=3)
    for peer in names(3):
        announce(members, peer)
    members.hear_state(names(3)[1], OFFLINE, 1, 1.0)
    announce(members, "n" * 20, 1.0)
    assert names(3)[1] not in members.peers
    assert "n" * 20 in members.peers
    assert len(members.peers) == 3


# --- the sample -----------------------------------------------------------------------------------


def test_in_a_small_overlay_everybody_is_listened_to() -> None:
    members = members_of()
    for peer in names(5):
        announce(members, peer)
    assert len(subscribed(members.tick(0.0))) == 5  # strangers
    for peer in names(5):
        members.hear_heartbeat(peer, Heartbeat(), 0.4)
    assert members.tick(0.5) == []  # the same, as members


def test_in_a_large_one_a_rotating_sample_is() -> None:
    members = crowd(400)
    first = subscribed(members.tick(0.0))
    assert len(first) == max(SAMPLE_ALL_BELOW, math.ceil(3 * math.log(400)))
    dropped = {e.filter for e in members.tick(11.0) if isinstance(e, Unsubscribe)}
    assert dropped
    assert dropped <= first
    assert len(members.sampled_since_s) == len(first)


def test_everybody_is_listened_to_in_turn() -> None:
    members = crowd(100)
    seen: list[str] = []
    for window in range(6):
        now_s = 1.0 + (ROTATE_HEARTBEATS + 1) * window
        for peer in names(100):
            members.hear(peer, now_s)
        members.tick(now_s)
        assert len(members.sampled_since_s) == SAMPLE_ALL_BELOW
        assert not members.sampled_since_s.keys() & set(seen)
        seen += members.sampled_since_s


def test_half_of_the_sample_is_of_use() -> None:
    members = crowd(400)
    for peer in names(20):
        members.hear_update(peer, "t", 0.0)
    members.tick(0.0)
    assert len(members.sampled_since_s.keys() & set(names(20))) >= len(members.sampled_since_s) // 2


def test_a_silent_peer_is_not_counted_on_even_without_its_will() -> None:
    members = crowd(2)
    members.tick(0.0)
    quiet, loud = sorted(members.peers)
    for second in range(1, 6):
        members.hear_heartbeat(loud, Heartbeat(), float(second))
    assert members.of_task("t", 5.0) == [loud]
    members.hear(quiet, 6.0)
    assert members.of_task("t", 6.0) == [quiet, loud]


def test_a_member_found_silent_stays_uncounted_until_it_is_heard() -> None:
    members = crowd(2)
    quiet, loud = sorted(members.peers)
    for second in range(20):
        members.tick(float(second))
        members.hear_heartbeat(loud, Heartbeat(), float(second))
    assert quiet not in members.sampled_since_s
    assert members.of_task("t", 19.0) == [loud]
    assert quiet in members.strangers.listened_since_s
    members.hear_heartbeat(quiet, Heartbeat(), 20.0)
    members.tick(20.0)
    assert members.of_task("t", 20.0) == [quiet, loud]
    assert quiet in members.sampled_since_s


def test_a_peer_that_says_goodbye_is_gone_and_leaves_the_sample() -> None:
    members = crowd(2)
    members.tick(0.0)
    leaver = min(members.peers)
    members.hear_state(leaver, OFFLINE, 1, 1.0)
    assert leaver not in members.of_task("t", 1.0)
    assert [type(e) for e in members.tick(1.0)] == [Unsubscribe]


def test_a_peer_that_left_a_task_is_no_neighbour_in_it() -> None:
    members = crowd(2)
    leaver = min(members.peers)
    members.hear_announcement(leaver, PeerAnnouncement(tasks=("other",)))
    assert leaver not in members.of_task("t", 0.0)
    assert members.of_task("other", 0.0) == [leaver]


# --- strangers ------------------------------------------------------------------------------------


def test_a_few_strangers_are_listened_to_in_turn_and_the_newest_first() -> None:
    members = crowd(2)
    members.tick(0.0)
    flood = names(1_000, "x")
    for peer in flood:
        announce(members, peer)
    members.tick(0.1)
    assert set(members.strangers.listened_since_s) == set(flood[-NUM_PLACES:])
    announce(members, "n" * 20, 1.0)
    members.tick(1.0)
    assert "n" * 20 not in members.strangers.listened_since_s
    members.tick(2.0)  # the first ones' patience is over
    assert "n" * 20 in members.strangers.listened_since_s
    assert len(members.strangers.listened_since_s) == NUM_PLACES


def test_a_roll_call_finds_who_is_there_among_many_who_say_so() -> None:
    members = members_of()
    honest, flood = names(2), names(3_000, "x")
    for peer in (*honest, *flood):
        announce(members, peer)
    assert ROLL_CALL in subscribed(members.tick(0.0))
    assert members.listens_to(honest[0], 0.1)
    for peer in honest:
        members.hear_heartbeat(peer, Heartbeat(), 0.5)
    assert members.of_task("t", 0.5) == honest
    assert not members.listens_to(honest[0], 0.5)  # the same one again
    assert Unsubscribe(filter=ROLL_CALL) in members.tick(1.3)


def test_a_roll_call_ends_when_no_more_may_come_and_beats_after_it_are_not_read() -> None:
    members = members_of()
    flood = names(1_000, "x")
    for peer in flood:
        announce(members, peer)
    members.tick(0.0)
    for peer in flood[:FIRST]:
        members.hear_heartbeat(peer, Heartbeat(), 0.0)
    assert not members.listens_to(flood[FIRST], 0.0)
    assert members.deadline_s(0.0) == -math.inf
    assert Unsubscribe(filter=ROLL_CALL) in members.tick(0.0)


def test_roll_calls_that_bring_nobody_become_rare() -> None:
    members = members_of()
    for peer in names(1_000, "x"):
        announce(members, peer)
    calls = [now_s for now_s in np.arange(0.0, 200.0, 0.25) if ROLL_CALL in subscribed(members.tick(float(now_s)))]
    assert 5 <= len(calls) <= 9
    assert np.all(np.diff(np.diff(calls)) >= 0)


@pytest.mark.parametrize("size", [200, 1_000])
def test_a_crowd_that_starts_together_is_whole_after_a_few_intervals(size: int) -> None:
    members = members_of()
    everybody = names(size)
    for peer in everybody:
        announce(members, peer)
    phases = np.random.default_rng(1).permutation(size) / size
    filters: set[str] = set()
    whole_s = math.inf
    for beat, k in sorted((interval + phases[k], k) for interval in range(12) for k in range(size)):
        for effect in members.tick(float(beat)):
            if isinstance(effect, Subscribe):
                filters.add(effect.filter)
            elif isinstance(effect, Unsubscribe):
                filters.discard(effect.filter)
        if filters & {ROLL_CALL, f"peer/{everybody[k]}/heartbeat"} and members.listens_to(everybody[k], float(beat)):
            members.hear_heartbeat(everybody[k], Heartbeat(), float(beat))
        if len(members.heard_of()) == size:
            whole_s = min(whole_s, float(beat))
            break
    assert whole_s < 2 + math.log2(size / FIRST) * 1.6


def test_those_who_take_part_are_those_who_are_alive_and_say_so() -> None:
    members, everybody = crowd(40), names(40)
    for number, peer in enumerate(everybody):
        if number % 5 == 0:
            members.hear_announcement(peer, PeerAnnouncement(tasks=("u",)))
        if number % 7 == 0:
            members.hear_state(peer, PeerState(online=False, goodbye=True), 1, 1.0)
    members.tick(0.0)  # draws whose silence is noticed
    announce(members, "stranger" + "x" * 12)
    among = [*everybody, "stranger" + "x" * 12, "nobody"]
    for now_s in (0.0, 5.0, 1_000.0):
        for task in ("t", "u"):
            expected = {p for p in among if members.is_alive(p, now_s) and members.says_it_takes_part(p, task)}
            assert members.taking_part(among, task, now_s) == expected
    assert members.taking_part(among, "t", 0.0) != members.taking_part(among, "t", 1_000.0) != set()
