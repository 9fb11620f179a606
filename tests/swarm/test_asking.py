"""Small requests for large answers, and what nobody asked for, said to real cores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.swarm.digits import DigitsTrainer, built_digits, digits_manifest, samples_of
from tests.swarm.floods import Flood, to
from tests.swarm.learning_crowd import Crowd, crowd
from tests.swarm.world import EPOCH_MS, Node, World

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.answers import ANSWER_BURST_BYTES, BLOBS
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy
from grapevine_proto import messages as m
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import TaskTopic


@pytest.fixture
def group() -> Crowd:
    group = crowd(num_members=2)
    group.world.run(3)
    return group


def strangers_to(group: Crowd, num: int, *, announced: bool = True) -> Flood:
    """Invented peers, on hand."""
    flood = Flood(group.world, group.task, num_peers=num, for_s=0.1)
    if announced:
        flood.begin()
    else:
        flood.keys = [SigningKey(np.random.default_rng(1_000 + k).bytes(32)) for k in range(num)]
    group.world.run(0.5)
    group.world.letters.clear()
    return flood


def ask(flood: Flood, node: Node, key: SigningKey, body: m.Body) -> None:
    flood.say(key, to(node.peer, key), body, session=10**15, receiver_session=node.session)


def blob_request(group: Crowd, **changes: str) -> m.BlobRequest:
    manifest = group.members[0].core.book.entries[group.task].manifest
    return replace(m.BlobRequest(task=group.task, digest=manifest.initial_weights.digest), **changes)


def answers_of(group: Crowd, node: Node, flood: Flood) -> int:
    return sum(group.world.letters[key.peer_id, node.peer] for key in flood.keys)


def test_who_asks_a_hundred_times_is_answered_once(group: Crowd) -> None:
    giver = group.members[0]
    giver.blobs.setdefault(blob_request(group).digest, built_digits().weights)
    flood = strangers_to(group, 1)
    for _ in range(100):
        ask(flood, giver, flood.keys[0], blob_request(group))
        group.world.run(0.05)
    assert answers_of(group, giver, flood) == BLOBS.burst
    assert giver.dropped.count("over-quota") == 100 - BLOBS.burst


def test_two_hundred_who_join_at_once_are_all_served_by_one(group: Crowd) -> None:
    giver = group.members[0]
    flood = strangers_to(group, 200)
    for key in flood.keys:
        ask(flood, giver, key, blob_request(group))
    group.world.run(0.5)
    assert answers_of(group, giver, flood) == 200


def test_a_crowd_that_joins_at_once_gives_on_what_its_first_members_got() -> None:
    """Everybody asked the publisher before, in one moment."""
    world, num_joining = World(0), 25
    engineer_key = world.key()
    settings = CoreSettings(
        peer="",
        review=ReviewPolicy(approvals=0),
        limits=DeviceLimits(memory_mb=1000),
        heartbeat_s=2.0,
        shortest_round_s=1e6,
        match_data=lambda _task, _manifest: "",
    )
    engineer = world.add(replace(settings, peer=engineer_key.peer_id, consent="never"), engineer_key)
    keys = [world.key() for _ in range(num_joining)]
    nodes = [world.add(replace(settings, peer=key.peer_id), key, train_s=1e6) for key in keys]
    world.run(8.0)
    manifest = digits_manifest(engineer.peer, created_at_ms=EPOCH_MS)
    task = world.publish_task(engineer, manifest, built_digits().weights)
    asked_at_s: list[float] = []
    while any(task not in node.core.tasks.learning for node in nodes):
        before = sum(world.letters[engineer.peer, node.peer] for node in nodes)
        world.run(0.1)
        asked_at_s += [world.now_s] * (sum(world.letters[engineer.peer, node.peer] for node in nodes) - before)
        assert world.now_s < 20.0
    assert len(asked_at_s) < num_joining / 2
    givers = {giver for (_, giver), num in world.letters.items() if num and giver != engineer.peer}
    assert len(givers & {node.peer for node in nodes}) > 5


def test_only_what_the_task_names_is_given_and_only_by_who_has_to_do_with_it(group: Crowd) -> None:
    giver, reviewer = group.members[0], group.reviewers[0]
    giver.blobs["a" * 64] = b"the owner's own"
    flood = strangers_to(group, 1)
    (key,) = flood.keys
    ask(flood, giver, key, blob_request(group, digest="a" * 64))
    ask(flood, giver, key, blob_request(group, task="0" * 64))
    ask(flood, reviewer, key, blob_request(group))
    unheard_of = strangers_to(group, 1, announced=False)
    ask(unheard_of, giver, unheard_of.keys[0], blob_request(group))
    group.world.run(0.5)
    assert answers_of(group, giver, flood) == answers_of(group, reviewer, flood) == 0
    assert answers_of(group, giver, unheard_of) == 0
    assert {"digest", "not-joined", "stranger"} <= set(giver.dropped)
    assert "not-joined" in reviewer.dropped


def test_models_are_given_to_many_keys_within_what_all_together_may_have(group: Crowd) -> None:
    giver = group.members[0]
    flood = strangers_to(group, 600)
    size = giver.core.tasks.learning[group.task].model.parameters.nbytes
    for _ in range(2):  # the second time within two seconds
        for key in flood.keys:
            ask(flood, giver, key, m.ModelRequest(task=group.task))
        group.world.run(0.2)
    given = answers_of(group, giver, flood)
    assert 0 < given <= min(600, ANSWER_BURST_BYTES / size + 20)


def test_a_blob_that_nobody_was_asked_for_is_not_hashed(group: Crowd) -> None:
    manifest = group.members[0].core.book.entries[group.task].manifest
    for node in (group.engineer, *group.members):
        node.blobs.clear()  # so that who joins goes on asking
    key = group.world.key()
    late = group.world.add(
        replace(group.settings, peer=key.peer_id), key, trainer=DigitsTrainer(manifest, samples_of(2), seed=9)
    )
    flood = strangers_to(group, 1)
    group.world.run(3)
    assert group.task not in late.core.tasks.learning
    forged = bytes(manifest.initial_weights.num_bytes)
    blob = m.Blob(task=group.task, digest=manifest.initial_weights.digest, content=forged)
    ask(flood, late, flood.keys[0], blob)
    group.world.run(0.1)
    assert late.dropped[-1] == "not-asked"


def test_a_record_that_is_erased_again_and_again_comes_back_ever_more_seldom(group: Crowd) -> None:
    core, world = group.members[0].core, group.world
    topic = TaskTopic(group.engineer.peer, group.task, "manifest")
    relays: list[float] = []
    for _ in range(400):
        world.now_s += 3.0
        core.erased(topic, world.moment())
        effects = core.tick(world.moment())
        relays += [world.now_s for each in effects if isinstance(each, fx.Relay) and each.received.topic == topic]
    assert 3 <= len(relays) <= 8  # in twenty minutes; after every other erasure before
    assert np.all(np.diff(np.diff(relays)) > 0)


def test_one_answer_serves_all_tasks_that_begin_with_the_same_weights() -> None:
    """As a publisher's twelve variants of a task do, who gives the same bytes to the same peer but seldom."""
    world = World(0)
    key = world.key()
    settings = CoreSettings(
        peer="",
        review=ReviewPolicy(approvals=0),
        limits=DeviceLimits(memory_mb=10_000, cores=64),
        heartbeat_s=1.0,
        match_data=lambda _task, _manifest: "",
    )
    engineer = world.add(replace(settings, peer=key.peer_id, consent="never"), key)
    key = world.key()
    manifest = digits_manifest(engineer.peer, created_at_ms=EPOCH_MS)
    member = world.add(replace(settings, peer=key.peer_id), key, trainer=DigitsTrainer(manifest, samples_of(0), seed=0))
    world.run(2)
    tasks = [
        world.publish_task(engineer, replace(manifest, name=f"variant {k}"), built_digits().weights) for k in range(12)
    ]
    world.run(10)
    assert set(member.core.tasks.learning) == set(tasks)
