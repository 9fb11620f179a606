"""An owner writes `judge_updates = false`, or takes it back, while real cores learn and serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node

from grapevine_agent.core.effects import Evaluate, Evaluated
from grapevine_agent.core.learning.rollback import LEAST, TIMES


def change(group: Crowd, node: Node, *, judges: bool) -> None:
    settings = replace(node.core.settings, judge_updates=judges)
    group.world.perform(node, node.core.set_settings(settings, group.world.moment()))


def test_it_holds_at_once_for_tasks_that_are_learned_and_served() -> None:
    group = crowd(num_members=2, learns=False)
    member, server = group.members[0], group.start_server()
    group.world.run(5)
    guard = member.core.tasks.learning[group.task].merging.guard
    guards = (guard, server.core.tasks.aggregating[group.task].guard)
    assert all(each.is_on for each in guards)
    for _ in range(6):
        guard.quarantine.refused("eve", "it lies", 0)
    assert guard.quarantine.held(0)
    for judges in (False, True):
        for node in (member, server):
            change(group, node, judges=judges)
        assert [each.is_on for each in guards] == [judges, judges]
        assert not guard.quarantine.held(0), "everybody is listened to"


@pytest.mark.parametrize("judges", [True, False])
def test_who_judges_nothing_does_not_go_back_to_its_best_model_either(*, judges: bool) -> None:
    group = crowd(num_members=2, learns=False)
    member = group.members[0]
    group.world.run(5)
    change(group, member, judges=judges)
    learner, asked = member.core.tasks.learning[group.task], 0
    num = learner.best.held.num_evaluated if learner.best.held is not None else 20
    for loss in (*[0.3] * (LEAST + 1), *[30.0] * TIMES):
        of = learner.model.to_evaluate(group.task)
        evaluation = Evaluated(
            task=group.task, round=of.round, loss=loss, metric=1 / (1 + loss), num_evaluated=num, of=of
        )
        effects = learner.evaluated(evaluation, group.world.moment())
        asked += sum(isinstance(each, Evaluate) and each.which == "best" for each in effects)
    assert asked == judges
