"""What strangers say of tasks costs nothing: only what changed is judged, and of a burst some at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.agent.core.tasks.device import (
    ADA,
    BEN,
    CAT,
    ENGINEER,
    HOUR_MS,
    ME,
    NOW_MS,
    SETTINGS,
    STRANGER,
    Device,
)

from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import ConsentRule
from grapevine_agent.core.tasks.steward import MAX_JUDGED
from grapevine_lab.bench import floods
from grapevine_proto.budgets import Budget
from grapevine_proto.messages import TaskPublication
from grapevine_proto.topics import TaskTopic

MANY = 1_000
ROOM = 2**40


def roomy(settings: object = SETTINGS) -> Device:
    """A device without bounds on what it holds: whatever the shape, the work is bounded by itself."""
    device = Device(settings)  # type: ignore[arg-type]
    device.core.records.tasks_budget = Budget(most_bytes=ROOM, author_bytes=ROOM)
    return device


def peer(number: int) -> str:
    return f"p{number:019d}"


def flooded(shape: str, *, publisher: str | None = None, settings: object = SETTINGS) -> tuple[Device, list[str]]:
    """A device that knows so many tasks of strangers, or all of one publisher (who may have so many)."""
    device = roomy(settings)
    records = device.core.records
    tasks = []
    for author, task, encoded in floods.manifests(shape, MANY, lambda number: publisher or peer(number // 90)):
        records._num_task_records.clear()
        device.hear(floods.published(author, task, encoded))
        tasks.append(task)
    assert device.rejected == []
    assert len(device.core.book.entries) == MANY
    return device, tasks


@pytest.mark.parametrize("shape", floods.SHAPES)
def test_tasks_of_strangers_are_never_judged_again_however_they_name_each_other(shape: str) -> None:
    device, _ = flooded(shape)
    assert device.core.tasks.assessor.num_judged <= MANY  # once each, when they came
    assert sum(device.wait(60)) == 0


@pytest.mark.parametrize("shape", ["chain", "star", "comb", "tree"])
def test_unapproved_versions_of_a_trained_task_are_not_looked_at_when_it_is_judged(shape: str) -> None:
    device, tasks = flooded(shape, publisher=ENGINEER)
    own = device.publish(name="trained", version=1)
    child = device.publish(name="flood", version=2, parent=own)
    device.approve(own)
    assert device.trains(own)
    counts = device.wait(60)
    assert max(counts) <= 1
    assert 6 <= sum(counts) <= 8  # the trained one, every ten seconds
    assert "consent of its own" in device.why_not(child)[-1]
    assert len(tasks) == MANY


def test_ten_thousand_reviews_of_unknown_tasks_are_no_work() -> None:
    device = roomy()
    for number in range(MANY):
        device.hear(floods.reviewed(peer(number), f"{number:064d}"))
    assert device.core.tasks.assessor.num_judged == 0
    assert sum(device.wait(30)) == 0


def test_strangers_reviews_of_one_task_are_neither_weighed_nor_a_reason_to_judge_it() -> None:
    device = roomy()
    task = device.publish()
    device.approve(task)
    judged = device.core.tasks.assessor.num_judged
    for number in range(MANY):
        device.hear(floods.reviewed(peer(number), task, approved=False))
    assert device.core.tasks.assessor.num_judged == judged
    assert len(device.core.book.reviews[task]) == MANY + 2
    weighed = dict(device.core.book.verdicts_of(task, SETTINGS.review.reviewers))
    assert sorted(weighed) == [ADA, BEN]
    assert device.trains(task)


def test_verdicts_that_run_out_at_the_same_moment_are_taken_some_at_a_time() -> None:
    asked = replace(SETTINGS, consent="ask", review=replace(SETTINGS.review, approvals=1))
    device, tasks = flooded("alone", settings=asked)
    for task in tasks:
        device.core.records._num_task_records.clear()
        device.approve(task, ADA, until_ms=NOW_MS + 60_000)
    device.settle()
    trained = device.publish(name="trained")
    device.approve(trained, ADA, until_ms=NOW_MS + 60_000)
    device.perform(device.core.set_consent(trained, True, device.moment()))
    device.settle()
    assert device.trains(trained)
    assert {device.standing(task) for task in tasks} == {"approved"}
    device.now_s = 60.001
    first = device.tick()
    assert not device.trains(trained)  # what ends something ends it at once
    assert first <= MAX_JUDGED + 2
    counts = [first, *device.wait(2)]
    assert max(counts) <= MAX_JUDGED + 2
    assert sum(counts) >= MANY
    assert {device.standing(task) for task in tasks} == {"waiting"}
    assert not device.core.steward.has_waiting
    assert sum(device.wait(60)) == 0


def test_everything_that_expires_in_one_tick_goes_some_at_a_time_and_a_trained_task_at_once() -> None:
    device = roomy()
    until_ms = NOW_MS + 60_000
    for author, task, encoded in floods.manifests("chain", MANY, lambda number: peer(number // 90)):
        device.hear(floods.published(author, task, encoded, expires_at_ms=until_ms))
    trained = device.publish(expires_at_ms=until_ms)
    device.approve(trained)
    assert device.trains(trained)
    device.now_s = 60.002
    held = len(device.core.records)
    device.tick()
    assert not device.trains(trained)
    assert 0 < held - len(device.core.records) <= 256
    device.wait(5)
    assert set(device.core.book.entries) == {trained}
    assert device.standing(trained) == "expired"
    assert device.core.book.children == {}


def test_a_burst_of_trusted_verdicts_is_judged_as_it_comes_and_no_tick_is_longer_for_it() -> None:
    asked = replace(SETTINGS, consent="ask")
    device, tasks = flooded("star", publisher=ENGINEER, settings=asked)
    for task in tasks:
        device.core.records._num_task_records.clear()
        device.approve(task)
    assert device.core.tasks.assessor.num_judged <= 4 * MANY
    assert max(device.wait(30)) <= MAX_JUDGED


def test_a_task_is_not_joined_before_the_versions_that_would_replace_it_are_judged() -> None:
    device = Device()
    parent = device.publish()
    child = device.publish(parent=parent, version=2)
    device.approve(parent, ADA)
    device.approve(child, ADA)
    device.approve(child, BEN)
    device.approve(parent, BEN)
    assert device.core.tasks.tasks() == (child,)
    again = device.restart()
    again.settle()
    assert again.core.tasks.tasks() == (child,)
    joined = [each.task for each in again.effects if isinstance(each, fx.LoadTask)]
    assert joined == [child]  # the earlier one not even for a moment


def test_a_chain_that_was_broken_is_whole_once_the_missing_version_is_heard_of() -> None:
    device, other = Device(), Device()
    first = device.publish(version=1)
    second = other.publish(version=2, parent=first)
    third = device.publish(version=3, parent=second)
    for task in (first, third):
        device.approve(task)
    assert device.core.tasks.tasks() == tuple(sorted((first, third)))  # nobody knows that they belong together
    device.publish(version=2, parent=first)
    device.settle()
    assert device.core.tasks.tasks() == (third,)
    assert "replaced by its version 3" in device.why_not(first)[-1]


def test_a_version_that_still_waits_for_its_weights_stands_before_earlier_ones_once_its_chain_is_whole() -> None:
    device, other = Device(), Device()
    first = device.publish(version=1)
    second = other.publish(version=2, parent=first)
    third = device.publish(version=3, parent=second)
    device.loads = False
    device.approve(third)
    device.publish(version=2, parent=first)
    device.approve(first)
    device.settle()
    assert device.core.tasks.all_parts() == (third,)
    device.approve(third, ADA, approved=False)
    device.settle()
    assert device.core.tasks.all_parts() == (first,)


def test_an_earlier_version_comes_back_when_the_later_one_is_rejected() -> None:
    device = Device()
    parent = device.publish()
    child = device.publish(parent=parent, version=2)
    for task in (parent, child):
        device.approve(task)
    assert device.core.tasks.tasks() == (child,)
    device.approve(child, ADA, approved=False)
    device.settle()
    assert device.core.tasks.tasks() == (parent,)


def test_a_clock_that_is_set_back_lets_verdicts_count_again() -> None:
    device = Device()
    task = device.publish()
    device.approve(task, until_ms=NOW_MS + HOUR_MS)
    device.wall_shift_ms = 2 * HOUR_MS
    device.tick()
    assert not device.trains(task)
    device.wall_shift_ms = 0
    device.wait(11)
    assert device.trains(task)


def test_a_server_counts_as_named_by_the_owner_for_as_long_as_it_is_trusted() -> None:
    device = Device(replace(SETTINGS, trusted_servers=frozenset((ADA,))))
    task = device.publish(servers=(ENGINEER,))
    device.approve(task)
    device.settle()
    assert device.core.members.named == {ADA, ENGINEER}
    for trusted in (frozenset((CAT,)), frozenset[str]()):
        settings = replace(device.core.settings, trusted_servers=trusted)
        device.perform(device.core.set_settings(settings, device.moment()))
        assert device.core.members.named == {ENGINEER, *trusted}


def test_whoever_is_trusted_from_now_on_is_believed_at_once() -> None:
    device = Device()
    task = device.publish()
    device.approve(task, CAT, BEN)
    assert not device.trains(task)
    trusted = replace(SETTINGS, review=replace(SETTINGS.review, trusted=frozenset((CAT, BEN))))
    device.perform(device.core.set_settings(trusted, device.moment()))
    assert device.trains(task)
    device.perform(device.core.set_settings(SETTINGS, device.moment()))
    assert not device.trains(task)


def test_a_left_version_covers_later_ones_though_one_between_them_is_gone() -> None:
    device = Device()
    first = device.publish(version=1)
    device.perform(device.core.set_consent(first, False, device.moment()))
    second = device.publish(version=2, parent=first, expires_at_ms=NOW_MS + 1_000)
    third = device.publish(version=3, parent=second)
    device.wait(30)
    assert second not in device.core.book.entries
    device.approve(third)
    assert "left an earlier version" in device.why_not(third)[0]
    rule = ConsentRule(answer="auto")
    device.perform(device.core.set_settings(replace(SETTINGS, consent_rules=(rule,)), device.moment()))
    assert not device.trains(third)
    device.perform(device.core.set_consent(third, True, device.moment()))
    assert device.trains(third)


def test_a_retraction_ends_a_trained_task_at_once_in_the_middle_of_a_flood() -> None:
    device, _ = flooded("chain")
    task = device.publish()
    device.approve(task)
    assert device.trains(task)
    tombstone = TaskPublication(retracted=True, reason="wrong")
    device.hear(floods.heard(TaskTopic(ENGINEER, task, "manifest"), tombstone))
    assert not device.trains(task)
    assert device.standing(task) == "retracted"


def test_a_strangers_task_that_is_retracted_is_forgotten_and_one_that_was_reviewed_is_shown() -> None:
    device = Device()
    tasks = [device.publish(STRANGER, name=name) for name in ("unknown", "reviewed")]
    device.approve(tasks[1], ADA)
    for task in tasks:
        device.hear(floods.heard(TaskTopic(STRANGER, task, "manifest"), TaskPublication(retracted=True)))
    assert set(device.core.book.entries) == {tasks[1]}


def test_own_verdicts_are_renewed_without_a_look_at_what_others_publish() -> None:
    device, tasks = flooded("alone", settings=replace(SETTINGS, renew_reviews=True))
    device.hear(floods.reviewed(ME, tasks[7], until_ms=NOW_MS + 20_000))
    assert list(device.core.book.reviewed) == [tasks[7]]
    device.effects.clear()
    device.wait(15)
    said = [each.topic for each in device.effects if isinstance(each, fx.Publish) and each.retain]
    assert TaskTopic(ME, tasks[7], "review") in said
