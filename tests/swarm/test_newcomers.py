"""Who joins a crowd that has trained begins with its model, and does not pull it back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, samples_of
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.test_living_for_years import before_publishing, learner_of
from tests.swarm.world import Node, Trained, Trainer

from grapevine_agent.core import effects as fx
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.errors import TaskError
from grapevine_proto.messages import ModelRequest, ReleasedModel, Vector, plain


def join(group: Crowd, number: int, *, trainer: Trainer | None = None, **changes: object) -> Node:
    key = group.world.key()
    manifest = group.members[0].core.book.entries[group.task].manifest
    trainer = trainer or DigitsTrainer(manifest, samples_of(number), seed=100 + number)
    settings: CoreSettings = replace(group.settings, peer=key.peer_id, **changes)  # type: ignore[arg-type]
    return group.world.add(settings, key, trainer=trainer)


def trained_crowd(num_members: int, *, for_s: float = 8.0, **merging: Any) -> Crowd:
    group = crowd(num_members=num_members, **merging)
    group.world.run(for_s)
    return group


def is_learning(group: Crowd, node: Node) -> bool:
    return group.task in node.core.tasks.learning


def until_it_learns(group: Crowd, node: Node, within_s: float) -> ModelState:
    """The model of a newcomer as soon as it has one."""
    for _ in range(round(within_s / 0.02)):
        group.world.run(0.02)
        if is_learning(group, node):
            return learner_of(group, node).model
    raise AssertionError(f"does not learn after {within_s:g} s")


@pytest.mark.parametrize("strategy", ["doubly-weighted", "age-weighted", "average"])
def test_many_newcomers_at_once_do_not_pull_a_crowd_back(strategy: str) -> None:
    group = trained_crowd(4, for_s=12.0, strategy=strategy)
    veterans = np.mean(group.accuracy(since_s=group.world.now_s - 2))
    newcomers = [join(group, 4 + k) for k in range(8)]
    after = []
    for _ in range(8):
        started_s = group.world.now_s
        group.world.run(0.5)
        after.append(np.mean(group.accuracy(since_s=started_s)))
    assert min(after) > veterans - 0.01
    first = [accuracy for node in newcomers for _, accuracy in node.accuracies[:1]]
    assert len(first) == len(newcomers)
    assert min(first) > veterans - 0.1
    ages = [learner_of(group, node).model.age for node in group.members]
    assert all(learner_of(group, node).model.age < 1.1 * max(ages) for node in newcomers)


def test_a_newcomer_goes_on_where_the_crowd_is_in_the_schedule() -> None:
    group = trained_crowd(3)
    steps = [learner_of(group, node).model.schedule_age for node in group.members]
    model = until_it_learns(group, join(group, 3), 2.0)
    assert min(steps) <= model.schedule_age <= max(steps) + 50
    assert 0 < model.age <= model.schedule_age
    assert model.experience == model.age * 32


def test_members_who_all_begin_together_wait_for_nobody() -> None:
    asked = []
    group = crowd(num_members=4)
    before_publishing(
        group.world,
        lambda _node, effect: asked.append(isinstance(effect.body, ModelRequest)) or effect,  # type: ignore[func-returns-value]
    )
    group.world.run(0.2)
    assert all(is_learning(group, node) for node in group.members)
    assert not any(asked)


def test_where_models_are_not_given_a_newcomer_begins_with_the_initial_weights_at_once() -> None:
    group = crowd(num_members=2)
    for member in group.members:
        member.core.models.settings = replace(member.core.settings, give_models="nobody")
    group.world.run(5)
    model = until_it_learns(group, join(group, 2), 1.0)
    assert model.schedule_age == 0


def test_where_nobody_answers_a_newcomer_begins_after_some_seconds() -> None:
    group = trained_crowd(2, for_s=4.0)
    before_publishing(group.world, lambda _node, effect: None if isinstance(effect.body, ReleasedModel) else effect)
    late = join(group, 2)
    group.world.run(3)
    assert not is_learning(group, late)
    assert not any(reason == "not-joined" for reason in late.dropped)
    assert until_it_learns(group, late, 8.0).schedule_age == 0
    assert "not-joined" not in late.dropped


def test_a_model_that_does_not_fit_is_refused_and_another_member_is_asked() -> None:
    group = trained_crowd(3)
    liar = group.members[0]

    def lie(node: Node, effect: fx.Publish) -> fx.Publish:
        if node is liar and isinstance(effect.body, ReleasedModel):
            return replace(effect, body=replace(effect.body, full=plain(effect.body.full)[:-1]))
        return effect

    before_publishing(group.world, lie)
    late = [join(group, 3 + k) for k in range(6)]
    group.world.run(2)
    assert any("wrong-shape" in node.dropped for node in late)  # one in three asks the liar first
    assert all(learner_of(group, node).model.schedule_age > 200 for node in late)


class Overflowing(DigitsTrainer):
    """A real trainer gives up on numbers that are too large."""

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        if np.abs(parameters).max() > 1e6:
            raise TaskError("training diverged")
        return super().train(parameters, buffers, num_steps)


def test_a_model_that_cannot_be_trained_is_left_for_the_initial_weights() -> None:
    group = trained_crowd(2, for_s=4.0)

    def lie(_node: Node, effect: fx.Publish) -> fx.Publish:
        if isinstance(effect.body, ReleasedModel):
            return replace(effect, body=replace(effect.body, full=np.full_like(effect.body.full, 1e20), age=10**15))
        return effect

    before_publishing(group.world, lie)
    manifest = group.members[0].core.book.entries[group.task].manifest
    late = join(group, 2, trainer=Overflowing(manifest, samples_of(2), seed=5))
    model = until_it_learns(group, late, 2.0)
    assert model.age < 1_000  # as an update's age is capped
    for member in group.members:
        group.world.kill(member)  # nobody's merges help it out
    group.world.run(30)
    learner = learner_of(group, late)
    assert not learner.trials.failure
    assert learner.model.version > 0
    assert np.abs(learner.model.parameters).max() < 1e3


def test_where_members_keep_models_of_their_own_nobody_is_asked() -> None:
    group = trained_crowd(2, for_s=4.0, strategy="chisme")
    assert until_it_learns(group, join(group, 2), 1.0).schedule_age == 0


def test_who_comes_when_all_others_have_finished_is_heard_by_them() -> None:
    """They agree by then, to a hair: any model that is trained still is a thousand times as far from theirs."""
    group = crowd(num_members=6, num_rounds=12)
    group.world.run(20)
    assert all(learner_of(group, node).rest.is_resting for node in group.members)
    for node in group.members:
        node.dropped.clear()
    late = join(group, 6)
    group.world.run(12)
    assert learner_of(group, late).model.version == 12
    assert all(late.peer in learner_of(group, node).model.versions for node in group.members)
    assert {reason for node in group.members for reason in node.dropped} <= {"unchanged"}


class Content(Trainer):
    """Knows its samples by heart: its steps are next to nothing."""

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        return parameters + np.float32(1e-6), buffers, 0.0, num_steps


def test_who_is_started_again_and_hardly_moves_any_more_hears_those_who_have_gone_on() -> None:
    group = trained_crowd(3, for_s=4.0)
    before, others = group.members[0], group.members[1:]
    saved = {group.task: learner_of(group, before).save()}
    group.world.kill(before)
    group.world.run(6)
    again = group.world.add(
        before.core.settings,
        before.key,
        trainer=Content(),
        saved={task: fx.SavedModel(vectors=each.vectors, counters=each.counters) for task, each in saved.items()},
        instead_of=before,
    )
    group.world.run(6)
    assert "out-of-reach" not in again.dropped
    assert all(node.peer in learner_of(group, again).model.versions for node in others)
