"""Giving records back, and how often somebody may make us do it."""

from __future__ import annotations

import numpy as np

from grapevine_agent.core.overlay.pauses import LONGEST_PAUSE_S
from grapevine_agent.core.overlay.relays import BATCH_BYTES, BATCH_RECORDS, Relays
from grapevine_proto.codec import Received
from grapevine_proto.messages import Message, Review
from grapevine_proto.topics import TaskTopic, Topic


def record(number: int, num_bytes: int = 200) -> Received:
    topic = TaskTopic(f"r{number:019d}", "7" * 64, "review")
    message = Message(sender=topic.peer, session=1, sequence=1, body=Review(task="7" * 64, approved=True))
    return Received(message=message, topic=topic, envelope=bytes(num_bytes))


def relays_of(held: list[Received]) -> Relays:
    """Connected at second 0, to a broker that has them all."""
    relays = Relays(rng=np.random.default_rng(0))
    relays.connected(0.0)
    for each in held:
        relays.heard(each.topic)
    assert relays.due(held, 10.0) == []
    return relays


def test_what_was_erased_is_given_back_after_a_while_and_once() -> None:
    held = [record(0), record(1)]
    relays = relays_of(held)
    relays.erased(held[0].topic, 100.0)
    assert 103.0 <= relays.due_s <= 108.0
    assert relays.due(held, 102.9) == []
    assert relays.due(held, 108.0) == [held[0]]
    assert relays.due(held, 1_000.0) == []


def test_somebody_else_who_gave_it_back_before_us_spares_us_the_trouble() -> None:
    held = [record(0)]
    relays = relays_of(held)
    relays.erased(held[0].topic, 100.0)
    relays.heard(held[0].topic)
    assert relays.due(held, 108.0) == []


def test_who_erases_again_and_again_makes_us_publish_ever_more_seldom() -> None:
    held = [record(0)]
    relays = relays_of(held)
    times = []
    for now_s in range(100, 100 + 24 * 3_600):
        if now_s % 3 == 0:
            relays.erased(held[0].topic, float(now_s))
        times += [now_s] * len(relays.due(held, float(now_s)))
    assert 5 < len(times) < 40  # an hour apart in the end; each erasure was 10,000 before
    pauses = np.diff(times)
    assert np.all(pauses[:6] < pauses[1:7])
    assert pauses[-1] >= LONGEST_PAUSE_S


def test_a_record_that_waits_for_its_pause_does_come_back() -> None:
    held = [record(0)]
    relays = relays_of(held)
    relays.erased(held[0].topic, 100.0)
    assert relays.due(held, 108.0) == held
    relays.heard(held[0].topic)
    relays.erased(held[0].topic, 109.0)
    assert relays.due_s > 120.0
    assert relays.due(held, relays.due_s) == held


def test_a_broker_that_lost_everything_gets_it_back_in_batches() -> None:
    held = [record(k) for k in range(3 * BATCH_RECORDS)]
    relays = Relays(rng=np.random.default_rng(0))
    relays.connected(0.0)
    given: list[Topic] = []
    for now_s in range(8, 12):
        batch = relays.due(held, float(now_s))
        assert len(batch) <= BATCH_RECORDS
        given += [each.topic for each in batch]
    assert sorted(given, key=str) == sorted((each.topic for each in held), key=str)
    large = [record(k, BATCH_BYTES) for k in range(3)]
    relays.connected(100.0)
    assert len(relays.due(large, 108.0)) == 1
