"""How a broker behaves: sessions, wills, what runs out, and shared subscriptions."""

from __future__ import annotations

from tests.e2e.broker_suite import YEAR_S, Behaviour, Broker, Heard, collector, payloads, texts

from grapevine_lab.simulator.broker import Will

BEHAVIOURS: list[Behaviour] = []
behaviour = collector(BEHAVIOURS)


# --- sessions -----------------------------------------------------------------------------------------


@behaviour
def a_session_without_expiry_ends_with_its_connection(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    broker.drop("reader")
    broker.publish("writer", f"{root}/a", b"missed")
    assert not broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.publish("writer", f"{root}/a", b"not subscribed")
    assert broker.received("reader") == []


@behaviour
def a_session_keeps_its_subscriptions_until_a_clean_start(broker: Broker, root: str) -> None:
    broker.connect("writer")
    assert not broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/+")
    broker.disconnect("reader")
    assert broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.publish("writer", f"{root}/a", b"1")
    assert payloads(broker.received("reader", 1)) == [b"1"]
    broker.disconnect("reader")
    broker.publish("writer", f"{root}/a", b"2")
    assert not broker.connect("reader", clean_start=True)
    broker.publish("writer", f"{root}/a", b"3")
    assert broker.received("reader") == []


@behaviour
def a_second_connection_takes_the_session_over(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/a")
    assert broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.publish("writer", f"{root}/a", b"x")
    assert broker.received("reader", 1) == [Heard(f"{root}/a", b"x", 1)]


@behaviour
def taking_over_with_a_clean_start_begins_anew(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/a")
    assert not broker.connect("reader")
    broker.subscribe("reader", f"{root}/b")
    broker.publish("writer", f"{root}/a", b"x")
    broker.publish("writer", f"{root}/b", b"y")
    assert payloads(broker.received("reader", 1)) == [b"y"]


@behaviour
def a_session_that_is_resumed_is_not_greeted_again(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"kept", retain=True)
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/+")
    assert payloads(broker.received("reader", 1)) == [b"kept"]
    broker.disconnect("reader")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    assert broker.received("reader") == []


@behaviour
def what_waits_is_forgotten_with_its_session(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/a")
    broker.disconnect("reader")
    broker.publish("writer", f"{root}/a", b"waits")
    broker.connect("reader", clean_start=True)
    broker.disconnect("reader")
    assert not broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/a")
    assert broker.received("reader") == []


@behaviour
def what_was_in_flight_goes_to_the_connection_that_takes_over(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S, acknowledges=False)
    broker.subscribe("reader", f"{root}/a")
    broker.publish("writer", f"{root}/a", b"x")
    assert payloads(broker.received("reader", 1)) == [b"x"]
    assert broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    assert broker.received("reader", 1) == [Heard(f"{root}/a", b"x", 1, duplicate=True)]


# --- wills --------------------------------------------------------------------------------------------


@behaviour
def a_lost_connection_publishes_its_will_and_an_orderly_end_does_not(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    broker.connect("orderly", will=Will(f"{root}/orderly", b"gone", 1))
    broker.connect("lost", will=Will(f"{root}/lost", b"gone", 1))
    assert broker.received("watcher") == []
    broker.disconnect("orderly")
    broker.drop("lost")
    assert broker.received("watcher", 1) == [Heard(f"{root}/lost", b"gone", 1)]


@behaviour
def a_retained_will_greets_later_subscribers(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/lost")
    broker.connect("lost", will=Will(f"{root}/lost", b"gone", 1, retain=True))
    broker.publish("lost", f"{root}/lost", b"here", retain=True)
    broker.drop("lost")
    assert broker.received("watcher", 2) == [Heard(f"{root}/lost", b"here", 1), Heard(f"{root}/lost", b"gone", 1)]
    broker.connect("late")
    broker.subscribe("late", f"{root}/lost")
    assert broker.received("late", 1) == [Heard(f"{root}/lost", b"gone", 1, retained=True)]


@behaviour
def a_connection_that_is_taken_over_publishes_its_will(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    broker.connect("twice", will=Will(f"{root}/twice", b"first", 1))
    broker.connect("twice", will=Will(f"{root}/twice", b"second", 1))
    assert payloads(broker.received("watcher", 1)) == [b"first"]
    broker.drop("twice")
    assert payloads(broker.received("watcher", 1)) == [b"second"]


@behaviour
def a_session_that_is_taken_over_and_goes_on_publishes_its_will(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    broker.connect("twice", clean_start=False, session_expiry_s=YEAR_S, will=Will(f"{root}/twice", b"first", 1))
    assert broker.connect("twice", clean_start=False, session_expiry_s=YEAR_S)
    assert payloads(broker.received("watcher")) == [b"first"]


@behaviour
def a_will_waits_for_a_watcher_that_is_absent(broker: Broker, root: str) -> None:
    broker.connect("watcher", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("watcher", f"{root}/+")
    broker.disconnect("watcher")
    broker.connect("lost", will=Will(f"{root}/lost", b"gone", 1))
    broker.drop("lost")
    broker.connect("watcher", clean_start=False, session_expiry_s=YEAR_S)
    assert broker.received("watcher", 1) == [Heard(f"{root}/lost", b"gone", 1)]


@behaviour
def a_delayed_will_waits_and_is_cancelled_by_a_return(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    for client in ("returns", "stays away"):
        will = Will(f"{root}/{client}", b"gone", 1, delay_s=3)
        broker.connect(client, session_expiry_s=YEAR_S, will=will)
        broker.drop(client)
    assert broker.received("watcher") == []
    will = Will(f"{root}/returns", b"the next one", 1, delay_s=YEAR_S)
    assert broker.connect("returns", clean_start=False, session_expiry_s=YEAR_S, will=will)
    assert [m.topic for m in broker.received("watcher", 1)] == [f"{root}/stays away"]


@behaviour
def a_delayed_will_is_published_when_its_session_ends_before(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    broker.connect("expires", session_expiry_s=1, will=Will(f"{root}/expires", b"gone", 1, delay_s=YEAR_S))
    broker.drop("expires")
    assert [m.topic for m in broker.received("watcher", 1)] == [f"{root}/expires"]
    assert not broker.connect("expires", clean_start=False)


@behaviour
def a_delayed_will_does_not_wait_where_no_session_is_left(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    broker.connect("lost", session_expiry_s=0, will=Will(f"{root}/lost", b"gone", 1, delay_s=YEAR_S))
    broker.drop("lost")
    assert payloads(broker.received("watcher")) == [b"gone"]


@behaviour
def a_delayed_will_is_published_when_a_clean_start_ends_its_session(broker: Broker, root: str) -> None:
    broker.connect("watcher")
    broker.subscribe("watcher", f"{root}/+")
    broker.connect("lost", session_expiry_s=YEAR_S, will=Will(f"{root}/lost", b"gone", 1, delay_s=YEAR_S))
    broker.drop("lost")
    assert broker.received("watcher") == []
    assert not broker.connect("lost", clean_start=True)
    assert payloads(broker.received("watcher")) == [b"gone"]


# --- what runs out ------------------------------------------------------------------------------------


@behaviour
def messages_run_out_while_they_are_retained_or_wait(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    broker.subscribe("reader", f"{root}/queue")
    broker.disconnect("reader")
    for kind in ("queue", "kept"):
        broker.publish("writer", f"{root}/{kind}/short", b"short", expiry_s=1, retain=kind == "kept")
        broker.publish("writer", f"{root}/{kind}", b"short", expiry_s=1, retain=kind == "kept")
        broker.publish("writer", f"{root}/{kind}", b"long", expiry_s=YEAR_S, retain=kind == "kept")
    broker.let_pass(2.5)  # whole seconds on the wire: one more than asked for
    broker.connect("reader", clean_start=False, session_expiry_s=YEAR_S)
    assert payloads(broker.received("reader", 1)) == [b"long"]
    broker.subscribe("reader", f"{root}/kept/#")
    assert payloads(broker.received("reader", 1)) == [b"long"]


# --- shared subscriptions -----------------------------------------------------------------------------


@behaviour
def each_message_goes_to_one_member_of_a_group_in_turn(broker: Broker, root: str) -> None:
    members = ("one", "two", "three")
    broker.connect("writer")
    for member in members:
        broker.connect(member)
        broker.subscribe(member, f"$share/group/{root}/+")
    for number in range(9):
        broker.publish("writer", f"{root}/a", b"%d" % number)
    heard = {member: payloads(broker.received(member, 3)) for member in members}
    assert sorted(payload for part in heard.values() for payload in part) == texts(*range(9))
    assert [len(part) for part in heard.values()] == [3, 3, 3]


@behaviour
def every_group_and_every_ordinary_subscription_gets_its_copy(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for client, topic_filter in (("one", "$share/x/"), ("two", "$share/y/"), ("three", "")):
        broker.connect(client)
        broker.subscribe(client, f"{topic_filter}{root}/a")
    broker.subscribe("three", f"$share/x/{root}/+")
    broker.publish("writer", f"{root}/a", b"x")
    assert [len(broker.received(client, least)) for client, least in (("one", 1), ("two", 1), ("three", 2))] == [
        1,
        1,
        2,
    ]


@behaviour
def a_shared_subscription_is_not_greeted_with_retained_messages(broker: Broker, root: str) -> None:
    broker.connect("writer")
    broker.publish("writer", f"{root}/a", b"kept", retain=True)
    broker.connect("member")
    broker.subscribe("member", f"$share/group/{root}/a")
    broker.publish("writer", f"{root}/a", b"live")
    assert broker.received("member", 1) == [Heard(f"{root}/a", b"live", 1)]


@behaviour
def who_leaves_a_group_gets_no_share_of_it(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for member in ("stays", "unsubscribes", "is lost"):
        broker.connect(member)
        broker.subscribe(member, f"$share/group/{root}/a")
    broker.unsubscribe("unsubscribes", f"$share/group/{root}/a")
    broker.drop("is lost")
    for number in range(4):
        broker.publish("writer", f"{root}/a", b"%d" % number)
    assert payloads(broker.received("stays", 4)) == texts(0, 1, 2, 3)
    assert broker.received("unsubscribes") == []


@behaviour
def an_absent_member_of_a_group_gets_no_share_while_another_is_there(broker: Broker, root: str) -> None:
    broker.connect("writer")
    for member in ("absent", "there"):
        broker.connect(member, clean_start=False, session_expiry_s=YEAR_S)
        broker.subscribe(member, f"$share/group/{root}/a")
    broker.disconnect("absent")
    for payload in texts(0, 1, 2):
        broker.publish("writer", f"{root}/a", payload)
    assert payloads(broker.received("there")) == texts(0, 1, 2)
    broker.disconnect("there")
    broker.publish("writer", f"{root}/a", b"3")
    broker.connect("absent", clean_start=False, session_expiry_s=YEAR_S)
    assert payloads(broker.received("absent", 1)) == texts(3)
