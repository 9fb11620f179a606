"""Floods of invented peers: who was heard goes on learning as if they were not there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, samples_of
from tests.swarm.floods import Flood
from tests.swarm.learning_crowd import Crowd, crowd

from grapevine_agent.core.learning.gossip import UNPROVED_AT_LEAST
from grapevine_agent.core.overlay.allowance import FIRST
from grapevine_agent.core.overlay.gate import STRANGERS_BURST, STRANGERS_PER_S
from grapevine_agent.core.overlay.members import MAX_TO_ASK

LEARNT_S = 10.0  # of peace, in which learners get to know each other
AFTER_S = 20.0  # from the flood's beginning
POINT = 0.01


def learners(num: int) -> Crowd:
    """Learners alone: whoever made the task has gone."""
    group = crowd(num_members=num)
    group.world.run(LEARNT_S - 2)
    for other in (group.engineer, *group.reviewers):
        group.world.kill(other)
    group.world.run(2)
    group.world.letters.clear()
    return group


@cache
def undisturbed(num: int) -> tuple[float, int]:
    """Accuracy at the end, and the number of letters, without a flood."""
    group = learners(num)
    group.world.run(AFTER_S)
    return float(np.mean(group.accuracy(since_s=group.world.now_s - 5))), group.world.letters.total()


# The whole flood once; the other forms with fewer peers, at the same pace: signatures are real, and take their time.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("num_learners", "num_peers", "form"),
    [
        (2, 7_000, {}),
        (2, 1_500, {"has_wills": True}),
        (2, 1_500, {"heartbeat_s": 1.0}),
        (5, 1_500, {}),
        (5, 1_000, {"heartbeat_s": 1.0}),
    ],
)
def test_invented_peers_cost_learners_less_than_a_point(
    num_learners: int, num_peers: int, form: dict[str, float]
) -> None:
    accuracy, num_letters = undisturbed(num_learners)
    group = learners(num_learners)
    flood = Flood(group.world, group.task, num_peers=num_peers, for_s=12.0 * num_peers / 7_000, **form)  # type: ignore[arg-type]
    flood.begin()
    read = group.members[0].num_read
    group.world.run(AFTER_S)

    assert np.mean(group.accuracy(since_s=group.world.now_s - 5)) > accuracy - POINT
    void, sent = flood.num_letters()
    members = group.members[0].core.members
    if flood.heartbeat_s:
        rate = group.members[0].core.tasks.learning[group.task].send_rate(group.world.moment())
        draws = num_learners * rate * AFTER_S  # of which some send nothing: real members get nothing twice
        assert 0 < void < 0.55 * draws  # half, and chance
        assert sent - void > 0.9 * num_letters
        counted = np.log(1 + 5 * num_learners + UNPROVED_AT_LEAST)  # however many there are
        assert rate <= 8.0 * counted  # two sends a round, four rounds a second
    else:
        assert void == 0
        assert members.num_alive(group.world.now_s) == num_learners - 1
        assert group.members[0].num_read - read < STRANGERS_BURST + STRANGERS_PER_S * AFTER_S + 2 * num_letters


def test_who_comes_after_a_flood_finds_those_who_are_there() -> None:
    group = learners(2)
    flood = Flood(group.world, group.task, num_peers=1_000, for_s=1.0)
    flood.begin()
    group.world.run(3)
    manifest = group.members[0].core.book.entries[group.task].manifest
    key = group.world.key()
    late = group.world.add(
        replace(group.settings, peer=key.peer_id), key, trainer=DigitsTrainer(manifest, samples_of(2), seed=9)
    )
    group.world.run(10)
    now_s = group.world.now_s
    assert group.task in late.core.tasks.learning  # it was given the weights
    assert late.core.members.of_task(group.task, now_s) == sorted(member.peer for member in group.members)
    for member in group.members:
        assert late.peer in member.core.members.of_task(group.task, now_s)
    assert len(late.core.members.to_ask(group.task, now_s)) == 2 < MAX_TO_ASK


def test_invented_members_are_taken_in_no_faster_than_a_crowd_can_double() -> None:
    group = learners(2)
    flood = Flood(group.world, group.task, num_peers=600, for_s=0.5, heartbeat_s=1.0)
    flood.begin()
    counts = []
    for _ in range(3):
        group.world.run(1)
        counts.append(group.members[0].core.members.num_alive(group.world.now_s))
    assert all(count <= (FIRST + 1) * 2 ** (k + 1) for k, count in enumerate(counts))
    assert counts[-1] > counts[0]  # they are many, and beat
