"""What the shared suite (tests/e2e/test_broker_behaviour.py) cannot see: exact times, bounds, order and state."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest

from grapevine_lab.simulator.broker import Delivery, MemoryBroker, Will

HOUR_S = 3600.0


def broker_with(*clients: str, **limits: int) -> MemoryBroker:
    broker = MemoryBroker(**limits)
    for client in clients:
        broker.connect(client, now_s=0.0)
    return broker


def payloads(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.payload for delivery in deliveries]


# --- a virtual clock ----------------------------------------------------------------------------------


def test_a_session_lasts_until_its_very_moment() -> None:
    broker = broker_with("writer")
    for client, returns_at_s, is_present in (("in time", 59.9, True), ("too late", 60.0, False)):
        broker.connect(client, session_expiry_s=60.0, now_s=0.0)
        broker.disconnect(client, 0.0)
        assert broker.deadline_s() == 60.0
        assert broker.connect(client, clean_start=False, now_s=returns_at_s).session_present is is_present
    assert broker.deadline_s() == inf


def test_a_session_without_end_has_no_deadline() -> None:
    broker = broker_with("writer")
    broker.connect("reader", session_expiry_s=inf, now_s=0.0)
    broker.subscribe("reader", "a", 1, 0.0)
    broker.drop("reader", 0.0)
    broker.publish("writer", "a", b"x", 1, False, 1e9)
    assert broker.deadline_s() == inf
    assert payloads(broker.connect("reader", clean_start=False, now_s=2e9).deliveries) == [b"x"]


def test_delayed_wills_and_ends_of_sessions_come_in_the_order_of_their_times() -> None:
    broker = broker_with("watcher")
    broker.subscribe("watcher", "#", 0, 0.0)
    for client, delay_s, expiry_s in (("a", 30.0, 60.0), ("b", 60.0, 20.0), ("c", 25.0, 60.0), ("d", 40.0, 40.0)):
        broker.connect(client, session_expiry_s=expiry_s, will=Will(client, b"gone", delay_s=delay_s), now_s=0.0)
        broker.drop(client, 0.0)
    assert broker.deadline_s() == 20.0
    assert broker.tick(19.9) == []
    assert [delivery.topic for delivery in broker.tick(100.0)] == ["b", "c", "a", "d"]
    assert broker.deadline_s() == inf


def test_a_delayed_will_that_was_cancelled_never_comes() -> None:
    broker = broker_with("watcher")
    broker.subscribe("watcher", "#", 0, 0.0)
    broker.connect("lost", session_expiry_s=HOUR_S, will=Will("will", b"gone", delay_s=5.0), now_s=0.0)
    broker.drop("lost", 0.0)
    assert broker.connect("lost", clean_start=False, now_s=4.0) == (True, [])
    assert broker.deadline_s() == inf
    assert broker.tick(10.0) == []
    assert broker.drop("lost", 11.0) == []


def test_what_is_due_happens_before_a_call_even_if_nobody_ticked() -> None:
    broker = broker_with("watcher", "writer")
    broker.subscribe("watcher", "#", 0, 0.0)
    broker.connect("lost", session_expiry_s=60.0, will=Will("will", b"gone", delay_s=5.0), now_s=0.0)
    broker.drop("lost", 0.0)
    with pytest.raises(ValueError, match="not connected"):
        broker.publish("lost", "a", b"x", 0, False, 6.0)
    assert payloads(broker.publish("writer", "a", b"later", 0, False, 6.0)) == [b"gone", b"later"]


def test_a_retained_message_runs_out_at_its_moment_and_a_newer_one_at_its_own() -> None:
    broker = broker_with("writer", "reader")
    broker.publish("writer", "a", b"old", 0, True, 0.0, expiry_s=10.0)
    broker.publish("writer", "a", b"new", 0, True, 5.0, expiry_s=10.0)
    assert payloads(broker.subscribe("reader", "a", 0, 14.9)) == [b"new"]
    assert broker.deadline_s() == 15.0
    assert broker.subscribe("reader", "a", 0, 15.0) == []
    broker.publish("writer", "a", b"short", 0, True, 20.0, expiry_s=1.0)
    assert broker.deadline_s() == 21.0
    broker.publish("writer", "a", b"for ever", 0, True, 20.5)
    assert broker.deadline_s() == inf
    assert payloads(broker.subscribe("reader", "a", 0, 1e6)) == [b"for ever"]


def test_a_retained_message_that_is_announced_again_and_again_keeps_one_timer() -> None:
    broker = broker_with("writer")
    for second in range(1000):
        broker.publish("writer", "a", b"x", 0, True, float(second), expiry_s=HOUR_S)
    once = broker_with("writer")
    once.publish("writer", "a", b"x", 0, True, 0.0, expiry_s=HOUR_S)
    assert len(pickle.dumps(broker)) < len(pickle.dumps(once)) + 100


def test_a_message_that_waits_runs_out_and_one_in_flight_does_not() -> None:
    broker = broker_with("writer", max_in_flight=1)
    broker.connect("reader", session_expiry_s=HOUR_S, now_s=0.0)
    broker.subscribe("reader", "a", 1, 0.0)
    broker.publish("writer", "a", b"in flight", 1, False, 0.0, expiry_s=1.0)
    broker.publish("writer", "a", b"runs out", 1, False, 0.0, expiry_s=1.0)
    broker.publish("writer", "a", b"lasts", 1, False, 0.0, expiry_s=9.0)
    broker.drop("reader", 0.5)
    (again,) = broker.connect("reader", clean_start=False, now_s=2.0).deliveries
    assert (again.payload, again.duplicate) == (b"in flight", True)
    assert payloads(broker.acknowledge("reader", again.packet_id, 2.0)) == [b"lasts"]


def test_the_expiry_of_a_will_counts_from_its_publication() -> None:
    broker = broker_with("reader")
    will = Will("a", b"gone", retain=True, delay_s=10.0, expiry_s=5.0)
    broker.connect("lost", session_expiry_s=HOUR_S, will=will, now_s=0.0)
    broker.drop("lost", 0.0)
    assert broker.tick(10.0) == []
    assert payloads(broker.subscribe("reader", "a", 0, 14.9)) == [b"gone"]
    assert broker.subscribe("reader", "a", 0, 15.0) == []


# --- bounds -------------------------------------------------------------------------------------------


def test_a_full_queue_drops_the_newest_and_counts_it() -> None:
    broker = broker_with("writer")
    broker.connect("reader", session_expiry_s=HOUR_S, now_s=0.0)
    broker.subscribe("reader", "a", 1, 0.0)
    broker.drop("reader", 0.0)
    for number in range(1003):
        broker.publish("writer", "a", b"%d" % number, 1, False, 0.0)
    assert broker.num_dropped == 3
    waiting = broker.connect("reader", clean_start=False, now_s=0.0).deliveries
    received = []
    while waiting:
        delivery = waiting.pop(0)
        received.append(delivery.payload)
        waiting += broker.acknowledge("reader", delivery.packet_id, 0.0)
    assert received == [b"%d" % number for number in range(1000)]


def test_what_has_run_out_makes_room_in_a_full_queue() -> None:
    broker = broker_with("writer", max_queued_messages=2)
    broker.connect("reader", session_expiry_s=HOUR_S, now_s=0.0)
    broker.subscribe("reader", "a", 1, 0.0)
    broker.drop("reader", 0.0)
    for payload, expiry_s, now_s in (
        (b"short", 1.0, 0.0),
        (b"long", 9.0, 0.0),
        (b"lost", 9.0, 0.9),
        (b"fits", 9.0, 1.0),
    ):
        broker.publish("writer", "a", payload, 1, False, now_s, expiry_s)
    assert broker.num_dropped == 1
    assert payloads(broker.connect("reader", clean_start=False, now_s=2.0).deliveries) == [b"long", b"fits"]


def test_a_slow_but_connected_client_has_the_same_bounds() -> None:
    broker = broker_with("writer", "reader", max_in_flight=3, max_queued_messages=2)
    broker.subscribe("reader", "a", 1, 0.0)
    sent = [broker.publish("writer", "a", b"%d" % number, 1, False, 0.0) for number in range(7)]
    assert [len(deliveries) for deliveries in sent] == [1, 1, 1, 0, 0, 0, 0]
    assert broker.num_dropped == 2


def test_packet_ids_start_again_after_the_last_and_pass_over_those_in_flight() -> None:
    broker = broker_with("writer", "reader")
    broker.subscribe("reader", "a", 1, 0.0)
    (kept,) = broker.publish("writer", "a", b"never acknowledged", 1, False, 0.0)
    assert kept.packet_id == 1
    packet_ids = []
    for _ in range(65_535):
        (delivery,) = broker.publish("writer", "a", b"x", 1, False, 0.0)
        packet_ids.append(delivery.packet_id)
        broker.acknowledge("reader", delivery.packet_id, 0.0)
    assert packet_ids == [*range(2, 65_536), 2]


def test_an_acknowledgement_counts_once_and_only_over_its_connection() -> None:
    broker = broker_with("writer", max_in_flight=1)
    broker.connect("reader", session_expiry_s=HOUR_S, now_s=0.0)
    broker.subscribe("reader", "a", 1, 0.0)
    (first,) = broker.publish("writer", "a", b"0", 1, False, 0.0)
    for number in (1, 2):
        broker.publish("writer", "a", b"%d" % number, 1, False, 0.0)
    assert payloads(broker.acknowledge("reader", first.packet_id, 0.0)) == [b"1"]
    assert broker.acknowledge("reader", first.packet_id, 0.0) == []
    broker.drop("reader", 0.0)
    assert broker.acknowledge("reader", first.packet_id + 1, 0.0) == []
    assert payloads(broker.connect("reader", clean_start=False, now_s=0.0).deliveries) == [b"1"]
    assert broker.acknowledge("nobody", 1, 0.0) == []


# --- who, and in which order --------------------------------------------------------------------------


def test_a_delivery_names_its_publisher_live_kept_and_of_a_will() -> None:
    broker = broker_with("writer", "reader")
    (live,) = broker.subscribe("reader", "a", 1, 0.0) or broker.publish("writer", "a", b"x", 1, True, 0.0)
    broker.disconnect("writer", 0.0)
    (kept,) = broker.subscribe("reader", "a", 1, 0.0)
    broker.connect("lost", will=Will("a", b"gone", 1), now_s=0.0)
    (will,) = broker.drop("lost", 0.0)
    assert live == Delivery("reader", "a", b"x", 1, False, "writer", 1, False)
    assert kept == Delivery("reader", "a", b"x", 1, True, "writer", 2, False)
    assert will == Delivery("reader", "a", b"gone", 1, False, "lost", 3, False)


def test_a_will_can_reach_the_client_whose_will_it_was() -> None:
    broker = broker_with()
    broker.connect("twice", session_expiry_s=HOUR_S, will=Will("a", b"first", 1), now_s=0.0)
    broker.subscribe("twice", "a", 1, 0.0)
    connection = broker.connect("twice", clean_start=False, session_expiry_s=HOUR_S, now_s=1.0)
    assert payloads(connection.deliveries) == [b"first"]


def test_members_of_a_group_take_turns_in_the_order_in_which_they_came() -> None:
    broker = broker_with("writer", "c", "a", "b")
    for member in ("c", "a", "b"):
        broker.subscribe(member, "$share/group/+", 0, 0.0)
    turns = [broker.publish("writer", "x", b"", 0, False, 0.0)[0].client for _ in range(5)]
    assert turns == ["c", "a", "b", "c", "a"]


def test_a_group_whose_members_are_all_absent_keeps_qos_1_and_loses_qos_0() -> None:
    broker = broker_with("writer")
    for member in ("a", "b"):
        broker.connect(member, session_expiry_s=HOUR_S, now_s=0.0)
        broker.subscribe(member, "$share/group/x", 1, 0.0)
        broker.drop(member, 0.0)
    for number in range(4):
        assert broker.publish("writer", "x", b"%d" % number, number // 2, False, 0.0) == []
    returned = [broker.connect(member, clean_start=False, now_s=1.0).deliveries for member in ("a", "b")]
    assert [payloads(deliveries) for deliveries in returned] == [[b"2"], [b"3"]]


def session_of_many(broker: MemoryBroker, rng: np.random.Generator, num_steps: int) -> list[Delivery]:
    """Drive a broker with everything there is, at random; return all that it sent."""
    clients = [f"client-{number}" for number in range(6)]
    topic_filters = ["a/b", "a/+", "#", "+/b/#", "$share/g/a/+", "$share/h/a/b", "c"]
    sent: list[Delivery] = []
    for step in range(num_steps):
        now_s = float(step)
        client, topic_filter = clients[rng.integers(6)], topic_filters[rng.integers(7)]
        kind = rng.choice(
            ["connect", "disconnect", "drop", "subscribe", "unsubscribe", "acknowledge", *["publish"] * 6]
        )
        if kind == "connect" or not broker.is_connected(client):
            will = Will("a/will", client.encode(), int(rng.integers(2)), bool(rng.integers(2)), float(rng.integers(9)))
            is_clean, expiry_s = bool(rng.random() < 0.2), float(rng.integers(40))
            sent += broker.connect(
                client, clean_start=is_clean, session_expiry_s=expiry_s, will=will, now_s=now_s
            ).deliveries
        elif kind in ("disconnect", "drop"):
            sent += getattr(broker, kind)(client, now_s)
        elif kind == "subscribe":
            sent += broker.subscribe(client, topic_filter, int(rng.integers(2)), now_s)
        elif kind == "unsubscribe":
            sent += broker.unsubscribe(client, topic_filter, now_s)
        elif kind == "acknowledge":
            sent += broker.acknowledge(client, int(rng.integers(1, 30)), now_s)
        else:
            topic = ["a/b", "a/c", "c"][rng.integers(3)]
            qos, retain, expiry_s = int(rng.integers(2)), bool(rng.integers(2)), float(rng.integers(1, 30))
            sent += broker.publish(client, topic, b"%d" % step, qos, retain, now_s, expiry_s)
    return sent


def test_a_broker_that_was_pickled_goes_on_as_the_one_that_was_not() -> None:
    broker = MemoryBroker(max_in_flight=3, max_queued_messages=5)
    session_of_many(broker, np.random.default_rng(1), 2000)
    copy = pickle.loads(pickle.dumps(broker))
    rest = session_of_many(broker, np.random.default_rng(2), 2000)
    assert len(rest) > 1000
    assert session_of_many(copy, np.random.default_rng(2), 2000) == rest
    assert copy.num_dropped == broker.num_dropped > 0


def test_a_run_repeats_under_another_hash_seed() -> None:
    script = (
        "import hashlib, numpy as np; from grapevine_lab.simulator.broker import MemoryBroker;"
        "from tests.unit.lab.simulator.test_broker import session_of_many;"
        "sent = session_of_many(MemoryBroker(max_in_flight=3), np.random.default_rng(3), 2000);"
        "print(len(sent), hashlib.sha256(repr(sent).encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[4],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "why"),
    [
        ("", "at least one character"),
        ("a/#/b", "last level"),
        ("a#", "does not fill its level"),
        ("a/b+", "does not fill its level"),
        ("a\0b", "null character"),
        ("ä" * 40_000, "80000 bytes"),
        ("$share/group", "<group>/<filter>"),
        ("$share/group/", "<group>/<filter>"),
        ("$share//a", "<group>/<filter>"),
        ("$share/+/a", "<group>/<filter>"),
        ("$share/group/a#", "does not fill its level"),
    ],
)
def test_a_filter_that_mqtt_forbids_is_refused(topic_filter: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        broker_with("reader").subscribe("reader", topic_filter, 0, 0.0)


@pytest.mark.parametrize(
    ("topic", "why"),
    [("", "at least one"), ("a/+", "wildcard"), ("#", "wildcard"), ("\0", "null"), ("a" * 70_000, "70000 bytes")],
)
def test_a_topic_that_mqtt_forbids_is_refused(topic: str, why: str) -> None:
    broker = broker_with("writer")
    with pytest.raises(ValueError, match=why):
        broker.publish("writer", topic, b"x", 0, False, 0.0)
    with pytest.raises(ValueError, match=why):
        broker.connect("other", will=Will(topic, b"x"), now_s=0.0)
    assert not broker.is_connected("other")


def test_what_else_mqtt_forbids_is_refused() -> None:
    broker = broker_with("client")
    with pytest.raises(ValueError, match="qos=2"):
        broker.publish("client", "a", b"x", 2, False, 0.0)
    with pytest.raises(ValueError, match="qos=2"):
        broker.subscribe("client", "a", 2, 0.0)
    with pytest.raises(ValueError, match="retain_handling=3"):
        broker.subscribe("client", "a", 0, 0.0, retain_handling=3)
    with pytest.raises(ValueError, match="no_local"):
        broker.subscribe("client", "$share/group/a", 0, 0.0, no_local=True)
    with pytest.raises(ValueError, match="has an id"):
        broker.connect("", now_s=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        MemoryBroker(max_in_flight=0)


def test_only_who_is_connected_can_speak_and_only_once_can_one_leave() -> None:
    broker = broker_with("watcher")
    broker.subscribe("watcher", "#", 0, 0.0)
    broker.connect("gone", session_expiry_s=HOUR_S, will=Will("will", b"gone"), now_s=0.0)
    assert payloads(broker.drop("gone", 0.0)) == [b"gone"]
    assert broker.drop("gone", 0.0) == []
    assert broker.disconnect("gone", 0.0) == []
    assert broker.drop("never there", 0.0) == []
    calls: list[Callable[[], object]] = [
        lambda: broker.publish("gone", "a", b"x", 0, False, 0.0),
        lambda: broker.subscribe("gone", "a", 0, 0.0),
        lambda: broker.unsubscribe("gone", "a", 0.0),
    ]
    for speak in calls:
        with pytest.raises(ValueError, match="'gone' is not connected"):
            speak()
