"""How a broker behaves: retained messages, filters and quality of service."""

from __future__ import annotations

from tests.e2e.broker_suite import YEAR_S, Behaviour, Broker, Heard, collector, payloads, texts

BEHAVIOURS: list[Behaviour] = []
behaviour = collector(BEHAVIOURS)


# --- retained messages --------------------------------------------------------------------------------


@behaviour
def a_live_message_comes_without_the_retain_flag_and_a_kept_one_with_it(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("early")
    broker.connect("late")
    broker.subscribe("early", f"{root}/a")
    broker.publish("writer", f"{root}/a", b"x", retain=True)
    broker.subscribe("late", f"{root}/a")
    assert broker.received("early", 1) == [Heard(f"{root}/a", b"x", 1, retained=False)]
    assert broker.received("late", 1) == [Heard(f"{root}/a", b"x", 1, retained=True)]


@behaviour
def the_newest_retained_message_replaces_the_one_before(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"old", retain=True)
    broker.publish("writer", f"{root}/a", b"new", retain=True)
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    assert broker.received("reader", 1) == [Heard(f"{root}/a", b"new", 1, retained=True)]


@behaviour
def an_empty_retained_message_erases_and_is_itself_delivered(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("early")
    broker.connect("late")
    broker.publish("writer", f"{root}/a", b"x", retain=True)
    broker.publish("writer", f"{root}/b", b"stays", retain=True)
    broker.subscribe("early", f"{root}/a", retain_handling=2)
    broker.publish("writer", f"{root}/a", b"", retain=True)
    broker.subscribe("late", f"{root}/+")
    assert broker.received("early", 1) == [Heard(f"{root}/a", b"", 1)]
    assert payloads(broker.received("late", 1)) == [b"stays"]


@behaviour
def an_erased_retained_message_does_not_come_back(broker: Broker, root: str) -> None:
    """The same without subscribe options, for brokers of version 3."""
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"x", retain=True)
    broker.publish("writer", f"{root}/b", b"stays", retain=True)
    broker.publish("writer", f"{root}/a", b"", retain=True)
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/+")
    assert payloads(broker.received("reader", 1)) == [b"stays"]


@behaviour
def a_message_without_the_retain_flag_leaves_the_kept_one_alone(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"kept", retain=True)
    broker.publish("writer", f"{root}/a", b"passing")
    broker.publish("writer", f"{root}/a", b"")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    assert payloads(broker.received("reader", 1)) == [b"kept"]


@behaviour
def retained_messages_are_found_by_filters_with_wildcards(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for topic in ("a", "a/b", "a/b/c", "a//c", "d/b"):
        broker.publish("writer", f"{root}/{topic}", topic.encode(), retain=True)
    expected = {
        "a/#": {b"a", b"a/b", b"a/b/c", b"a//c"},
        "+/b": {b"a/b", b"d/b"},
        "a/+/c": {b"a/b/c", b"a//c"},
        "+": {b"a"},
        "+/+/#": {b"a/b", b"a/b/c", b"a//c", b"d/b"},
    }
    for number, (topic_filter, found) in enumerate(expected.items()):
        broker.connect(f"reader{number}")
        broker.subscribe(f"reader{number}", f"{root}/{topic_filter}")
        heard = broker.received(f"reader{number}", len(found))
        assert len(heard) == len(found)
        assert set(payloads(heard)) == found
        assert all(message.retained for message in heard)


@behaviour
def subscribing_again_brings_the_retained_message_again(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"x", retain=True)
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    broker.subscribe("reader", f"{root}/a")
    assert payloads(broker.received("reader", 2)) == [b"x", b"x"]


@behaviour
def retain_handling_1_greets_only_a_new_subscription_and_2_none(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"x", retain=True)
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a", retain_handling=2)
    broker.subscribe("reader", f"{root}/a", retain_handling=1)
    assert broker.received("reader") == []
    broker.unsubscribe("reader", f"{root}/a")
    broker.subscribe("reader", f"{root}/a", retain_handling=1)
    assert payloads(broker.received("reader", 1)) == [b"x"]


@behaviour
def retain_as_published_keeps_the_flag_of_live_messages(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a", retain_as_published=True)
    broker.publish("writer", f"{root}/a", b"kept", retain=True)
    broker.publish("writer", f"{root}/a", b"passing")
    assert [(m.payload, m.retained) for m in broker.received("reader", 2)] == [(b"kept", True), (b"passing", False)]


@behaviour
def a_retained_message_outlives_its_publisher(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"x", retain=True)
    broker.disconnect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    assert broker.received("reader", 1) == [Heard(f"{root}/a", b"x", 1, retained=True)]


@behaviour
def a_retained_message_comes_at_the_smaller_qos_of_publisher_and_subscriber(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for published in (0, 1):
        broker.publish("writer", f"{root}/{published}", b"x", qos=published, retain=True)
    for granted in (0, 1):
        broker.connect(f"reader{granted}")
        for published in (0, 1):
            broker.subscribe(f"reader{granted}", f"{root}/{published}", qos=granted)
        heard = broker.received(f"reader{granted}", 2)
        assert [(m.topic, m.qos) for m in heard] == [(f"{root}/0", 0), (f"{root}/1", granted)]


@behaviour
def no_local_leaves_out_what_one_publishes_oneself(broker: Broker, root: str) -> None:
    broker.connect("self")
    broker.connect("other")
    broker.subscribe("self", f"{root}/+", no_local=True)
    broker.publish("self", f"{root}/a", b"own")
    broker.publish("other", f"{root}/a", b"other's")
    assert payloads(broker.received("self", 1)) == [b"other's"]


@behaviour
def no_local_leaves_out_ones_own_retained_messages(broker: Broker, root: str) -> None:
    broker.connect("self")
    broker.connect("other")
    broker.publish("self", f"{root}/a", b"own", retain=True)
    broker.publish("other", f"{root}/b", b"other's", retain=True)
    broker.subscribe("self", f"{root}/+", no_local=True)
    assert payloads(broker.received("self", 1)) == [b"other's"]


# --- filters ------------------------------------------------------------------------------------------


@behaviour
def a_plus_stands_for_exactly_one_level_even_an_empty_one(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/+/z")
    for topic in ("z", "b/z", "/z", "b/c/z", "b/z/z", "b/Z"):
        broker.publish("writer", f"{root}/{topic}", topic.encode())
    assert payloads(broker.received("reader", 2)) == [b"b/z", b"/z"]


@behaviour
def a_hash_stands_for_its_parent_and_everything_below(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a/#")
    for topic in ("a", "a/b", "a/b/c", "a/", "ab", "b/a"):
        broker.publish("writer", f"{root}/{topic}", topic.encode())
    assert payloads(broker.received("reader", 4)) == [b"a", b"a/b", b"a/b/c", b"a/"]


@behaviour
def a_topic_that_starts_with_a_dollar_is_hidden_from_leading_wildcards(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for reader, topic_filter in (("hash", "#"), ("plus", f"+/{root}/a"), ("named", f"$lab/{root}/#")):
        broker.connect(reader)
        # At QoS 0: what others have left on this broker would fill the window, and the marker would overtake the rest.
        broker.subscribe(reader, topic_filter, qos=0)
    broker.publish("writer", f"$lab/{root}/a", b"hidden")
    broker.publish("writer", f"lab/{root}/a", b"open")
    heard = [message for message in broker.received("hash", 1) if root in message.topic]  # others use the broker too
    assert payloads(heard) == [b"open"]
    assert payloads(broker.received("plus", 1)) == [b"open"]
    assert payloads(broker.received("named", 1)) == [b"hidden"]


@behaviour
def overlapping_subscriptions_bring_a_copy_each_at_their_own_qos(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a", qos=0)
    broker.subscribe("reader", f"{root}/+", qos=1)
    broker.subscribe("reader", f"{root}/#", qos=0)
    broker.publish("writer", f"{root}/a", b"x", qos=1)
    assert sorted(message.qos for message in broker.received("reader", 3)) == [0, 0, 1]


@behaviour
def the_same_filter_again_replaces_the_subscription(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/+", qos=1)
    broker.subscribe("reader", f"{root}/+", qos=0)
    broker.publish("writer", f"{root}/a", b"x", qos=1)
    assert broker.received("reader", 1) == [Heard(f"{root}/a", b"x", 0)]


@behaviour
def nothing_arrives_after_an_unsubscribe(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    broker.subscribe("reader", f"{root}/b/#")
    broker.unsubscribe("reader", f"{root}/a")
    broker.unsubscribe("reader", f"{root}/never")
    broker.publish("writer", f"{root}/a", b"x")
    broker.publish("writer", f"{root}/b", b"y")
    broker.unsubscribe("reader", f"{root}/b/#")
    broker.publish("writer", f"{root}/b", b"z")
    assert payloads(broker.received("reader", 1)) == [b"y"]


# --- quality of service -------------------------------------------------------------------------------


@behaviour
def a_message_comes_at_the_smaller_qos_of_publisher_and_subscriber(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for granted in (0, 1):
        broker.connect(f"reader{granted}")
        broker.subscribe(f"reader{granted}", f"{root}/a", qos=granted)
    for published in (0, 1):
        broker.publish("writer", f"{root}/a", b"%d" % published, qos=published)
    for granted in (0, 1):
        heard = broker.received(f"reader{granted}", 2)
        assert [(m.payload, m.qos) for m in heard] == [(b"0", 0), (b"1", min(1, granted))]


@behaviour
def messages_of_a_topic_keep_their_order(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/#")
    for number in range(120):
        broker.publish("writer", f"{root}/{number % 2}", b"%d" % number)
    heard = broker.received("reader", 120)
    for half in (0, 1):
        assert [m.payload for m in heard if m.topic == f"{root}/{half}"] == texts(*range(half, 120, 2))


@behaviour
def an_absent_session_misses_qos_0_and_gets_qos_1_when_it_returns(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/#", qos=1)
    broker.subscribe("reader", f"{root}/c", qos=0)
    broker.unsubscribe("reader", f"{root}/#")
    broker.subscribe("reader", f"{root}/a", qos=1)
    broker.disconnect("reader")
    broker.publish("writer", f"{root}/a", b"0", qos=0)
    broker.publish("writer", f"{root}/a", b"1", qos=1)
    broker.publish("writer", f"{root}/c", b"lost at a subscription of QoS 0", qos=1)
    broker.publish("writer", f"{root}/a", b"2", qos=1)
    assert broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    assert broker.received("reader", 2) == [Heard(f"{root}/a", b"1", 1), Heard(f"{root}/a", b"2", 1)]


@behaviour
def what_was_not_acknowledged_comes_again_marked_and_before_what_waited(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S, acknowledges=False)
    broker.subscribe("reader", f"{root}/a")
    for payload in texts(0, 1, 2):
        broker.publish("writer", f"{root}/a", payload)
    assert [m.duplicate for m in broker.received("reader", 3)] == [False] * 3
    broker.acknowledge("reader", 1)
    assert broker.received("reader") == []
    broker.drop("reader")
    broker.publish("writer", f"{root}/a", b"3")
    assert broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    expected = [(b"1", True), (b"2", True), (b"3", False)]
    assert [(m.payload, m.duplicate) for m in broker.received("reader", 3)] == expected
    broker.drop("reader")
    assert broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    assert broker.received("reader") == []


@behaviour
def twenty_messages_are_in_flight_and_the_others_wait(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", acknowledges=False)
    broker.subscribe("reader", f"{root}/a")
    for number in range(23):
        broker.publish("writer", f"{root}/a", b"%d" % number)
    assert payloads(broker.received("reader", 20)) == texts(*range(20))
    broker.publish("writer", f"{root}/a", b"of QoS 0, which needs no room", qos=0)
    assert payloads(broker.received("reader", 1)) == [b"of QoS 0, which needs no room"]
    broker.acknowledge("reader", 20)
    assert payloads(broker.received("reader", 3)) == texts(20, 21, 22)


@behaviour
def each_acknowledgement_brings_one_that_waited(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", acknowledges=False)
    broker.subscribe("reader", f"{root}/a")
    for number in range(24):
        broker.publish("writer", f"{root}/a", b"%d" % number)
    broker.received("reader", 20)
    for number in (20, 21):
        broker.acknowledge("reader", 1)
        assert payloads(broker.received("reader", 1)) == texts(number)


@behaviour
def who_returns_gets_twenty_again_and_the_others_for_its_acknowledgements(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S, acknowledges=False)
    broker.subscribe("reader", f"{root}/a")
    for number in range(23):
        broker.publish("writer", f"{root}/a", b"%d" % number)
    broker.received("reader", 20)
    broker.drop("reader")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S, acknowledges=False)
    heard = broker.received("reader", 20)
    assert payloads(heard) == texts(*range(20))
    assert all(message.duplicate for message in heard)
    broker.acknowledge("reader", 20)
    assert [(m.payload, m.duplicate) for m in broker.received("reader", 3)] == [
        (b"20", False),
        (b"21", False),
        (b"22", False),
    ]
