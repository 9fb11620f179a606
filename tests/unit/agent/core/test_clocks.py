"""Gossip's clock, and the view of a server: the small state machines of the core."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grapevine_agent.core.learning.gossip import (
    SEND_RATE_POLICIES,
    UNPROVED_AT_LEAST,
    UNPROVED_PER_USEFUL,
    SendClock,
    Targets,
    harmonic,
    send_rate,
    staleness_bound,
)
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.server_link import ServerLink
from grapevine_proto.messages import ServerAdvert, ServerModel

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
    for useful in ([], ["a", "b"], list("abcd")):
        picks = [clock.pick(Targets(everybody=list("abcd"), useful=useful)) for _ in range(4000)]
        for member in "abcd":
            assert picks.count(member) / 4000 == pytest.approx(0.25, abs=0.03)
    assert clock.pick(Targets(everybody=[], useful=[])) is None


def invented(num: int) -> list[str]:
    return [f"x{k:04d}" for k in range(num)]


def test_half_of_the_sends_go_to_members_that_were_of_use_however_many_others_there_are() -> None:
    clock = SendClock(np.random.default_rng(0))
    targets = Targets(everybody=["a", "b", *invented(5_000)], useful=["a", "b"])
    picks = [clock.pick(targets) for _ in range(4000)]
    assert picks.count("a") / 4000 == pytest.approx(0.25, abs=0.03)
    assert picks.count("b") / 4000 == pytest.approx(0.25, abs=0.03)


def test_of_members_that_were_only_heard_a_bounded_number_counts() -> None:
    assert Targets(everybody=invented(40), useful=[]).num_counted == 40
    assert Targets(everybody=["a", *invented(5_000)], useful=["a"]).num_counted == 1 + UNPROVED_AT_LEAST
    many = [f"m{k:03d}" for k in range(100)]
    assert Targets(everybody=[*many, *invented(5_000)], useful=many).num_counted == 100 * (1 + UNPROVED_PER_USEFUL)


def test_a_round_is_sent_to_all_useful_members_and_a_bounded_number_of_others() -> None:
    rng = np.random.default_rng(0)
    sent_to = Targets(everybody=["a", *invented(5_000)], useful=["a"]).counted(rng)
    assert "a" in sent_to
    assert len(set(sent_to)) == 1 + UNPROVED_AT_LEAST
    assert Targets(everybody=["a", "b"], useful=[]).counted(rng) == ["a", "b"]


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


def test_a_server_whose_clock_ran_ahead_and_who_forgot_it_is_taken_again() -> None:
    """Its sessions begin below those that others have seen, and so do its versions."""
    link, year_ms, now_ms = ServerLink(SERVER), 365 * 86_400_000, 1_750_000_000_000
    for session, version, held in (
        (now_ms + 10 * year_ms, 100, 100),
        (now_ms, 3, 3),
        (now_ms, 2, 3),  # an earlier one of the same session
        (now_ms - 1, 200, 3),
        (now_ms + 1, 1, 1),  # it has restarted
    ):
        link.hear_model(cluster_model(version, 0), ALICE, session, now_ms)
        assert link.model is not None
        assert link.model.model_version == held


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
    model.parameters = np.array([11.0], np.float32)
    model.release(0.95)
    assert model.released.tolist() == [pytest.approx(11 * 6 / 7)]  # β = 1/7
    model.num_released = 10_000
    model.parameters = np.array([0.0], np.float32)
    model.release(0.95)
    assert model.released.tolist() == [pytest.approx(0.95 * 11 * 6 / 7)]
