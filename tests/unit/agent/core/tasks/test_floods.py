"""What is kept of strangers' tasks: bytes within bounds, programs unread, and nothing once its record is gone."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.agent.core.tasks.device import (
    ADA,
    BEN,
    ENGINEER,
    HOUR_MS,
    ME,
    NOW_MS,
    SETTINGS,
    STRANGER,
    Device,
)

from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.tasks.task_book import LINGERING_BYTES, MAX_LINGERING
from grapevine_lab.bench import floods
from grapevine_proto.budgets import Budget
from grapevine_proto.codec import Received, open_envelope, reopen_envelope
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import ReleasedModel, TaskPublication
from grapevine_proto.records import MAX_TASK_RECORDS_PER_AUTHOR, STRANGERS_SEQUENCES, TASKS_BYTES
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic, TaskTopic, of_task

MIB = 2**20
KEYS = [SigningKey(bytes([number] * 32)) for number in range(1, 8)]


def peer(number: int) -> str:
    return f"p{number:019d}"


# --- entries go with their records ----------------------------------------------------------------


def test_an_entry_goes_with_its_record_so_one_author_does_not_make_the_book_grow() -> None:
    device = Device()
    for turn in range(20):
        for number in range(24):
            until_ms = device.moment().wall_ms + 3_000
            device.publish(STRANGER, name=f"{turn} {number}", expires_at_ms=until_ms)
        device.wait(25)
    assert device.rejected == []
    assert device.core.book.entries == {}
    assert device.core.book.children == {}
    assert len(device.core.records) == 0
    assert device.disk.records == {}
    assert len(device.disk.sequences) == 480
    assert device.core.records.tasks_budget.num_bytes == 0


def test_what_is_remembered_of_what_ran_out_is_bounded_in_memory_and_on_disk() -> None:
    device = Device()
    for turn in range(30):
        until_ms = device.moment().wall_ms + 3_000
        for number in range(100):
            device.hear(floods.reviewed(peer(1_000 * turn + number), f"{turn:032d}{number:032d}", until_ms=until_ms))
        device.wait(15)
    assert len(device.core.records._sequences) == STRANGERS_SEQUENCES
    assert device.disk.sequences == device.core.records._sequences
    assert device.core.book.reviews == {}
    again = device.restart()
    assert again.core.records._sequences == device.core.records._sequences


def test_a_trained_task_ends_properly_when_its_record_runs_out_and_is_shown_as_expired() -> None:
    device = Device()
    task = device.publish(expires_at_ms=NOW_MS + 5_000)
    device.approve(task)
    assert device.trains(task)
    device.wait(4.9)
    assert device.trains(task)
    assert fx.SaveModel in {type(each) for each in device.effects}  # it has not changed since
    device.effects.clear()
    device.wait(0.2)
    assert not device.trains(task)
    kinds = {type(each) for each in device.effects}
    assert {fx.StopTrainer, fx.DropUnsent, ev.Stopped} <= kinds
    assert device.standing(task) == "expired"
    assert "expired on" in device.why_not(task)[0]
    device.wait(30)
    assert device.standing(task) == "expired"  # its record is gone by now
    assert device.core.records.get(TaskTopic(ENGINEER, task, "manifest")) is None
    device.publish(expires_at_ms=device.moment().wall_ms + HOUR_MS)  # and its publisher says it again
    assert device.trains(task)


def test_expired_tasks_that_the_owner_has_had_to_do_with_are_shown_but_not_for_ever() -> None:
    device = Device(replace(SETTINGS, consent="ask"))
    tasks = []
    for number in range(MAX_LINGERING + 40):
        until_ms = device.moment().wall_ms + 2_000
        tasks.append(device.publish(peer(number), name=f"{number}", expires_at_ms=until_ms))
        device.approve(tasks[-1], ADA)
        device.wait(11)
    assert list(device.core.book.entries) == tasks[-MAX_LINGERING:]
    assert {device.standing(task) for task in tasks[-MAX_LINGERING:]} == {"expired"}
    assert len(device.core.book.reviews) <= len(tasks)


def test_expired_tasks_that_are_shown_have_a_bound_in_bytes_too() -> None:
    device = Device(replace(SETTINGS, consent="ask"))
    for author, task, encoded in floods.large_manifests(24, peer):
        until_ms = device.moment().wall_ms + 2_000
        device.hear(floods.published(author, task, encoded, expires_at_ms=until_ms))
        device.perform(device.core.set_consent(task, False, device.moment()))
        device.wait(11)
    held = [len(entry.encoded) for entry in device.core.book.entries.values()]
    assert 0 < sum(held) <= LINGERING_BYTES + max(held)


def test_a_verdict_goes_with_its_record_and_one_that_counted_with_its_task() -> None:
    device = Device()
    task = device.publish(STRANGER, expires_at_ms=NOW_MS + 60_000)
    device.approve(task, ADA, until_ms=NOW_MS + 5_000)
    device.hear(floods.reviewed(peer(1), task, until_ms=NOW_MS + 5_000))
    device.hear(floods.reviewed(ADA, "7" * 64, until_ms=NOW_MS + 5_000))
    device.wait(20)
    assert list(device.core.book.reviews) == [task]
    assert list(device.core.book.reviews[task]) == [ADA]  # shown as run out
    others = [device.publish(STRANGER, name=f"{n}", expires_at_ms=NOW_MS + 70_000 + n) for n in range(MAX_LINGERING)]
    for other in others:
        device.approve(other, ADA, until_ms=NOW_MS + 5_000_000)
    device.wait(100)
    assert task not in device.core.book.entries
    assert task not in device.core.book.reviews


def test_a_verdict_whose_record_holds_still_counts_when_its_task_comes_back() -> None:
    device = Device()
    task = device.publish(expires_at_ms=NOW_MS + 5_000)
    device.approve(task)
    device.wait(20)
    for number in range(MAX_LINGERING + 1):
        other = device.publish(peer(number), name=f"{number}", expires_at_ms=device.moment().wall_ms + 1_000)
        device.approve(other, ADA)
        device.wait(11)
    assert task not in device.core.book.entries
    device.publish(expires_at_ms=device.moment().wall_ms + HOUR_MS)
    assert device.trains(task)


# --- bytes and programs ---------------------------------------------------------------------------


def test_no_program_of_a_stranger_is_read_however_often_its_tasks_are_listed() -> None:
    device = Device()
    for number in range(30):
        device.publish(peer(number), name=f"{number}")
    opened = device.core.book.opened
    device.wait(30)
    for task in device.core.book.entries:
        assert "0 of 2 approvals" in device.why_not(task)[0]
        assert device.standing(task) == "waiting"
    assert (opened.num_programs, opened.num_heads) == (0, 0)


def test_a_flood_of_large_manifests_takes_no_more_memory_than_its_budget() -> None:
    device = Device()
    tracemalloc.start()
    try:
        for author, task, encoded in floods.large_manifests(300, lambda number: peer(number % 100)):
            device.hear(floods.published(author, task, encoded))
        device.effects.clear()
        held, _ = tracemalloc.get_traced_memory()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert device.core.records.tasks_budget.num_bytes <= TASKS_BYTES
    assert held <= 1.25 * TASKS_BYTES
    assert peak <= 1.5 * TASKS_BYTES
    assert len(device.core.book.entries) == len(device.core.records) < 50
    assert device.disk.records.keys() == {each.topic for each in device.core.records}
    assert device.core.book.opened.num_programs == 0


def test_small_manifests_take_about_what_they_are_counted_as() -> None:
    made = [
        (author, task, encoded)
        for author, task, encoded in floods.manifests("chain", 2_000, lambda number: peer(number // 90))
    ]
    device = Device()
    tracemalloc.start()
    try:
        for author, task, encoded in made:
            device.hear(floods.published(author, task, bytes(bytearray(encoded))))
        device.effects.clear()
        device.disk.records.clear()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(device.core.records) == 2_000
    assert 0.4 <= held / device.core.records.tasks_budget.num_bytes <= 1.2


def test_a_program_is_read_once_a_trusted_verdict_asks_for_it() -> None:
    asked: list[str] = []

    def check(_task: str, manifest: TaskManifest) -> str:
        asked.append(manifest.name)
        return ""

    device = Device(replace(SETTINGS, check_task=check))
    task = device.publish(STRANGER)
    assert device.core.book.opened.num_programs == 0
    device.approve(task)
    assert device.trains(task)
    device.wait(60)
    assert asked == ["flood"]  # it cannot change
    assert device.core.book.opened.num_programs == 1


@pytest.mark.parametrize("role", ["member", "server"])
def test_a_program_that_cannot_be_read_is_the_tasks_reason_and_no_error(role: str) -> None:
    settings = replace(SETTINGS, role=role, peer=ME)  # type: ignore[arg-type]
    device = Device(settings)
    encoded = bytearray(encode_manifest(floods.manifest(STRANGER, num_unused_nodes=3, servers=(ME,))))
    operator = encoded.find(bytes([0x08, int(floods.NODE.operator)]))  # of the first unused node
    encoded[operator + 1] = 0x7E  # no operator has this number
    task = task_id(bytes(encoded))
    device.hear(floods.published(STRANGER, task, bytes(encoded)))
    assert device.rejected == []
    device.approve(task)
    assert not device.core.tasks.all_parts()
    (reason,) = device.why_not(task)
    assert reason.startswith("its program cannot be read: ")
    assert "operator 126" in reason
    device.wait(30)
    with pytest.raises(TaskError, match="its program cannot be read"):
        _ = device.entry(task).manifest
    device.core.models.ask(STRANGER, task, 0, device.moment())
    device.core.connected(5, device.moment())
    answer = floods.message(STRANGER, ReleasedModel(task=task, full=np.zeros(3, np.float32)))
    inbox = InboxTopic(ME, STRANGER)
    device.hear(Received(message=replace(answer, receiver_session=5), topic=inbox, envelope=b"x"))
    assert device.rejected == ["bad-program"]


def test_what_was_read_is_kept_for_the_last_few_only() -> None:
    device = Device(replace(SETTINGS, consent="ask"))
    tasks = []
    for author, task, encoded in floods.large_manifests(4, peer):
        device.hear(floods.published(author, task, encoded))
        tasks.append(task)
        _ = device.entry(task).manifest
    assert device.core.book.opened._num_bytes <= 512 * 1024
    assert len(device.core.book.opened._held) == 2
    assert device.entry(tasks[-1]).manifest is device.entry(tasks[-1]).manifest


# --- what had no room -----------------------------------------------------------------------------


def full(device: Device) -> None:
    """Let strangers fill the budget with tasks as small as any."""
    device.core.records.tasks_budget = Budget(most_bytes=100_000, author_bytes=50_000)
    for author, task, encoded in floods.manifests("alone", 200, peer):
        device.hear(floods.published(author, task, encoded))
    assert "over-quota" in device.rejected
    device.rejected.clear()


def test_a_manifest_that_had_no_room_is_asked_for_again_once_somebody_trusted_approves_it() -> None:
    device, other = Device(), Device()
    full(device)
    task = other.publish(STRANGER)
    published = other.core.records.get(TaskTopic(STRANGER, task, "manifest"))
    assert published is not None
    device.hear(published)
    assert device.rejected == ["over-quota"]
    device.effects.clear()
    device.approve(task)
    wanted = of_task(task, "manifest")
    assert [each for each in device.effects if isinstance(each, fx.Subscribe)] == [fx.Subscribe(filter=wanted)]
    device.hear(published)  # the broker sends what it retains
    assert device.trains(task)
    assert fx.Unsubscribe(filter=wanted) in device.effects
    for author, each, encoded in floods.manifests("star", 200, lambda number: peer(1_000 + number)):
        device.hear(floods.published(author, each, encoded))
    assert device.trains(task)


def test_nobody_elses_topic_gets_a_place_for_a_task_that_matters() -> None:
    device, other = Device(), Device()
    full(device)
    task = other.publish(STRANGER)
    encoded = other.entry(task).encoded
    device.approve(task)
    held = len(device.core.records)
    for number in range(20):
        device.hear(floods.published(peer(5_000 + number), task, encoded))
    assert set(device.rejected) == {"forged"}
    assert len(device.core.records) == held


def test_a_review_that_made_room_may_come_back_and_nothing_older_may() -> None:
    device = Device()
    first = floods.reviewed(STRANGER, "7" * 64, approved=True)
    second = floods.reviewed(STRANGER, "7" * 64, approved=False)
    device.hear(second)
    device.core.records.tasks_budget = Budget(most_bytes=20_000, author_bytes=20_000)
    device.core.records.tasks_budget.count(STRANGER, second.topic, 20_000)
    device.hear(floods.reviewed(peer(1), "8" * 64))
    assert device.core.records.get(second.topic) is None
    assert device.core.book.reviews.keys() == {"8" * 64}
    assert second.topic not in device.disk.records
    device.hear(first)
    assert device.rejected == ["stale"]
    device.core.records.tasks_budget = Budget(most_bytes=20_000, author_bytes=20_000)
    device.hear(second)
    assert device.core.records.get(second.topic) is second


def test_what_a_broker_was_heard_to_have_is_remembered_of_what_is_held_only() -> None:
    device = Device()
    for turn in range(20):
        until_ms = device.moment().wall_ms + 1_000
        for number in range(50):
            device.hear(floods.reviewed(peer(100 * turn + number), f"{number:064d}", until_ms=until_ms))
        device.wait(12)
    assert len(device.core.brokers.at(0).relays) <= 2 * 50 + 65


def test_the_flood_is_over_what_one_author_may_say_before_it_is_over_the_budget() -> None:
    device = Device()
    for author, task, encoded in floods.manifests("chain", 200, lambda _number: STRANGER):
        device.hear(floods.published(author, task, encoded))
    assert len(device.core.book.entries) == MAX_TASK_RECORDS_PER_AUTHOR
    assert set(device.rejected) == {"over-quota"}


# --- what was kept --------------------------------------------------------------------------------


def sealed_task(key: SigningKey, **fields: Any) -> tuple[TaskTopic, bytes]:
    encoded = encode_manifest(floods.manifest(key.peer_id, **fields))
    topic = TaskTopic(key.peer_id, task_id(encoded), "manifest")
    return topic, floods.sealed(key, topic, TaskPublication(manifest=encoded))


def test_kept_records_of_strangers_are_not_verified_at_the_start_and_those_of_the_trusted_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[bytes] = []

    def counting(received: Received) -> bool:
        if not received.verified:
            checked.append(received.envelope)
        return True

    monkeypatch.setattr("grapevine_agent.core.tasks.archive.is_authentic", counting)
    engineer, reviewer, *strangers = KEYS
    kept = [sealed_task(key, name=f"{number}") for key in (engineer, *strangers) for number in range(20)]
    task = kept[0][0].task
    topic = TaskTopic(reviewer.peer_id, task, "review")
    verdict = floods.reviewed(reviewer.peer_id, task, until_ms=NOW_MS + HOUR_MS).message.body
    kept.insert(0, (topic, floods.sealed(reviewer, topic, verdict)))
    policy = replace(SETTINGS.review, approvals=1, trusted=frozenset((reviewer.peer_id,)))
    core = AgentCore(settings=replace(SETTINGS, review=policy), rng=np.random.default_rng(0))
    device = Device()
    records = (reopen_envelope(envelope, where) for where, envelope in kept)
    effects = core.start(records, {}, device.moment())
    assert checked == [kept[0][1], kept[1][1]]  # the verdict, and the manifest that it makes matter
    assert [each.task for each in effects if isinstance(each, fx.LoadTask)] == [task]
    assert core.book.opened.num_programs == 1
    assert len(core.book.entries) == 6 * 20


@pytest.mark.parametrize("trusted", [True, False])
def test_a_kept_record_whose_bytes_changed_is_dropped_and_makes_way_for_the_true_one(trusted: bool) -> None:
    reviewer, engineer = KEYS[:2]
    task = sealed_task(engineer)[0].task
    topic = TaskTopic(reviewer.peer_id, task, "review")
    body = floods.reviewed(reviewer.peer_id, task, approved=False, until_ms=NOW_MS + HOUR_MS).message.body
    true = floods.sealed(reviewer, topic, body)
    bit = next(
        at
        for at in range(len(true))
        if _is_message(true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :], topic)
        and true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :] != true
    )
    damaged = reopen_envelope(true[:bit] + bytes([true[bit] ^ 1]) + true[bit + 1 :], topic)
    people = frozenset((reviewer.peer_id,)) if trusted else frozenset((ADA, BEN))
    settings = replace(SETTINGS, review=replace(SETTINGS.review, trusted=people))
    core = AgentCore(settings=settings, rng=np.random.default_rng(0))
    moment = Device().moment()
    effects = core.start([damaged], {}, moment)
    dropped = [each for each in effects if isinstance(each, fx.ForgetRecord)]
    assert bool(dropped) == trusted
    assert (core.records.get(topic) is None) == trusted
    core.receive(open_envelope(true, topic), moment)
    held = core.records.get(topic)
    assert held is not None
    assert held.envelope == true
    assert held.verified


def _is_message(payload: bytes, topic: TaskTopic) -> bool:
    try:
        reopen_envelope(payload, topic)
    except Exception:
        return False
    return True


def test_a_damaged_record_of_a_task_is_dropped_before_the_task_is_joined() -> None:
    engineer = KEYS[0]
    topic, true = sealed_task(engineer)
    flipped = bytes([true[-1] ^ 1])  # of the signature: the manifest itself is named by its digest
    device = Device()
    device.core.receive(reopen_envelope(true[:-1] + flipped, topic), device.moment())
    assert topic.task in device.core.book.entries
    device.approve(topic.task)
    assert topic.task not in device.core.book.entries
    assert device.core.records.get(topic) is None
    assert not device.core.tasks.all_parts()
    assert any("damaged on disk" in each.text for each in device.effects if isinstance(each, ev.RecordDamaged))


def test_what_has_no_room_at_the_start_is_forgotten_on_disk_too() -> None:
    device = Device()
    for author, task, encoded in floods.large_manifests(40, lambda number: peer(number % 4)):
        device.hear(floods.published(author, task, encoded))
    records = dict(device.disk.records)
    device.disk.records = {}
    for turn in range(5):  # as an earlier version may have kept them
        for topic, received in records.items():
            assert isinstance(topic, TaskTopic)
            other = replace(topic, peer=peer(turn * 100 + int(topic.peer[1:])))
            said = replace(received.message, sender=other.peer)
            device.disk.records[other] = replace(received, topic=other, message=said)
    again = Device(disk=device.disk)
    assert again.core.records.tasks_budget.num_bytes <= TASKS_BYTES
    assert again.disk.records.keys() == {each.topic for each in again.core.records}
