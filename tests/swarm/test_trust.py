"""Whom agents believe: approvals, vetoes, liars, and records that a broker lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import built_digits, digits_manifest
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import EPOCH_MS

from grapevine_agent.core.effects import Publish
from grapevine_agent.core.settings import ReviewPolicy
from grapevine_proto.messages import ModelUpdate, TaskPublication
from grapevine_proto.topics import InboxTopic, TaskTopic


def send(group: Crowd, sender: int, receiver: int, **changes: object) -> None:
    """An update of one member to another, as the sender likes it."""
    source, target = group.members[sender], group.members[receiver]
    model = source.core.tasks.learning[group.task].model
    fields: dict[str, object] = {
        "task": group.task,
        "window": model.window,
        "version": model.version,
        "age": model.age,
        "experience": 1,
        "samples": 1,
        "full": model.parameters,
        "buffers": model.buffers,
    }
    body = ModelUpdate(**(fields | changes))  # type: ignore[arg-type]
    group.world.perform(
        source,
        [
            Publish(
                topic=InboxTopic(target.peer, source.peer),
                body=body,
                receiver_session=source.core.members.session_of(target.peer),
            )
        ],
    )
    group.world.run(0.02)


def test_a_task_is_joined_only_with_enough_approvals_of_trusted_reviewers() -> None:
    group = crowd(num_members=2)
    manifest = replace(digits_manifest(group.engineer.peer, created_at_ms=EPOCH_MS), name="second")
    second = group.world.publish_task(group.engineer, manifest, built_digits().weights)
    group.world.approve(group.reviewers[0], second)
    group.world.approve(group.engineer, second)  # its author
    group.world.approve(group.members[1], second)  # nobody trusts it
    group.world.run(3)
    core = group.members[0].core
    assert second not in core.tasks.learning
    assert core.why_not(core.book.entries[second], group.world.moment()) == ["1 of 2 approvals by trusted reviewers"]
    group.world.approve(group.reviewers[1], second)
    group.world.run(3)
    assert second in core.tasks.learning


def test_one_trusted_rejection_stops_a_task_at_once() -> None:
    group = crowd(num_members=2)
    group.world.run(3)
    assert group.task in group.members[0].core.tasks.learning
    group.world.approve(group.reviewers[0], group.task, approved=False)
    group.world.run(0.5)
    for member in group.members:
        assert group.task not in member.core.tasks.learning
        assert group.task in member.saved
        assert "rejected by" in member.log[-1]


def test_an_approval_that_runs_out_no_longer_counts() -> None:
    group = crowd(num_members=2)
    group.world.run(2)
    group.world.approve(group.reviewers[0], group.task, valid_s=20)
    group.world.run(15)
    assert group.task in group.members[0].core.tasks.learning
    group.world.run(20)
    assert group.task not in group.members[0].core.tasks.learning


def test_a_retracted_task_is_left() -> None:
    group = crowd(num_members=2)
    group.world.run(3)
    tombstone = TaskPublication(retracted=True, reason="a better one is out")
    group.world.perform(
        group.engineer,
        [Publish(topic=TaskTopic(group.engineer.peer, group.task, "manifest"), body=tombstone, retain=True)],
    )
    group.world.run(0.5)
    assert group.task not in group.members[0].core.tasks.learning
    assert "a better one is out" in group.members[0].log[-1]


def test_an_owner_who_is_asked_decides() -> None:
    group = crowd(num_members=1)
    key = group.world.key()
    asked = group.world.add(replace(group.settings, peer=key.peer_id, consent="ask"), key)
    group.world.run(2)
    assert group.task not in asked.core.tasks.learning
    group.world.perform(asked, asked.core.set_consent(group.task, True, group.world.moment()))
    group.world.run(2)
    assert group.task in asked.core.tasks.learning
    group.world.perform(asked, asked.core.set_consent(group.task, False, group.world.moment()))
    assert group.task not in asked.core.tasks.learning


def test_without_trusted_reviewers_nothing_runs_and_the_owner_is_told_why() -> None:
    group = crowd(num_members=1)
    key = group.world.key()
    lonely = group.world.add(replace(group.settings, peer=key.peer_id, review=ReviewPolicy()), key)
    group.world.run(2)
    core = lonely.core
    why = core.why_not(core.book.entries[group.task], group.world.moment())
    assert "grapevine trust add names more" in why[0]


@pytest.mark.parametrize("claim", [2**40, 2**53])
def test_a_liars_age_is_capped(claim: int) -> None:
    group = crowd(num_members=5, strategy="age-weighted")
    group.world.run(5)
    learner = group.members[0].core.tasks.learning[group.task]
    honest = max(node.core.tasks.learning[group.task].model.age for node in group.members)
    before = learner.model.parameters
    send(group, 1, 0, age=claim, full=np.zeros_like(before))
    assert learner.model.age <= 4 * honest + 10
    assert learner.merging.shares.get(group.members[1].peer, 0.0) <= 0.5  # it may have been refused


def test_one_poisoned_update_does_not_undo_what_was_learned() -> None:
    group = crowd(num_members=5)
    group.world.run(10)
    before = group.accuracy(since_s=group.world.now_s - 1)[0]
    huge = np.full_like(group.members[0].core.tasks.learning[group.task].model.parameters, 1e3)
    send(group, 1, 0, age=2**50, full=huge)
    group.world.run(2)
    assert group.accuracy(since_s=group.world.now_s - 1)[0] > before - 0.03


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"full": np.zeros(3, np.float32)}, "wrong-shape"),
        ({"buffers": np.zeros(3, np.float32)}, "wrong-shape"),
        ({"full": None, "delta": np.zeros(2, np.float32), "base": np.zeros(2, np.float32)}, "wrong-shape"),
        ({"full": None, "delta": np.zeros(2, np.float32), "base_digest": b"x" * 32}, "unknown-base"),
        ({"task": "0" * 64}, "not-joined"),
    ],
)
def test_an_update_that_does_not_fit_is_dropped_and_nothing_changes(changes: dict[str, object], reason: str) -> None:
    group = crowd(num_members=2)
    group.world.run(1.2)
    learner = group.members[0].core.tasks.learning[group.task]
    merged = learner.merging.num_merged
    group.members[0].dropped.clear()
    send(group, 1, 0, **changes)
    assert group.members[0].dropped == [reason]
    assert learner.merging.num_merged == merged


def test_numbers_that_are_not_finite_never_reach_a_merge() -> None:
    group = crowd(num_members=2)
    group.world.run(1.2)
    parameters = group.members[1].core.tasks.learning[group.task].model.parameters.copy()
    parameters[7] = np.nan
    send(group, 1, 0, full=parameters)
    group.world.run(1)
    assert "non-finite" in group.members[0].dropped
    assert np.isfinite(group.members[0].core.tasks.learning[group.task].model.parameters).all()


def test_a_delta_from_an_unknown_base_is_dropped() -> None:
    group = crowd(num_members=2)
    group.world.run(1.2)
    delta = np.zeros_like(group.members[1].core.tasks.learning[group.task].model.parameters)
    send(group, 1, 0, full=None, delta=delta, base_digest=b"x" * 32)
    assert "unknown-base" in group.members[0].dropped


def test_a_recording_from_an_earlier_session_does_not_fit() -> None:
    group = crowd(num_members=2)
    group.world.run(1.2)
    source, target = group.members[1], group.members[0]
    model = source.core.tasks.learning[group.task].model
    update = ModelUpdate(task=group.task, window=1, version=1, age=1, experience=1, samples=1, full=model.parameters)
    old = Publish(topic=InboxTopic(target.peer, source.peer), body=update, receiver_session=1)
    group.world.perform(source, [old])
    group.world.run(0.02)
    assert "old-session" in target.dropped


def test_a_claim_about_many_contributors_does_not_make_a_peer_a_server() -> None:
    group = crowd(num_members=3)
    group.world.run(3)
    crowd_of_ghosts = {f"{number:020d}": 9 for number in range(500)}
    send(group, 1, 0, contributions=crowd_of_ghosts)
    group.world.run(0.5)
    shares = group.members[0].core.tasks.learning[group.task].merging.shares
    assert shares.get(group.members[1].peer, 0) <= 0.5


def test_records_that_the_broker_lost_are_given_back_by_who_holds_them() -> None:
    group = crowd(num_members=2)
    group.world.run(3)
    group.world.kill(group.engineer)
    for reviewer in group.reviewers:
        group.world.kill(reviewer)
    manifest_topic = TaskTopic(group.engineer.peer, group.task, "manifest").below_root()
    original = group.world.retained[manifest_topic]
    group.world.retained.clear()  # a broker restarted without persistence
    for member in group.members:
        member.session += 1
        group.world.perform(member, member.core.connected(member.session, group.world.moment()))
    group.world.run(10)
    assert group.world.retained[manifest_topic] == original
    reviews = [TaskTopic(reviewer.peer, group.task, "review").below_root() for reviewer in group.reviewers]
    assert all(topic in group.world.retained for topic in reviews)


def test_an_erased_record_is_announced_again() -> None:
    group = crowd(num_members=2)
    group.world.run(9)  # past the first look at what the broker has
    topic = TaskTopic(group.engineer.peer, group.task, "manifest")
    del group.world.retained[topic.below_root()]
    for node in group.world.nodes:
        group.world.perform(node, node.core.erased(topic, group.world.moment()))
    group.world.run(9)
    assert topic.below_root() in group.world.retained
