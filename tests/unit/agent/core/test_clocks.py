"""Gossip's clock, the view of a server, and presence: the small state machines of the core."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grapevine_agent.core.effects import Subscribe, Unsubscribe
from grapevine_agent.core.learning.gossip import SEND_RATE_POLICIES, SendClock, harmonic, send_rate, staleness_bound
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_agent.core.overlay.members import SAMPLE_ALL_BELOW, Members
from grapevine_proto.messages import Heartbeat, PeerAnnouncement, PeerState, ServerAdvert, ServerModel

# --- gossip ---------------------------------------------------------------------------------------


def test_send_rates_grow_as_their_policy_says() -> None:
    rates = {name: [policy(n) for n in (1, 2, 100)] for name, policy in SEND_RATE_POLICIES.items()}
    assert rates["constant"] == [1, 1, 1]
    assert rates["log-n"] == [1, 1, pytest.approx(math.log(100))]
    assert rates["log-log-n"] == [1, 1, pytest.approx(math.log(math.log(100)))]
    assert rates["linear"] == [1, 2, 100]
    assert send_rate(policy="log-n", sends_per_round=2, round_interval_s=0.5, num_members=100) == pytest.approx(
        4 * math.log(100)
    )


def test_sends_are_a_poisson_process() -> None:
    clock, now_s, gaps = SendClock(np.random.default_rng(0)), 0.0, []
    for _ in range(4000):
        clock.arm(now_s, 2.0)
        gaps.append(clock.next_s - now_s)
        now_s = clock.next_s
    assert np.mean(gaps) == pytest.approx(0.5, rel=0.05)
    assert np.std(gaps) == pytest.approx(0.5, rel=0.08)  # exponential: as large as the mean


def test_targets_are_uniform_and_nobody_is_no_target() -> None:
    clock = SendClock(np.random.default_rng(0))
    picks = [clock.pick(["a", "b", "c", "d"]) for _ in range(4000)]
    for member in "abcd":
        assert picks.count(member) / 4000 == pytest.approx(0.25, abs=0.03)
    assert clock.pick([]) is None


def test_the_staleness_bound_is_lemma_1() -> None:
    assert harmonic(4) == pytest.approx(1 + 1 / 2 + 1 / 3 + 1 / 4)
    assert staleness_bound(num_members=5, update_rate=2.0, send_rate=1.0) == pytest.approx(2 * harmonic(4))
    assert staleness_bound(num_members=1, update_rate=2.0, send_rate=1.0) == 0
    assert staleness_bound(num_members=3, update_rate=2.0, send_rate=0.0) == math.inf


# --- the server -----------------------------------------------------------------------------------

SERVER, ALICE, BOB, GHOST = "s" * 20, "a" * 20, "b" * 20, "g" * 20


def advert(*, online: bool = True) -> ServerAdvert:
    return ServerAdvert(task="t", online=online, model_version=1, contributors=(ALICE, BOB, GHOST), heartbeat_s=1.0)


def reachable_link() -> ServerLink:
    link = ServerLink(SERVER)
    link.hear_advert(advert(), 0.0, retained=False)
    link.hear_advert(advert(), 1.0, retained=False)
    link.model = ServerModel(
        task="t",
        model_version=1,
        age=1,
        full=np.zeros(1, np.float32),
        contributions=dict.fromkeys((ALICE, BOB, GHOST), 1),
    )
    return link


def state_of(link: ServerLink) -> str:
    return link.state


def test_one_sign_of_life_is_not_enough_to_be_reachable() -> None:
    link = ServerLink(SERVER)
    link.hear_advert(advert(), 0.0, retained=True)
    assert state_of(link) == "unknown"
    link.hear_advert(advert(), 0.0, retained=False)
    link.hear_life(0.1)  # the same breath
    assert state_of(link) == "unknown"
    link.hear_life(1.0)
    assert state_of(link) == "reachable"


def test_silence_makes_a_server_suspect_and_then_lost() -> None:
    link = reachable_link()
    for now_s, state in ((2.0, "reachable"), (3.9, "reachable"), (4.1, "suspect"), (10.9, "suspect"), (11.1, "lost")):
        link.tick(now_s)
        assert state_of(link) == state


def test_a_will_makes_it_suspect_at_once_and_two_signs_bring_it_back() -> None:
    link = reachable_link()
    link.hear_gone()
    assert state_of(link) == "suspect"
    link.hear_life(2.0)
    assert state_of(link) == "suspect"
    link.hear_life(3.0)
    assert state_of(link) == "reachable"


def test_a_flapping_server_does_not_make_agents_oscillate() -> None:
    link, changes, before = reachable_link(), 0, "reachable"
    for second in range(2, 60):
        link.tick(float(second))
        if second % 8 == 0:
            link.hear_life(float(second))
        changes += link.state != before
        before = link.state
    assert changes <= 2  # suspect, and perhaps lost; never back and forth


def test_a_servers_voice_is_its_known_contributors_and_fades_with_silence() -> None:
    link = reachable_link()
    known = {ALICE, BOB, "x" * 20}
    assert link.source_weight(1.0, known=known, cap=100) == 2  # nobody has heard of the ghost
    assert link.source_weight(2.0, known=known, cap=100) == 2
    assert link.source_weight(3.0, known=known, cap=100) == 1
    assert link.source_weight(4.0, known=known, cap=100) == 0.5
    assert link.source_weight(1.0, known=known, cap=1.5) == 1.5
    assert link.source_weight(60.0, known=known, cap=100) == 0
    assert ServerLink(SERVER).source_weight(1.0, known=known, cap=100) == 0


def cluster_model(version: int, cluster: int, *members: str) -> ServerModel:
    return ServerModel(
        task="t",
        model_version=version,
        age=version,
        full=np.full(1, version, np.float32),
        members=members,
        cluster=cluster,
    )


def test_a_member_takes_the_model_of_the_cluster_that_names_it() -> None:
    link = ServerLink(SERVER)
    link.hear_model(cluster_model(1, 0), ALICE)
    assert link.model is not None
    assert link.model.model_version == 1
    link.hear_model(cluster_model(2, 0, BOB), ALICE)  # named nowhere yet: cluster 0 is for it too
    assert link.model.model_version == 2
    link.hear_model(cluster_model(3, 1, ALICE), ALICE)
    assert link.model.model_version == 3
    link.hear_model(cluster_model(4, 0, BOB), ALICE)
    link.hear_model(cluster_model(4, 2, GHOST), ALICE)
    assert link.model.model_version == 3
    link.hear_model(cluster_model(5, 1, GHOST), ALICE)  # no longer named
    link.hear_model(cluster_model(5, 0, BOB), ALICE)
    assert link.model.model_version == 5


# --- presence -------------------------------------------------------------------------------------


def crowd(size: int) -> Members:
    members = Members(1.0, np.random.default_rng(0))
    for number in range(size):
        peer = f"{number:020d}"
        members.hear_announcement(peer, PeerAnnouncement(tasks=("t",)))
        members.hear_state(peer, PeerState(online=True), 1, 0.0)
    return members


def test_in_a_small_overlay_everybody_is_listened_to() -> None:
    members = crowd(5)
    effects = members.tick(0.0)
    assert len([e for e in effects if isinstance(e, Subscribe)]) == 5
    assert members.tick(0.5) == []


def test_in_a_large_one_a_rotating_sample_is() -> None:
    members = crowd(400)
    first = {e.filter for e in members.tick(0.0) if isinstance(e, Subscribe)}
    assert len(first) == max(SAMPLE_ALL_BELOW, math.ceil(3 * math.log(400)))
    effects = members.tick(11.0)
    dropped = {e.filter for e in effects if isinstance(e, Unsubscribe)}
    assert dropped
    assert dropped <= first
    assert len(members.sampled_since_s) == len(first)


def test_a_silent_peer_is_not_counted_on_even_without_its_will() -> None:
    members = crowd(2)
    members.tick(0.0)
    quiet, loud = sorted(members.peers)
    for second in range(1, 6):
        members.hear_heartbeat(loud, Heartbeat(), float(second))
    assert members.of_task("t", 5.0) == [loud]
    members.hear(quiet, 6.0)
    assert members.of_task("t", 6.0) == [quiet, loud]


def test_a_peer_that_says_goodbye_is_gone_and_leaves_the_sample() -> None:
    members = crowd(2)
    members.tick(0.0)
    leaver = min(members.peers)
    members.hear_state(leaver, PeerState(online=False), 1, 1.0)
    assert leaver not in members.of_task("t", 1.0)
    assert [type(e) for e in members.tick(1.0)] == [Unsubscribe]


def test_a_peer_that_left_a_task_is_no_neighbour_in_it() -> None:
    members = crowd(2)
    leaver = min(members.peers)
    members.hear_announcement(leaver, PeerAnnouncement(tasks=("other",)))
    assert leaver not in members.of_task("t", 0.0)
    assert members.of_task("other", 0.0) == [leaver]


def test_the_book_of_peers_is_bounded_and_the_offline_go_first() -> None:
    members = crowd(3)
    members.capacity = 3
    gone = sorted(members.peers)[1]
    members.hear_state(gone, PeerState(online=False), 1, 1.0)
    members.hear_announcement("n" * 20, PeerAnnouncement(tasks=("t",)))
    assert gone not in members.peers
    assert "n" * 20 in members.peers
    members.hear_announcement("m" * 20, PeerAnnouncement())
    assert len(members.peers) == 3


# --- the model ------------------------------------------------------------------------------------


def state(value: float) -> ModelState:
    return ModelState.initial(np.array([value], np.float32), np.empty(0, np.float32))


def test_a_training_step_is_added_to_the_model_as_mixed_meanwhile() -> None:
    model = state(1.0)
    start = model.parameters
    model.parameters = np.array([5.0], np.float32)  # merged while the trainer was at work
    end = np.array([1.5], np.float32)
    model.add_training(start=start, end=end, start_buffers=model.buffers, end_buffers=model.buffers)
    assert model.parameters.tolist() == [5.5]
    assert start.tolist() == [1.0]


def test_the_released_model_is_an_average_of_merged_ones_with_a_warm_start() -> None:
    model = state(0.0)
    model.parameters, model.round = np.array([11.0], np.float32), 1
    model.release(0.95)
    assert model.released.tolist() == [pytest.approx(11 * 10 / 11)]  # β = 1/11
    model.round = 10_000
    model.parameters = np.array([0.0], np.float32)
    model.release(0.95)
    assert model.released.tolist() == [pytest.approx(9.5)]


def test_staleness_counts_the_versions_that_a_model_lags_behind() -> None:
    model = state(0.0)
    model.versions = {ALICE: 7}
    assert model.mean_staleness({ALICE: 10, BOB: 5}) == 4
    assert model.mean_staleness({}) == 0
