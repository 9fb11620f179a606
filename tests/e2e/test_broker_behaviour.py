"""The same behaviours of the simulator's broker in memory and of real brokers."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from tests.e2e import broker_suite_messages, broker_suite_sessions
from tests.e2e.broker_suite import Behaviour, Heard

from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker import RunningBroker
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.simulator.broker import Delivery, MemoryBroker, Will
from grapevine_lab.simulator.packets import LARGEST_BYTES

DEADLINE_S = 20.0

# Where MQTT, or we by choice, say something else. A later version that does as we do passes.
MOSQUITTO_DEPARTS = {
    "no_local_leaves_out_ones_own_retained_messages": "it does so for live ones only (3.8.3.1)",
    "each_acknowledgement_brings_one_that_waited": "2.0.11 sends up to 20 more for each",
    "a_session_that_is_taken_over_and_goes_on_publishes_its_will": "2.0.11 forgets it (3.1.4)",
    "a_delayed_will_does_not_wait_where_no_session_is_left": "2.0.11 lets it wait (3.1.3.2.2)",
    "a_delayed_will_is_published_when_a_clean_start_ends_its_session": "2.0.11 forgets it (3.1.2.5)",
    "a_shared_subscription_is_not_greeted_with_retained_messages": "2.0.11 sends them (3.8.4), later ones do not",
    "an_absent_member_of_a_group_gets_no_share_while_another_is_there": "all members take turns, as they may (4.8.2)",
}

BEHAVIOURS = [*broker_suite_messages.BEHAVIOURS, *broker_suite_sessions.BEHAVIOURS]
each_behaviour = pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)


@each_behaviour
def test_the_broker_in_memory(behaviour: Behaviour) -> None:
    behaviour(InMemory(), "test")


@each_behaviour
def test_a_broker_over_sockets(
    behaviour: Behaviour, shared_engine: RunningBroker, request: pytest.FixtureRequest
) -> None:
    url = BrokerUrl.parse(shared_engine.url)
    is_v5 = url.version != "3.1.1"
    if is_v5 and (departure := MOSQUITTO_DEPARTS.get(behaviour.__name__)):
        request.applymarker(pytest.mark.xfail(reason=departure, strict=False))
    broker = OverSockets(url, is_v5=is_v5)
    try:
        behaviour(broker, broker.root)
    finally:
        broker.close()


LIMIT_BYTES = 20_000


def test_what_the_broker_in_memory_does_with_a_packet_that_is_too_large() -> None:
    _a_packet_above_the_limit_ends_its_connection(InMemory(LIMIT_BYTES), "test")


@pytest.mark.mosquitto
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_mosquitto_does_with_a_packet_that_is_too_large(version: str) -> None:
    with MosquittoBroker(max_packet_bytes=LIMIT_BYTES) as running:
        broker = OverSockets(BrokerUrl.parse(f"{running.url}?version={version}"), is_v5=version == "5")
        try:
            _a_packet_above_the_limit_ends_its_connection(broker, broker.root)
        finally:
            broker.close()


def _a_packet_above_the_limit_ends_its_connection(broker: InMemory | OverSockets, root: str) -> None:
    broker.connect("reader")
    broker.subscribe("reader", f"{root}/#")
    for retain in (False, True):
        broker.connect("writer", will=Will(f"{root}/will", b"gone", 1))
        broker.publish("writer", f"{root}/a", bytes(LIMIT_BYTES - 100))
        assert [len(heard.payload) for heard in broker.received("reader", 1)] == [LIMIT_BYTES - 100]
        broker.publish_in_vain("writer", f"{root}/a", bytes(LIMIT_BYTES + 100), retain=retain)
        assert broker.received("reader", 1) == [Heard(f"{root}/will", b"gone", 1)]
    broker.connect("late")
    broker.subscribe("late", f"{root}/#")
    assert broker.received("late") == []


# --- in memory ----------------------------------------------------------------------------------------


@dataclass
class _Inbox:
    acknowledges: bool
    heard: list[Heard] = field(default_factory=list)
    unacknowledged: list[int] = field(default_factory=list)


class InMemory:
    """A network without delay: every delivery is handed over, and acknowledged, at once."""

    def __init__(self, max_packet_bytes: int = LARGEST_BYTES) -> None:
        self._broker = MemoryBroker(max_packet_bytes=max_packet_bytes)
        self._now_s = 0.0
        self._inboxes: dict[str, _Inbox] = {}

    def connect(
        self,
        client: str,
        *,
        clean_start: bool = True,
        session_expiry_s: int = 0,
        will: Will | None = None,
        acknowledges: bool = True,
    ) -> bool:
        connection = self._broker.connect(
            client, clean_start=clean_start, session_expiry_s=session_expiry_s, will=will, now_s=self._now_s
        )
        self._inboxes[client] = _Inbox(acknowledges)
        self._hand_over(connection.deliveries)
        return connection.session_present

    def subscribe(self, client: str, topic_filter: str, qos: int = 1, **options: Any) -> None:
        self._hand_over(self._broker.subscribe(client, topic_filter, qos, self._now_s, **options))

    def unsubscribe(self, client: str, topic_filter: str) -> None:
        self._hand_over(self._broker.unsubscribe(client, topic_filter, self._now_s))

    def publish(
        self,
        client: str,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> None:
        self._hand_over(self._broker.publish(client, topic, payload, qos, retain, self._now_s, expiry_s))

    def publish_in_vain(self, client: str, topic: str, payload: bytes, *, retain: bool) -> None:
        self.publish(client, topic, payload, retain=retain)
        assert not self._broker.is_connected(client)

    def disconnect(self, client: str) -> None:
        self._hand_over(self._broker.disconnect(client, self._now_s))

    def drop(self, client: str) -> None:
        self._hand_over(self._broker.drop(client, self._now_s))

    def acknowledge(self, client: str, count: int) -> None:
        for _ in range(count):
            packet_id = self._inboxes[client].unacknowledged.pop(0)
            self._hand_over(self._broker.acknowledge(client, packet_id, self._now_s))

    def received(self, client: str, at_least: int = 0) -> list[Heard]:
        inbox = self._inboxes[client]
        while len(inbox.heard) < at_least:
            deadline_s = self._broker.deadline_s()
            assert deadline_s < inf, f"{client} waits for {at_least} messages and got {inbox.heard}"
            self.let_pass(deadline_s - self._now_s)
        heard, inbox.heard = inbox.heard, []
        return heard

    def let_pass(self, seconds: float) -> None:
        self._now_s += seconds
        self._hand_over(self._broker.tick(self._now_s))

    def _hand_over(self, deliveries: list[Delivery]) -> None:
        on_the_way = deque(deliveries)
        while on_the_way:
            delivery = on_the_way.popleft()
            assert self._broker.is_connected(delivery.client), f"nobody takes {delivery}"
            assert (delivery.packet_id > 0) == (delivery.qos > 0)
            inbox = self._inboxes[delivery.client]
            inbox.heard.append(
                Heard(delivery.topic, delivery.payload, delivery.qos, delivery.retained, delivery.duplicate)
            )
            if delivery.qos and inbox.acknowledges:
                on_the_way += self._broker.acknowledge(delivery.client, delivery.packet_id, self._now_s)
            elif delivery.qos:
                inbox.unacknowledged.append(delivery.packet_id)


# --- over sockets -------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Link:
    """One connection of one client. paho runs in our thread, and only while we wait for something."""

    client: mqtt.Client
    name: str
    is_v5: bool
    session_present: bool | None = None
    heard: list[Heard] = field(default_factory=list)
    unacknowledged: list[tuple[int, int]] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)  # packet ids of ours
    num_markers: int = 0

    def __post_init__(self) -> None:
        self.client.on_connect = self._connected
        self.client.on_message = self._arrived
        self.client.on_publish = self.client.on_subscribe = self.client.on_unsubscribe = self._answered
        self.client.on_socket_open = _without_delay

    @property
    def marker_topic(self) -> str:
        return f"marker/{self.name}"

    def wait_for(self, what: Callable[[], bool], why: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < deadline_s, f"{self.name}: {why}, got {self.heard}"
            code = self.client.loop(timeout=0.05)
            assert code == MQTTErrorCode.MQTT_ERR_SUCCESS, f"{self.name}: {code} instead of {why}"

    def wait_for_answer(self, packet_id: int | None) -> None:
        assert packet_id is not None
        self.wait_for(lambda: packet_id in self.answered, f"an answer to packet {packet_id}")

    def cut(self, *, orderly: bool) -> None:
        """End the connection, and return once the broker has ended its side: then it knows."""
        ours = self.client.socket()
        assert ours is not None, f"{self.name} has lost its connection already"
        with socket.socket(fileno=os.dup(ours.fileno())) as connection:
            connection.settimeout(DEADLINE_S)
            if orderly:
                self.client.disconnect()
            else:
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        self.forget()

    def forget(self) -> None:
        """Close what is ours."""
        ours = self.client.socket()
        if ours is not None:
            ours.close()
        # The callbacks are methods of ours: cut the knot, so that the client closes its sockets now.
        client = self.client
        client.on_connect = client.on_message = client.on_publish = None
        client.on_subscribe = client.on_unsubscribe = client.on_socket_open = None

    def _connected(self, _client: mqtt.Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        assert not code.is_failure, code
        self.session_present = flags.session_present

    def _arrived(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic == self.marker_topic:
            self.num_markers += 1
            return
        self.heard.append(
            Heard(message.topic, bytes(message.payload), message.qos, bool(message.retain), bool(message.dup))
        )
        if message.qos:
            self.unacknowledged.append((message.mid, message.qos))

    def _answered(self, _client: mqtt.Client, _data: Any, packet_id: int, *_more: Any) -> None:
        self.answered.add(packet_id)


def _without_delay(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _properties(packet: int, **values: Any) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


class OverSockets:
    """A broker that listens. What MQTT 3.1.1 has no words for skips the test, if the broker speaks no later version."""

    def __init__(self, url: BrokerUrl, *, is_v5: bool) -> None:
        self.root = f"test/{secrets.token_hex(6)}"
        self._url = url
        self._is_v5 = is_v5
        self._links: dict[str, _Link] = {}
        self.connect("conductor")

    def close(self) -> None:
        for link in self._links.values():
            link.forget()

    def connect(
        self,
        client: str,
        *,
        clean_start: bool = True,
        session_expiry_s: int = 0,
        will: Will | None = None,
        acknowledges: bool = True,
    ) -> bool:
        name = f"{self.root}/{client}"
        before = self._links.pop(client, None)
        paho = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name.replace("/", "-").replace(" ", "-"),
            clean_session=None if self._is_v5 else clean_start,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_v5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=not acknowledges,
        )
        link = _Link(paho, name, self._is_v5)
        if will is not None:
            self._set_will(paho, will)
        if self._is_v5:
            properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=session_expiry_s)
            paho.connect(self._url.host, self._url.port, clean_start=clean_start, properties=properties)
        else:
            self._needs_v5(when=clean_start == (session_expiry_s > 0), what="sessions that begin clean and last")
            paho.connect(self._url.host, self._url.port)
        link.wait_for(lambda: link.session_present is not None, "a CONNACK")
        if before is not None:
            before.forget()
        self._links[client] = link
        link.wait_for_answer(paho.subscribe(link.marker_topic, 0)[1])
        return bool(link.session_present)

    def subscribe(
        self,
        client: str,
        topic_filter: str,
        qos: int = 1,
        *,
        retain_handling: int = 0,
        retain_as_published: bool = False,
        no_local: bool = False,
    ) -> None:
        link = self._links[client]
        if self._is_v5:
            options = SubscribeOptions(qos, no_local, retain_as_published, retain_handling)
            link.wait_for_answer(link.client.subscribe(topic_filter, options=options)[1])
            return
        self._needs_v5(when=bool(retain_handling or retain_as_published or no_local), what="subscribe options")
        self._needs_v5(when=topic_filter.startswith("$share/"), what="shared subscriptions")
        link.wait_for_answer(link.client.subscribe(topic_filter, qos)[1])

    def unsubscribe(self, client: str, topic_filter: str) -> None:
        link = self._links[client]
        link.wait_for_answer(link.client.unsubscribe(topic_filter)[1])

    def publish(
        self,
        client: str,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> None:
        link = self._links[client]
        self._needs_v5(when=expiry_s is not None, what="expiry of messages")
        properties = None
        if expiry_s is not None:
            properties = _properties(PacketTypes.PUBLISH, MessageExpiryInterval=expiry_s)
        sent = link.client.publish(topic, payload, qos, retain, properties)
        if qos == 0:  # has no answer, but what comes after it has
            sent = link.client.publish("marker/nobody", b"", 1)
        link.wait_for_answer(sent.mid)

    def publish_in_vain(self, client: str, topic: str, payload: bytes, *, retain: bool) -> None:
        link = self._links.pop(client)
        link.client.publish(topic, payload, 1, retain)
        deadline_s = time.monotonic() + DEADLINE_S
        while link.client.loop(timeout=0.05) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            assert time.monotonic() < deadline_s, "the connection goes on"
        link.forget()

    def disconnect(self, client: str) -> None:
        self._links.pop(client).cut(orderly=True)

    def drop(self, client: str) -> None:
        self._links.pop(client).cut(orderly=False)

    def acknowledge(self, client: str, count: int) -> None:
        link = self._links[client]
        for _ in range(count):
            link.client.ack(*link.unacknowledged.pop(0))

    def received(self, client: str, at_least: int = 0) -> list[Heard]:
        link = self._links[client]
        link.wait_for(lambda: len(link.heard) >= at_least, f"{at_least} messages")
        link.num_markers = 0
        conductor = self._links["conductor"]
        conductor.wait_for_answer(conductor.client.publish(link.marker_topic, b"", 1).mid)
        link.wait_for(lambda: link.num_markers > 0, "the marker")
        heard, link.heard = link.heard, []
        return heard

    def let_pass(self, seconds: float) -> None:
        time.sleep(seconds)

    def _set_will(self, paho: mqtt.Client, will: Will) -> None:
        self._needs_v5(when=will.delay_s > 0, what="delayed wills")
        properties = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=int(will.delay_s)) if self._is_v5 else None
        paho.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    def _needs_v5(self, *, when: bool, what: str) -> None:
        if when and not self._is_v5:
            pytest.skip(f"MQTT 3.1.1 has none of these: {what}")
