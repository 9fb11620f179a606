"""A finished task: its members slow down once merging moves nothing, and wake when there is news."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node, Trained, Trainer

from grapevine_agent.core.learning.rest import EVALUATE_ROUNDS, MOVES, QUIET_ROUNDS, Rest
from grapevine_proto.messages import Vector

HEARTBEAT_S = 1.0  # of a crowd


class Walking(Trainer):
    """Learns quickly: each step takes the model somewhere else."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        step = self._rng.normal(0, 0.1, parameters.size).astype(np.float32)
        return parameters + step, buffers, 0.0, num_steps


def _finished(num_members: int = 4, **merging: Any) -> Crowd:
    group = crowd(num_members=num_members, num_rounds=4, **merging)
    for number, node in enumerate(group.members):
        node.trainer = Walking(number)
    group.world.run(40)
    return group


def _sent(group: Crowd) -> int:
    return sum(node.core.tasks.learning[group.task].num_sent for node in group.members)


def _rests(group: Crowd, node: Node) -> bool:
    return node.core.tasks.learning[group.task].rest.is_resting


@pytest.mark.parametrize(
    "merging",
    [
        {},
        {"send_rate": "every-round"},
        {"strategy": "delta-sum", "update_form": "delta"},
        {"strategy": "median"},
        {"strategy": "chisme"},
    ],
    ids=str,
)
def test_members_of_a_finished_task_come_to_rest(merging: dict[str, Any]) -> None:
    group = _finished(**merging)
    assert all(_rests(group, node) for node in group.members)
    group.world.run(200)  # the released model, an average, follows the merged one to its last digits
    before, saved = _sent(group), [node.saved[group.task] for node in group.members]
    evaluations = sum(len(node.accuracies) for node in group.members)
    group.world.run(100)
    sent = _sent(group) - before
    if merging.get("update_form") == "delta":  # each round is a window, in which every base is sent
        assert 150 < sent < 4 * 100 / HEARTBEAT_S * 1.3  # one for each member and heartbeat; awake it would be 4,500
    else:  # everybody has it
        assert sent <= 4 * 3
    assert sum(len(node.accuracies) for node in group.members) - evaluations < 4 * 12
    # Nothing is written of what did not change.
    assert all(node.saved[group.task] is before for node, before in zip(group.members, saved, strict=True))


def test_news_wakes_everybody_and_then_they_rest_again() -> None:
    group = _finished()
    key = group.world.key()
    late = group.world.add(replace(group.settings, peer=key.peer_id), key, trainer=Walking(99))
    models = [node.core.tasks.learning[group.task].model.parameters for node in group.members]
    group.world.run(4)
    learner = late.core.tasks.learning[group.task]
    assert learner.model.version == 4
    assert not any(_rests(group, node) for node in group.members)  # within three heartbeats
    group.world.run(60)
    assert all(_rests(group, node) for node in [*group.members, late])
    for node, model in zip(group.members, models, strict=True):
        now = node.core.tasks.learning[group.task].model.parameters
        assert np.linalg.norm(now - model) > 10 * MOVES * np.linalg.norm(now)
        assert np.linalg.norm(now - learner.model.parameters) < 1e-4 * np.linalg.norm(now)


def test_a_member_that_is_alone_rests_too_and_one_that_trains_never_does() -> None:
    alone, busy = _finished(num_members=1), crowd(num_members=2)
    assert _rests(alone, alone.members[0])
    for node in busy.members:
        node.trainer = Trainer()  # whose training moves nothing at all
    busy.world.run(40)
    assert not any(_rests(busy, node) for node in busy.members)


def test_at_rest_the_released_model_is_evaluated_when_it_moved_and_else_now_and_then() -> None:
    rest = Rest(heartbeat_s=5.0, num_quiet=QUIET_ROUNDS)
    model = np.ones(100, np.float32)
    assert rest.evaluates(model)
    asked = [rest.evaluates(model * np.float32(1 + 1e-5 * k)) for k in range(EVALUATE_ROUNDS)]
    assert asked == [False] * (EVALUATE_ROUNDS - 1) + [True]
    assert rest.evaluates(model * np.float32(1.1))
    awake = Rest(heartbeat_s=5.0)
    assert all(awake.evaluates(model) for _ in range(5))
