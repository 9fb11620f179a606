"""What only bytes can show of a broker: QoS 2 over lost connections, names, keepalive, malformed packets."""

from __future__ import annotations

import contextlib
import secrets

import pytest
from tests import raw_mqtt
from tests.raw_mqtt import (
    ACCEPTED,
    DISCONNECT,
    PUBCOMP,
    PUBREC,
    PUBREL,
    RESUMED,
    Wire,
    answer,
    connect,
    packet,
    publish,
    subscribe,
    text,
)

from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker import RunningBroker
from grapevine_broker.mosquitto import MosquittoBroker

MOSQUITTO_DEPARTS = {
    "a second CONNECT": "2.0.11 ends the connection and forgets its will (3.1.0-2)",
    "what only brokers send": "2.0.11 lets it pass",
}


@pytest.fixture
def port(shared_engine: RunningBroker) -> int:
    return BrokerUrl.parse(shared_engine.url).port


@pytest.fixture
def name() -> str:
    """A client id and a topic that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


async def a_subscriber(port: int, client_id: str, topic: str, qos: int = 2, *, clean: bool = True) -> Wire:
    wire = await Wire.to(port, connect(client_id, clean=clean), ACCEPTED)
    await wire.send(subscribe((topic, qos)))
    assert await wire.packet() == packet(0x90, bytes([0, 1, qos]))
    return wire


async def test_a_message_at_qos_2_is_passed_on_once_however_often_its_publisher_says_it(port: int, name: str) -> None:
    async with await a_subscriber(port, f"{name}-reader", name, 0) as reader:
        for first, is_again in ((ACCEPTED, False), (RESUMED, True), (RESUMED, True)):
            writer = await Wire.to(port, connect(name, clean=False), first)
            await writer.send(publish(name, b"once", 2, 7, dup=is_again))
            assert await writer.packet() == answer(PUBREC, 7)
            await writer.close()
        async with await Wire.to(port, connect(name, clean=False), RESUMED) as writer:
            for _ in range(2):
                await writer.send(answer(PUBREL, 7))
                assert await writer.packet() == answer(PUBCOMP, 7)
            assert await reader.packet() == publish(name, b"once")
            await writer.send(publish(name, b"the same id, another message", 2, 7), answer(PUBREL, 7))
            assert await writer.packet() == answer(PUBREC, 7)
            assert await writer.packet() == answer(PUBCOMP, 7)
        assert await reader.packet() == publish(name, b"the same id, another message")
        assert await reader.until_ping() == []


async def test_an_exchange_at_qos_2_goes_on_after_each_lost_connection(port: int, name: str) -> None:
    reader = await a_subscriber(port, name, name, clean=False)
    async with await Wire.to(port, connect(f"{name}-writer"), ACCEPTED) as writer:
        await writer.send(publish(name, b"x", 2, 1))
        assert await writer.packet() == answer(PUBREC, 1)
        await writer.send(answer(PUBREL, 1))
        assert await writer.packet() == answer(PUBCOMP, 1)
    assert await reader.packet() == publish(name, b"x", 2, 1)
    await reader.close()

    reader = await Wire.to(port, connect(name, clean=False), RESUMED)
    assert await reader.packet() == publish(name, b"x", 2, 1, dup=True)
    await reader.send(answer(PUBREC, 1))
    assert await reader.packet() == answer(PUBREL, 1)
    await reader.close()

    reader = await Wire.to(port, connect(name, clean=False), RESUMED)
    assert await reader.packet() == answer(PUBREL, 1)
    await reader.send(answer(PUBCOMP, 1), DISCONNECT)
    assert await reader.ended()

    async with await Wire.to(port, connect(name, clean=False), RESUMED) as reader:
        assert await reader.until_ping() == []


async def test_what_waits_at_qos_2_arrives_at_qos_2(port: int, name: str) -> None:
    await (await a_subscriber(port, name, name, clean=False)).close()
    async with await Wire.to(port, connect(f"{name}-writer"), ACCEPTED) as writer:
        for packet_id, qos in ((1, 2), (2, 1), (3, 0)):
            await writer.send(publish(name, b"%d" % qos, qos, packet_id))
            if qos:
                assert await writer.packet() == answer(PUBREC if qos == 2 else raw_mqtt.PUBACK, packet_id)
            if qos == 2:
                await writer.send(answer(PUBREL, packet_id))
                assert await writer.packet() == answer(PUBCOMP, packet_id)
        assert await writer.until_ping() == []
    async with await Wire.to(port, connect(name, clean=False), RESUMED) as reader:
        assert await reader.until_ping() == [publish(name, b"2", 2, 1), publish(name, b"1", 1, 2)]


async def test_a_client_without_a_name_gets_one_if_it_leaves_nothing_behind(port: int) -> None:
    async with await Wire.to(port, connect(""), ACCEPTED) as nameless, await Wire.to(port, connect(""), ACCEPTED):
        assert await nameless.until_ping() == [], "another without a name is another client"
    refused = await Wire.to(port, connect("", clean=False))
    assert await refused.packet() == b"\x20\x02\x00\x02"
    assert await refused.ended()


async def test_who_is_silent_beyond_its_keepalive_is_ended_and_who_pings_is_not(port: int, name: str) -> None:
    async with await a_subscriber(port, f"{name}-watcher", name, 1) as watcher:
        silent = await Wire.to(port, connect(name, keepalive_s=1, will=(name, b"gone")), ACCEPTED)
        assert await watcher.packet() == publish(name, b"gone", 1, 1)
        assert await silent.ended()
        assert await watcher.until_ping() == []


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(connect("again"), id="a second CONNECT"),
        pytest.param(b"\x00\x00", id="a type that does not exist"),
        pytest.param(b"\x90\x03\x00\x01\x00", id="what only brokers send"),
        pytest.param(b"\x80\x06\x00\x01" + text("a") + b"\x00", id="flags of another packet"),
        pytest.param(packet(0x36, text("a") + b"\x00\x01"), id="QoS 3"),
        pytest.param(packet(0x30, text("a/#")), id="a topic with a wildcard"),
        pytest.param(packet(0x30, text(b"a\xff")), id="a topic that is no UTF-8"),
        pytest.param(packet(0x30, b"\x00\x09a"), id="a topic longer than its packet"),
        pytest.param(publish("a", b"", 1, 0), id="the packet id 0"),
        pytest.param(packet(0x82, b"\x00\x01"), id="a subscription to nothing"),
        pytest.param(subscribe(("a", 3)), id="a subscription at QoS 3"),
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="a length of five bytes"),
    ],
)
async def test_a_malformed_packet_ends_its_connection_with_the_will_and_no_other(
    port: int, name: str, malformed: bytes, request: pytest.FixtureRequest, shared_engine: RunningBroker
) -> None:
    departure = MOSQUITTO_DEPARTS.get(request.node.callspec.id.removeprefix("mosquitto-"))
    if departure and isinstance(shared_engine, MosquittoBroker):
        pytest.skip(departure)
    async with await a_subscriber(port, f"{name}-watcher", name, 1) as watcher:
        wire = await Wire.to(port, connect(name, will=(name, b"gone")), ACCEPTED)
        await wire.send(malformed)
        assert await wire.ended()
        assert await watcher.packet() == publish(name, b"gone", 1, 1)
        assert await watcher.until_ping() == []


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", raw_mqtt.PINGREQ, packet(0x10, text("HTTP") + bytes(8))])
async def test_who_begins_with_something_else_than_a_connect_is_ended(port: int, first: bytes) -> None:
    wire = await Wire.to(port)
    with contextlib.suppress(ConnectionError):
        await wire.send(first)
    assert await wire.ended()
