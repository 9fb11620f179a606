"""New versions of a task: who moves, what is kept, and who is not followed; released models on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import built_digits
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import EPOCH_MS, Node

from grapevine_agent.core.effects import Publish
from grapevine_agent.core.settings import GiveModels
from grapevine_proto.manifest import TaskManifest, WeightsRef
from grapevine_proto.messages import ReleasedModel, Vector, plain
from grapevine_proto.topics import InboxTopic


def child_of(group: Crowd, parent: str, publisher: Node, **changes: object) -> TaskManifest:
    entry = group.members[0].core.book.entries[parent]
    now_ms = EPOCH_MS + int(group.world.now_s * 1000)
    fields: Mapping[str, object] = {
        "publisher": publisher.peer,
        "parent": parent,
        "version": entry.manifest.version + 1,
        "created_at_ms": now_ms,
        **changes,
    }
    return replace(entry.manifest, **fields)  # type: ignore[arg-type]


def revised(group: Crowd, publisher: Node | None = None, **changes: object) -> str:
    """Publish a new version of the crowd's task, approve it, and let time pass."""
    engineer = publisher or group.engineer
    child = group.world.publish_task(engineer, child_of(group, group.task, engineer, **changes), built_digits().weights)
    group.world.run(0.5)
    for reviewer in group.reviewers:
        group.world.approve(reviewer, child)
    group.world.run(3)
    return child


def test_members_move_to_a_new_version_and_keep_their_age() -> None:
    group = crowd(num_members=3)
    group.world.run(20)
    ages = [member.core.tasks.learning[group.task].model.age for member in group.members]
    child = revised(group)
    for member, age in zip(group.members, ages, strict=True):
        assert group.task not in member.core.tasks.learning
        model = member.core.tasks.learning[child].model
        assert model.age >= age > 100
        assert 0 < model.version < 20
        assert member.core.tasks.tasks() == (child,)
        assert any("replaced by its version 2" in line for line in member.log)
    merged = group.members[0].core.tasks.learning[child].merging
    group.world.run(5)
    assert merged.num_merged > 3
    believed = max(merged.claims.ages.values())
    assert merged.claims.believed_age(group.members[1].peer, believed, group.world.moment()) == believed


def test_members_that_do_not_approve_the_new_version_go_on_with_the_old_one() -> None:
    group = crowd(num_members=2)
    group.world.run(10)
    child = group.world.publish_task(
        group.engineer, child_of(group, group.task, group.engineer), built_digits().weights
    )
    group.world.run(3)
    core = group.members[0].core
    assert core.tasks.tasks() == (group.task,)
    why = core.why_not(core.book.entries[child], group.world.moment())
    assert why[0] == "0 of 2 approvals by trusted reviewers"
    assert "consent of its own" in why[1]


def test_a_child_by_another_publisher_inherits_and_replaces_nothing() -> None:
    group = crowd(num_members=2)
    group.world.run(10)
    child = revised(group, group.members[1])
    member = group.members[0]
    assert member.core.tasks.tasks() == tuple(sorted((group.task, child)))
    assert member.core.tasks.learning[child].model.age < member.core.tasks.learning[group.task].model.age - 50


def test_a_child_whose_version_is_not_higher_is_no_child() -> None:
    group = crowd(num_members=2)
    group.world.run(10)
    child = revised(group, version=1)
    assert group.members[0].core.tasks.tasks() == tuple(sorted((group.task, child)))


def test_a_new_version_of_a_retracted_task_begins_from_the_model_that_was_saved() -> None:
    group = crowd(num_members=2)
    group.world.run(10)
    group.world.perform(group.engineer, group.engineer.core.retract(group.task, "mistake"))
    group.world.run(1)
    member = group.members[0]
    assert not member.core.tasks.learning
    age = member.saved[group.task].counters["age"]
    child = revised(group)
    assert member.core.tasks.learning[child].model.age >= age > 50


def test_a_new_version_with_other_parameters_begins_from_its_initial_weights() -> None:
    from torch import nn, zeros

    from grapevine_tasks.authoring.export import build_program

    group = crowd(num_members=2)
    group.world.run(30)
    program, weights = build_program(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), zeros(3, 8, 8))
    from grapevine_tasks.weights import reference_to

    reference: WeightsRef = reference_to(weights)
    child = group.world.publish_task(
        group.engineer,
        child_of(group, group.task, group.engineer, program=program, initial_weights=reference),
        weights,
    )
    age = group.members[0].core.tasks.learning[group.task].model.age
    for member in group.members:
        member.trainer.train = lambda p, b, n: (p, b, 0.0, n)  # type: ignore[method-assign, assignment]
        member.trainer.evaluate = lambda _p, _b: (0.0, 0.0, 1)  # type: ignore[method-assign, assignment]
    for reviewer in group.reviewers:
        group.world.approve(reviewer, child)
    group.world.run(3)
    core = group.members[0].core
    assert core.tasks.tasks() == (child,)
    assert core.tasks.learning[child].model.age < 200 < age


def test_a_version_that_is_left_gives_way_to_the_one_before() -> None:
    group = crowd(num_members=1)
    group.world.run(10)
    child = revised(group)
    member = group.members[0]
    group.world.perform(member, member.core.set_consent(child, False, group.world.moment()))
    group.world.run(12)
    assert member.core.tasks.tasks() == (group.task,)


def ask(group: Crowd, asker: Node, giver: Node) -> None:
    group.world.perform(asker, asker.core.models.ask(giver.peer, group.task, 0, group.world.moment()))
    group.world.run(0.1)


def test_the_publisher_is_given_the_released_model_and_a_stranger_a_reason() -> None:
    group = crowd(num_members=2)
    group.world.run(10)
    member, stranger = group.members[0], group.reviewers[0]
    ask(group, group.engineer, member)
    released = group.engineer.delivered[0].body
    assert isinstance(released, ReleasedModel)
    model = member.core.tasks.learning[group.task].model
    assert plain(released.full).shape == model.released.shape
    assert released.contributions[member.peer] > 0
    assert released.age <= model.age
    ask(group, stranger, member)
    refused = stranger.delivered[0].body
    assert isinstance(refused, ReleasedModel)
    assert "publisher and members only" in refused.refusal


@pytest.mark.parametrize(("policy", "given"), [("anyone", True), ("nobody", False)])
def test_the_owner_decides_who_is_given_a_model(policy: GiveModels, given: bool) -> None:
    group = crowd(num_members=1)
    group.world.run(5)
    member = group.members[0]
    member.core.models.settings = replace(member.core.settings, give_models=policy)
    ask(group, group.reviewers[0], member)
    body = group.reviewers[0].delivered[0].body
    assert isinstance(body, ReleasedModel)
    assert (body.refusal == "") == given


def test_who_asks_again_at_once_is_not_answered() -> None:
    group = crowd(num_members=1)
    group.world.run(5)
    for _ in range(3):
        ask(group, group.engineer, group.members[0])
    assert len(group.engineer.delivered) == 1
    assert group.members[0].dropped.count("over-quota") == 2


def test_a_server_is_asked_in_the_same_way() -> None:
    group = crowd(num_members=2)
    server = group.start_server()
    group.world.run(15)
    ask(group, group.engineer, server)
    body = group.engineer.delivered[0].body
    assert isinstance(body, ReleasedModel)
    assert body.server
    assert set(body.contributions) == {member.peer for member in group.members}


def test_a_model_that_nobody_asked_for_or_that_does_not_fit_is_dropped() -> None:
    group = crowd(num_members=1)
    group.world.run(5)
    member = group.members[0]

    def send(full: Vector) -> None:
        group.world.perform(
            member,
            [
                Publish(
                    topic=InboxTopic(group.engineer.peer, member.peer),
                    body=ReleasedModel(task=group.task, full=full),
                    receiver_session=group.engineer.session,
                )
            ],
        )
        group.world.run(0.1)

    send(np.zeros(3, np.float32))
    assert group.engineer.dropped[-1] == "not-asked"
    group.engineer.core.models.ask(member.peer, group.task, 0, group.world.moment())
    send(np.zeros(3, np.float32))
    assert group.engineer.dropped[-1] == "wrong-shape"
    send(np.full(4810, np.nan, np.float32))
    assert group.engineer.dropped[-1] == "non-finite"
    assert not group.engineer.delivered


def test_metrics_are_delivered_while_a_task_is_watched() -> None:
    group = crowd(num_members=1)
    group.world.run(5)
    engineer = group.engineer
    group.world.perform(engineer, engineer.core.watch(group.task))
    assert engineer.core.watch(group.task) == []
    group.world.run(3)
    assert len(engineer.delivered) > 2
    group.world.perform(engineer, engineer.core.unwatch(group.task))
    group.world.run(0.1)
    seen = len(engineer.delivered)
    group.world.run(3)
    assert len(engineer.delivered) == seen
