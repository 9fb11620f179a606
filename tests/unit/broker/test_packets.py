"""Packets are taken whole and checked, or end their connection: nothing else comes of any bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("amqtt", reason="the embedded broker is the extra grapevine[broker]")

from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.packet import MQTTPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from hypothesis import example, given
from hypothesis import strategies as st
from tests import raw_mqtt
from tests.raw_mqtt import packet, text

from grapevine_broker.limits import Limits
from grapevine_broker.packets import OtherVersionError, PacketReader, RefusedError, parsed

CONNECT = raw_mqtt.connect("me", will=("a/b", b"gone"), user="somebody", password=b"\xff\x00 any bytes")
WELL_FORMED = [
    raw_mqtt.publish("a/b", b"payload"),
    raw_mqtt.publish("a/b", b"", 1, 7, dup=True, retain=True),
    raw_mqtt.publish("a/b", bytes(300), 2, 65_535),
    raw_mqtt.subscribe(("a/+", 0), ("#", 2), packet_id=3),
    packet(0xA2, b"\x00\x04" + text("a/+") + text("b")),
    *(raw_mqtt.answer(kind, 5) for kind in (raw_mqtt.PUBACK, raw_mqtt.PUBREC, raw_mqtt.PUBREL, raw_mqtt.PUBCOMP)),
    raw_mqtt.PINGREQ,
    raw_mqtt.DISCONNECT,
]
MALFORMED = {
    "a type that does not exist": b"\x00\x00",
    "another one": b"\xf0\x00",
    "an answer that only brokers give": b"\x20\x02\x00\x00",
    "a second CONNECT": CONNECT,
    "a SUBSCRIBE with the flags of another": b"\x80" + raw_mqtt.subscribe(("a", 0))[1:],
    "QoS 3": packet(0x36, text("a") + b"\x00\x01"),
    "a duplicate at QoS 0": packet(0x38, text("a")),
    "no topic": packet(0x30, text("") + b"x"),
    "a topic with a wildcard": packet(0x30, text("a/#") + b"x"),
    "a topic with a NUL": packet(0x30, text("a\0b") + b"x"),
    "a topic that is no UTF-8": packet(0x30, text(b"a\xff") + b"x"),
    "a topic with half of a surrogate pair": packet(0x30, text(b"\xed\xa0\x80") + b"x"),
    "a topic that is longer than its packet": packet(0x30, b"\x00\x09a/b"),
    "the packet id 0": raw_mqtt.publish("a", b"", 1, 0),
    "no packet id": packet(0x32, text("a")),
    "a subscription to nothing": packet(0x82, b"\x00\x01"),
    "a subscription at QoS 3": raw_mqtt.subscribe(("a", 3)),
    "a subscription that breaks off": packet(0x82, b"\x00\x01" + text("a") + b"\x00" + b"\x00\x05b"),
    "the end of no subscription": packet(0xA2, b"\x00\x01"),
    "a ping with something in it": packet(0xC0, b"x"),
    "an answer with something behind it": packet(0x40, b"\x00\x01x"),
    "a length of five bytes": b"\x30\x80\x80\x80\x80\x01",
}
NO_CONNECT = {
    "another packet": raw_mqtt.PINGREQ,
    "flags in the first byte": b"\x11" + CONNECT[1:],
    "another protocol": packet(0x10, text("HTTP") + CONNECT[8:]),
    "the reserved flag": packet(0x10, text("MQTT") + b"\x04\x03\x00\x00" + text("me")),
    "the QoS of no will": packet(0x10, text("MQTT") + b"\x04\x0a\x00\x00" + text("me")),
    "a will at QoS 3": packet(0x10, text("MQTT") + b"\x04\x1e\x00\x00" + text("me") + text("a") + text("")),
    "a will for a filter": raw_mqtt.connect("me", will=("a/#", b"")),
    "a will for nothing": raw_mqtt.connect("me", will=("", b"")),
    "a name with a NUL": raw_mqtt.connect("m\0e"),
    "a name that is no UTF-8": packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(b"\xff")),
    "something behind it": packet(0x10, CONNECT[2:] + b"x"),
    "a password that breaks off": packet(0x10, CONNECT[2:-1]),
    "more than it may hold": b"\x10\xff\xff\x7f",
}


def stream_of(received: bytes, *, ends: bool = True) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(received)
    if ends:
        stream.feed_eof()
    return stream


def read(received: bytes) -> list[Any]:
    """All packets in these bytes, as a connection takes them after its CONNECT."""

    async def read_all() -> list[Any]:
        reader = PacketReader(stream_of(received), Limits(max_packet_bytes=1000))
        packets: list[Any] = []
        while True:
            try:
                packets.append(await reader.packet(None))
            except EOFError:
                return packets

    return asyncio.run(read_all())


def read_connect(received: bytes) -> bytes:
    return asyncio.run(_read_connect(received))


async def _read_connect(received: bytes) -> bytes:
    return await PacketReader(stream_of(received), Limits()).connect_frame()


def test_packets_are_taken_one_after_the_other_as_they_were_written() -> None:
    packets = read(b"".join(WELL_FORMED))
    assert [each.to_bytes() for each in packets] == WELL_FORMED
    assert isinstance(packets[0], PublishPacket)
    assert isinstance(packets[3], SubscribePacket)
    assert isinstance(packets[4], UnsubscribePacket)
    assert isinstance(packets[-1], DisconnectPacket)


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_a_client_may_not_send_ends_its_connection(malformed: bytes) -> None:
    with pytest.raises(RefusedError):
        read(malformed)


@pytest.mark.parametrize("whole", WELL_FORMED, ids=lambda whole: whole[:1].hex())
def test_a_packet_that_breaks_off_is_the_end_and_one_that_lies_about_its_length_is_refused(whole: bytes) -> None:
    for end in range(len(whole)):
        assert read(whole[:end]) == []
    first, length, body = whole[0], whole[1], whole[2:]
    if length >= 0x80:
        return
    for end in range(len(body)):
        shorter = packet(first, body[:end])
        try:
            assert [each.to_bytes() for each in read(shorter)] == [shorter]
        except RefusedError:
            continue


def test_a_larger_packet_than_the_limit_is_refused_before_it_is_read() -> None:
    assert len(read(raw_mqtt.publish("t", bytes(997)))) == 1
    with pytest.raises(RefusedError, match=r"announced a packet of 1001 bytes; the limit is 1000"):
        read(raw_mqtt.publish("t", bytes(998))[:3])


def test_a_connect_is_returned_whole_and_every_end_of_it_is_none() -> None:
    assert read_connect(CONNECT + b"more") == CONNECT
    for end in range(len(CONNECT)):
        with pytest.raises(EOFError):
            read_connect(CONNECT[:end])


@pytest.mark.parametrize("first", NO_CONNECT.values(), ids=NO_CONNECT.keys())
def test_what_is_no_connect_is_refused(first: bytes) -> None:
    with pytest.raises(RefusedError):
        read_connect(first)


@pytest.mark.parametrize("level", [3, 5, 0x84])
def test_another_version_is_told_apart_from_nonsense(level: int) -> None:
    with pytest.raises(OtherVersionError, match=f"level {level} "):
        read_connect(raw_mqtt.connect("me", level=level))
    with pytest.raises(OtherVersionError):
        read_connect(packet(0x10, text("MQIsdp") + bytes([3]) + CONNECT[9:]))


@given(st.binary(max_size=200))
@example(b"\x30\x00")
@example(b"\x10\x00")
def test_any_bytes_are_packets_the_end_or_refused(received: bytes) -> None:
    try:
        packets = read(received)
    except RefusedError:
        return
    assert all(isinstance(each, MQTTPacket) for each in packets)


@given(st.integers(0, 255), st.binary(max_size=100))
def test_any_packet_is_taken_as_it_is_or_refused(first: int, body: bytes) -> None:
    try:
        taken = asyncio.run(parsed(first, body))
    except RefusedError:
        return
    assert taken.to_bytes() == packet(first, body)


@given(st.binary(max_size=200))
def test_any_bytes_for_a_connect_are_one_the_end_or_refused(received: bytes) -> None:
    for first in (received, packet(0x10, received), packet(0x10, text("MQTT") + b"\x04" + received)):
        try:
            frame = read_connect(first)
        except (RefusedError, EOFError):
            continue
        assert first.startswith(frame)


async def test_who_sends_no_connect_and_who_does_not_finish_a_packet_is_refused_in_time() -> None:
    limits = Limits(connect_s=0.05, packet_s=0.05)
    with pytest.raises(RefusedError, match="no CONNECT within"):
        await PacketReader(stream_of(CONNECT[:5], ends=False), limits).connect_frame()
    with pytest.raises(RefusedError, match="did not finish a packet within"):
        await PacketReader(stream_of(WELL_FORMED[0][:5], ends=False), limits).packet(None)
    with pytest.raises(TimeoutError):
        await PacketReader(stream_of(b"", ends=False), limits).packet(0.05)
