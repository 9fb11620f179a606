"""A broker that gives no retained messages to wildcard subscriptions: records come from peers, and in bounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tests.swarm.digits import built_digits, digits_manifest
from tests.swarm.world import EPOCH_MS, Node, World

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay import catching_up, record_giver
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.core.settings import CoreSettings, ReviewPolicy
from grapevine_proto import messages as m
from grapevine_proto.codec import open_envelope
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic

HEARTBEAT_S = 30.0  # every message is really signed: seldom, so that hours pass quickly


def observing(world: World, num: int, **changes: object) -> list[Node]:
    """Peers that only hear and review."""
    nodes = []
    for _ in range(num):
        key = world.key()
        settings = CoreSettings(peer=key.peer_id, consent="never", heartbeat_s=HEARTBEAT_S, **changes)  # type: ignore[arg-type]
        nodes.append(world.add(settings, key))
    return nodes


def publish(world: World, node: Node, *, name: str = "digits") -> str:
    manifest: TaskManifest = replace(digits_manifest(node.peer, created_at_ms=EPOCH_MS), name=name)
    return world.publish_task(node, manifest, built_digits().weights)


def knows(node: Node, task: str) -> bool:
    return task in node.core.book.entries


def letters_of(world: World, kind: type[m.Body]) -> Counter[tuple[str, str]]:
    """How many messages of a kind were put into inboxes from now on: (receiver, sender)."""
    seen: Counter[tuple[str, str]] = Counter()
    broadcast = world._broadcast

    def note(topic: str, payload: bytes, *, retain: bool) -> None:
        if topic.startswith("inbox/"):
            _, receiver, sender = topic.split("/")
            if isinstance(open_envelope(payload, InboxTopic(receiver, sender)).message.body, kind):
                seen[receiver, sender] += 1
        broadcast(topic, payload, retain=retain)

    world._broadcast = note  # type: ignore[method-assign]
    return seen


def test_a_newcomer_learns_of_tasks_and_reviews_from_peers_and_finds_out_who_is_there() -> None:
    world = World(1, wildcards_retain=False)
    old = observing(world, 4)
    world.run(5)
    task = publish(world, old[0])
    world.run(1)
    for reviewer in old[1:3]:
        world.approve(reviewer, task)
    world.run(60)
    (newcomer,) = observing(world, 1, review=ReviewPolicy(trusted=frozenset(each.peer for each in old[1:3])))
    world.run(1.5)
    assert not knows(newcomer, task)
    world.run(12)
    assert knows(newcomer, task)
    world.run(2 * HEARTBEAT_S)
    entry = newcomer.core.book.entries[task]
    assert newcomer.core.judgement(entry, world.moment()).standing == "approved"
    assert newcomer.core.members.num_alive(world.now_s) == 4


def test_where_retained_messages_come_nothing_of_this_is_said() -> None:
    world = World(1)
    seen = [letters_of(world, kind) for kind in (m.RecordDigests, m.RecordRequest, m.RecordBatch)]
    old = observing(world, 4)
    task = publish(world, old[0])
    world.run(30)
    (newcomer,) = observing(world, 1)
    newcomer.core.found(BrokerAbilities(), world.moment())
    world.run(1_000)
    assert knows(newcomer, task)
    assert not any(seen)
    announcement = newcomer.core.members.peers[old[0].peer].announcement
    assert announcement.lacks == announcement.records == 0


def test_of_many_about_three_answer() -> None:
    world = World(2, wildcards_retain=False)
    old = observing(world, 30)
    task = publish(world, old[0])
    world.run(4 * HEARTBEAT_S)
    digests, batches = letters_of(world, m.RecordDigests), letters_of(world, m.RecordBatch)
    newcomers = []
    for _ in range(6):
        newcomers += observing(world, 1)
        world.run(60)
    assert all(knows(each, task) for each in newcomers)
    to_newcomers = sum(num for (receiver, _), num in digests.items() if receiver in {each.peer for each in newcomers})
    assert 6 <= to_newcomers <= 36
    assert sum(batches.values()) <= 12  # one of those who answered is asked, not all


def test_a_task_that_was_published_meanwhile_reaches_who_was_away() -> None:
    world = World(3, wildcards_retain=False)
    nodes = observing(world, 5)
    world.run(30)
    world.lose(nodes[4])
    task = publish(world, nodes[0])
    world.run(600)
    assert not knows(nodes[4], task)
    world.connect(nodes[4])
    world.run(40)
    assert knows(nodes[4], task)


def test_a_partition_that_heals_without_a_new_connection_is_noticed_by_the_digests() -> None:
    world = World(4, wildcards_retain=False)
    nodes = observing(world, 4)
    world.run(100)
    world.lose(nodes[3])  # it hears nothing, and is not told that it does not
    task = publish(world, nodes[0])
    world.run(100)
    nodes[3].up = True
    world.run(2_500)  # an announcement is repeated
    assert knows(nodes[3], task)


def test_the_first_alone_asks_ever_more_seldom() -> None:
    world = World(5, wildcards_retain=False)
    (alone,) = observing(world, 1)
    world.run(24 * 3600)
    assert 10 < alone.core.exchange.catching_up.lacks < 40


def test_all_hold_the_same_in_the_end_and_then_it_is_quiet() -> None:
    world = World(6, wildcards_retain=False)
    nodes = observing(world, 6)
    world.run(30)
    for number, node in enumerate(nodes[:3]):
        publish(world, node, name=f"task {number}")
    nodes += observing(world, 6)
    world.run(1_000)
    digests = {node.core.exchange.digest(world.now_s) for node in nodes}
    assert len(digests) == 1
    seen = [letters_of(world, kind) for kind in (m.RecordDigests, m.RecordRequest, m.RecordBatch)]
    world.run(3_000)
    assert not any(seen)


def test_where_not_all_may_have_come_it_is_asked_once() -> None:
    world = World(7)
    old = observing(world, 4)
    task = publish(world, old[0])
    world.run(60)
    (newcomer,) = observing(world, 1)
    world.perform(newcomer, newcomer.core.found(BrokerAbilities(may_lack=True), world.moment()))
    seen = letters_of(world, m.RecordDigests)
    world.run(4_000)
    assert knows(newcomer, task)
    assert newcomer.core.exchange.catching_up.lacks == 1
    assert 1 <= sum(seen.values()) <= 4
    assert world.num_carried == 0  # nothing was missing


# --- bounds ---------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> tuple[World, Node, Node]:
    """One that holds a task, and one that has asked and been answered."""
    world = World(8, wildcards_retain=False)
    holder, asker = observing(world, 2)
    publish(world, holder)
    world.run(60)
    return world, holder, asker


def say(world: World, sender: Node, receiver: Node, body: m.Body) -> None:
    topic = InboxTopic(receiver.peer, sender.peer)
    world.perform(sender, [fx.Publish(topic=topic, body=body, receiver_session=receiver.session)])
    world.run(0.1)


def test_nobody_is_told_twice_in_so_many_seconds(pair: tuple[World, Node, Node]) -> None:
    world, holder, asker = pair
    seen = letters_of(world, m.RecordDigests)
    for _ in range(50):
        say(world, asker, holder, m.RecordRequest())
    assert sum(seen.values()) == 1
    assert holder.dropped.count("over-quota") == 49
    world.run(record_giver.DIGESTS.every_s)
    say(world, asker, holder, m.RecordRequest())
    assert sum(seen.values()) == 2


def test_what_nobody_asked_for_is_not_taken(pair: tuple[World, Node, Node]) -> None:
    world, holder, asker = pair
    record = next(iter(holder.core.records))
    assert isinstance(record.topic, PeerTopic | TaskTopic)
    topic = TaskTopic(holder.peer, "7" * 64, "review")
    say(world, holder, asker, m.RecordBatch(records=(m.CarriedRecord(topic=topic, envelope=b"junk"),)))
    say(world, holder, asker, m.RecordDigests(sequences={b"12345678": 9}))
    assert asker.dropped[-2:] == ["not-asked", "not-asked"]


def test_a_peer_that_offers_without_end_is_asked_for_a_bounded_number(pair: tuple[World, Node, Node]) -> None:
    world, holder, asker = pair
    seen: list[int] = []
    world.perform(asker, asker.core.found(BrokerAbilities(), world.moment()))
    world.perform(asker, asker.core.found(BrokerAbilities(wildcard=False), world.moment()))
    answer = holder.core.exchange.giver.answer
    holder.core.exchange.giver.answer = lambda *given: seen.append(len(given[2].names)) or answer(*given)  # type: ignore[func-returns-value,method-assign]
    for start in range(0, 5_000, m.MAX_NAMED):
        names = {number.to_bytes(8, "big"): 1 << 50 for number in range(start, start + m.MAX_NAMED)}
        say(world, holder, asker, m.RecordDigests(sequences=names))
    assert 0 < sum(seen) <= catching_up.MOST_TAKEN


def test_records_go_in_packets_that_the_broker_takes() -> None:
    world = World(9, wildcards_retain=False)
    holder, asker = observing(world, 2)
    for number in range(6):
        task = publish(world, holder, name=f"task {number}")
        world.run(0.1)
        world.approve(holder, task)
    world.run(5)
    record = next(each for topic, each in record_giver.lasting(holder.core.records) if topic.leaf == "manifest")
    most = len(record.envelope) + 1_500
    holder.core.exchange.giver._given[asker.peer] = world.now_s + 60
    names = tuple(record_giver.sequences_of(holder.core.records))
    effects = holder.core.exchange.giver.answer(
        asker.peer, 1, m.RecordRequest(names=names), holder.core.records, most, world.now_s
    )
    batches = [each.body for each in effects if isinstance(each, fx.Publish) and isinstance(each.body, m.RecordBatch)]
    assert sum(len(each.records) for each in batches) == 12
    assert max(sum(len(carried.envelope) for carried in each.records) for each in batches) < most
