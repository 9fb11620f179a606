"""Models go to disk when they changed, and no more often than the owner lets them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.learning_crowd import crowd
from tests.swarm.test_resting import Walking
from tests.swarm.world import Node, Trainer

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.keeping import DAY_S, FILE_BYTES, Keeper, SaveBudget


def model(number: float = 1.0, *, task: str = "t", size: int = 1000, **counters: int) -> fx.SaveModel:
    return fx.SaveModel(task=task, vectors={"parameters": np.full(size, number, np.float32)}, counters=counters)


def test_what_has_not_changed_is_not_saved_again() -> None:
    keeper = Keeper(budget=SaveBudget(save_every_s=5.0))
    assert keeper.due(model(age=3, round=1), 0.0) != []
    assert keeper.next_s == 5.0
    assert keeper.due(model(age=3, round=2), 5.0) == []  # a round in which nothing happened
    assert keeper.due(model(1.0 + 1e-6, age=3, round=3), 10.0) == []  # the last digits
    assert keeper.due(model(age=4, round=3), 15.0) != []
    assert keeper.due(model(1.001, age=4, round=3), 20.0) != []
    assert keeper.if_changed(model(1.001, age=4, round=9)) == []
    drift = [keeper.due(model(1.001 * (1 + 3e-6 * step), age=4), 25.0 + step) for step in range(1, 8)]
    assert [bool(each) for each in drift] == [False, False, False, True, False, False, False]


def test_where_models_are_large_all_of_them_are_saved_more_seldom() -> None:
    budget = SaveBudget(save_every_s=5.0, bytes_per_day=100 * 2**20)
    small, large = Keeper(budget=budget), Keeper(budget=budget)
    small.due(model(), 0.0)
    assert small.next_s == pytest.approx(DAY_S * (4000 + FILE_BYTES) / (100 * 2**20), rel=0.01)
    large.due(model(task="large", size=500_000), 0.0)
    small.due(model(age=1), 100.0)
    assert small.next_s - 100.0 == large.next_s == budget.interval_s == pytest.approx(1657, rel=0.01)
    budget.leave("large")
    assert budget.interval_s == pytest.approx(10, rel=0.1)


def _run(seconds: float, **settings: float) -> tuple[int, int, list[float]]:
    """Two members that train all the time. Returns bytes, saves, and each save's lag behind the model, in seconds."""
    group = crowd(num_members=1, sends_per_round=0.2)
    group.members[0].trainer = Walking(1)
    key = group.world.key()
    measured = group.world.add(replace(group.settings, peer=key.peer_id, **settings), key, trainer=Walking(3))  # type: ignore[arg-type]
    num_bytes, saves, perform = [0], [0], group.world.perform

    def watched(node: Node, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            if node is measured and isinstance(effect, fx.SaveModel | fx.SaveBest):
                num_bytes[0] += FILE_BYTES + sum(vector.nbytes for vector in effect.vectors.values())
                saves[0] += isinstance(effect, fx.SaveModel)
            perform(node, [effect])

    group.world.perform = watched  # type: ignore[method-assign]
    lost = []
    for _ in range(int(seconds / 2)):
        group.world.run(2)
        learner = measured.core.tasks.learning.get(group.task)
        if learner is not None and group.task in measured.saved:
            trained_each_s = 10 / 0.25  # steps, at most
            lost.append((learner.model.age - measured.saved[group.task].counters["age"]) / trained_each_s)
    return num_bytes[0], saves[0], lost


def test_a_day_of_training_writes_what_the_owner_allows_and_a_kill_costs_the_interval() -> None:
    seconds, budget = 160.0, 100 * 2**20
    num_bytes, saves, lost = _run(seconds, save_every_s=5.0, save_bytes_per_day=float(budget))
    size = 3 * 4 * 4_810 + 2 * FILE_BYTES  # working and released model, and the best beside them
    interval_s = DAY_S * size / budget
    assert interval_s > 30
    assert num_bytes <= budget * seconds / DAY_S + size  # the first is written at once
    assert saves >= 3
    assert max(lost) <= interval_s + 1
    assert max(lost) > 5
    _, many, lost = _run(40.0, save_every_s=5.0)
    assert many >= 7
    assert max(lost) <= 6


def test_a_task_in_which_nothing_happens_is_saved_once() -> None:
    group = crowd(num_members=1, num_rounds=2)
    group.members[0].trainer = Trainer()
    group.world.run(60)
    saved = group.members[0].saved[group.task]
    group.world.run(120)
    assert group.members[0].saved[group.task] is saved
    effects = group.members[0].core.goodbye()
    assert not any(isinstance(each, fx.SaveModel) for each in effects)
