"""Members whose governor holds them back: what stops, what goes on, and that nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import Node, Trained, Trainer

from grapevine_agent.core import effects as fx
from grapevine_agent.core.governor.budget import SLOW
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.paused import GRACE_S
from grapevine_agent.core.settings import DeviceLimits, GovernorLimits
from grapevine_proto.messages import Vector

HOT, COOL = Readings(temperature_c=90.0), Readings(temperature_c=40.0)


class Walking(Trainer):
    """Learns quickly: each step takes the model somewhere else. It notes when it was asked."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.num_asked = 0

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        self.num_asked += 1
        return parameters + self._rng.normal(0, 0.1, parameters.size).astype(np.float32), buffers, 0.0, num_steps


def governed(limits: GovernorLimits, *, train_s: float = 0.05, **merging: Any) -> tuple[Crowd, Node, Walking]:
    """A crowd, of which the last member has these limits."""
    group = crowd(num_members=2, **merging)
    key, trainer = group.world.key(), Walking(7)
    settings = replace(
        group.settings, peer=key.peer_id, governor=limits, limits=DeviceLimits(memory_mb=1000, watts_training=6.0)
    )
    node = group.world.add(settings, key, trainer=trainer, train_s=train_s)
    for number, other in enumerate(group.members):
        other.trainer = Walking(number)
    group.world.run(8)
    assert trainer.num_asked > 3
    return group, node, trainer


def reads(group: Crowd, node: Node, readings: Readings) -> None:
    group.world.perform(node, node.core.governed(readings, group.world.moment()))


def learner(group: Crowd, node: Node) -> Learning:
    return node.core.tasks.learning[group.task]


@pytest.mark.parametrize("merging", [{}, {"strategy": "median"}, {"send_rate": "token-account"}], ids=str)
def test_what_is_too_hot_trains_no_more_and_goes_on_merging_and_being_there(merging: dict[str, Any]) -> None:
    group, node, trainer = governed(GovernorLimits(pause_above_c=80.0), **merging)
    reads(group, node, HOT)
    group.world.run(1)  # a step that was under way ends
    asked, merged, kept = trainer.num_asked, learner(group, node).merging.num_merged, len(node.accuracies)
    group.world.run(8)
    assert trainer.num_asked == asked
    assert len(node.accuracies) <= kept + 1, "nothing is evaluated either: that takes a trainer"
    assert learner(group, node).merging.num_merged > merged + 3
    now_s = group.world.moment().monotonic_s
    assert all(other.core.members.is_alive(node.peer, now_s) for other in group.members), "slow is not dead"
    assert node.log[-1] == "training is paused: it is 90 °C hot, 80 °C is the limit [pause_above_c]"
    reads(group, node, HOT)
    group.world.clock_ahead_ms += 70_000  # wall time says nothing of how long it held
    reads(group, node, COOL)
    group.world.run(1)
    assert trainer.num_asked == asked, "not for a moment's coolness"
    group.world.run(55)
    reads(group, node, COOL)
    group.world.run(2)
    assert trainer.num_asked > asked + 3
    lines = [line for line in node.log if line.startswith("training")]
    assert lines[1:] == ["training goes on: pause_above_c holds no more"]


def test_a_step_that_outlasts_its_grace_is_thrown_away_and_the_model_of_before_is_kept() -> None:
    group, node, _ = governed(GovernorLimits(pause_above_c=80.0))
    node.train_s = 1_000.0
    group.world.run(5)
    assert learner(group, node).training is not None
    version = learner(group, node).model.version
    reads(group, node, HOT)
    group.world.run(GRACE_S - 1)
    assert learner(group, node).training is not None, "it may end yet"
    group.world.run(2)
    assert learner(group, node).training is None
    group.world.run(learner(group, node).keeper.budget.interval_s)
    assert node.saved[group.task].counters["version"] == version
    node.train_s = 0.05
    reads(group, node, COOL)
    group.world.run(2)
    assert learner(group, node).model.version > version


def test_a_limit_that_comes_and_goes_writes_no_more_than_the_owner_lets_it() -> None:
    group, node, _ = governed(GovernorLimits(pause_above_c=80.0))
    budget = learner(group, node).keeper.budget
    budget.save_every_s = 10_000.0
    group.world.run(6)  # what was due before
    kept = node.saved[group.task].counters["version"]
    for _ in range(4):
        reads(group, node, HOT)
        group.world.run(GRACE_S + 2)
        reads(group, node, COOL)
        group.world.run(3)
    assert learner(group, node).model.version > kept
    assert node.saved[group.task].counters["version"] == kept
    reads(group, node, HOT)
    group.world.run(1)
    learner(group, node).keeper.next_s = 0.0
    group.world.run(1)
    assert node.saved[group.task].counters["version"] == learner(group, node).model.version, "due in a pause, too"


def test_what_a_step_that_failed_drew_is_counted() -> None:
    group, node, _ = governed(GovernorLimits(joules_per_day=1e9))
    node.train_s = 1_000.0
    group.world.run(5)
    day = node.core.governing.governor.day
    joules, seconds = day.joules, day.training_s
    failed = fx.Trained(task=group.task, error="killed", seconds=5.0)
    group.world.perform(node, node.core.trained(failed, group.world.moment()))
    assert day.joules - joules == pytest.approx(30.0)
    assert day.training_s - seconds == pytest.approx(5.0)


def test_a_duty_cycle_slows_nobody_who_keeps_to_it_already_and_no_merging() -> None:
    group, node, trainer = governed(GovernorLimits(duty_cycle=0.25))
    asked, since_s = trainer.num_asked, group.world.moment().monotonic_s
    group.world.run(10)
    interval_s = learner(group, node).pace.round_interval_s
    assert node.train_s < 0.25 * interval_s
    passed_s = group.world.moment().monotonic_s - since_s
    assert trainer.num_asked - asked == pytest.approx(passed_s / interval_s, abs=1.5)


def test_for_want_of_memory_the_trainer_ends_at_once() -> None:
    group, node, _ = governed(GovernorLimits(memory_pressure_percent=40.0))
    effects = node.core.governed(Readings(memory_pressure_percent=70.0), group.world.moment())
    assert [type(each) for each in effects if isinstance(each, fx.StopTrainer | fx.StartTrainer)] == [
        fx.StopTrainer,
        fx.StartTrainer,
    ]


@pytest.mark.parametrize(
    ("limits", "readings", "share"),
    [
        (GovernorLimits(slow_above_c=60.0), Readings(temperature_c=65.0), 1 / SLOW),
        (GovernorLimits(on_battery="slow"), Readings(on_battery=True), 1 / SLOW),
        (GovernorLimits(throttling="slow"), Readings(throttled="hot"), 1 / SLOW),
        (GovernorLimits(duty_cycle=0.5), Readings(), 0.5),
    ],
)
def test_who_is_slowed_down_trains_for_a_share_of_the_time(
    limits: GovernorLimits, readings: Readings, share: float
) -> None:
    group, node, trainer = governed(limits, train_s=1.0)
    reads(group, node, readings)
    group.world.run(5)
    asked = trainer.num_asked
    group.world.run(40)
    assert 0.7 * share < (trainer.num_asked - asked) * 1.0 / 40 <= 1.1 * share


def test_a_member_whose_joules_are_spent_waits_for_midnight() -> None:
    group, node, trainer = governed(GovernorLimits(joules_per_day=100.0), train_s=1.0)  # of 6 W: 17 steps
    group.world.run(25)
    used = node.core.governing.governor.day
    assert 100.0 <= used.joules < 107.0
    assert used.training_s == pytest.approx(used.joules / 6.0)
    assert learner(group, node).energy_j == used.joules
    assert (learner(group, node).energy.round_j, learner(group, node).energy.by) == (6.0, "modelled")
    asked = trainer.num_asked
    midnight = node.core.governing.governor.budget().until_ms
    group.world.clock_ahead_ms += midnight - group.world.moment().wall_ms - 3_000
    group.world.run(2.5)
    assert trainer.num_asked == asked
    group.world.run(3)
    assert trainer.num_asked > asked


@pytest.mark.parametrize(
    "merging", [{}, {"send_rate": "every-round"}, {"send_rate": "token-account"}, {"exchange": "push-pull"}], ids=str
)
def test_a_member_whose_bytes_are_spent_sends_no_model_and_learns_on(merging: dict[str, Any]) -> None:
    group, node, trainer = governed(GovernorLimits(upload_bytes_per_day=10_000_000), **merging)

    def models_sent() -> int:
        return learner(group, node).num_sent

    before = models_sent()
    assert before > 0
    node.core.governing.governor.sent(10_000_000)
    asked, merged = trainer.num_asked, learner(group, node).merging.num_merged
    group.world.run(8)
    assert models_sent() == before
    assert trainer.num_asked > asked + 3
    assert learner(group, node).merging.num_merged > merged + 3
    assert any("no more models are sent today" in line for line in node.log)
    now_s = group.world.moment().monotonic_s
    assert all(other.core.members.is_alive(node.peer, now_s) for other in group.members)


def test_the_days_bytes_are_kept_to_before_they_have_left() -> None:
    """What leaves is counted by the shell, later: a crowd of sends in one moment must not overdraw."""
    group, node, _ = governed(GovernorLimits(upload_bytes_per_day=10_000_000), send_rate="every-round")
    size = learner(group, node).pace.update_bytes
    node.core.governing.governor.sent(10_000_000 - int(2.5 * size))
    before = learner(group, node).num_sent
    group.world.run(5)  # this world's shell counts nothing
    assert learner(group, node).num_sent - before <= 2


def test_a_paused_task_lets_another_train_and_its_owner_resumes_it() -> None:
    group, node, trainer = governed(GovernorLimits())
    group.world.perform(node, node.core.pause(group.task, 5.0, group.world.moment()))
    group.world.run(1)
    asked = trainer.num_asked
    group.world.run(3)
    assert trainer.num_asked == asked
    assert "its owner paused" in node.log[-1]
    group.world.run(3)
    assert trainer.num_asked > asked, "its time is over"
    group.world.perform(node, node.core.pause("", None, group.world.moment()))
    group.world.run(1)
    asked = trainer.num_asked
    group.world.run(10)
    assert trainer.num_asked == asked
    group.world.perform(node, node.core.resume("", group.world.moment()))
    group.world.run(5)
    assert trainer.num_asked > asked


def test_what_holds_is_kept_and_holds_in_the_next_life() -> None:
    group, node, _ = governed(GovernorLimits())
    effects = node.core.pause("", 3600.0, group.world.moment())
    state = next(each.state for each in effects if isinstance(each, fx.SaveGovernor))
    node.core.governing.governor.sent(123)
    last = [each.state for each in node.core.goodbye() if isinstance(each, fx.SaveGovernor)]
    assert len(last) == 1
    assert last[0] != state
    key = group.world.key()
    again = group.world.add(replace(group.settings, peer=key.peer_id), key)
    again.core.governing.restore(last[0], group.world.moment())
    assert not again.core.governing.governor.budget().may_train
    assert again.core.governing.governor.day.bytes_sent == 123
