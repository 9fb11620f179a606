"""amqtt's broker with our mends: in this process, over real sockets, with limits that are soon reached."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("amqtt", reason="the embedded broker is the extra `broker`")

from amqtt.adapters import StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session
from tests import raw_mqtt
from tests.raw_mqtt import ACCEPTED, PUBACK, RESUMED, Wire, answer, packet, publish, subscribe

from grapevine_broker.careful_broker import CarefulBroker
from grapevine_broker.connection import CarefulConnection, CarefulSession, PatientWriter
from grapevine_broker.embedded_process import broker_config
from grapevine_broker.limits import Limits

DEADLINE_S = 20.0


class Denying(BaseTopicPlugin):  # type: ignore[misc]  # amqtt ships no types
    """Nobody subscribes to `secret/…`, publishes to `theirs/…` or receives from `mute/…`."""

    async def topic_filtering(self, *, session: Session, topic: str, action: Action) -> bool:
        denied = {Action.SUBSCRIBE: "secret/", Action.PUBLISH: "theirs/", Action.RECEIVE: "mute/"}
        return not topic.startswith(denied[action])


class OnlyFriends(BaseAuthPlugin):  # type: ignore[misc]  # amqtt ships no types
    async def authenticate(self, *, session: Session) -> bool:
        return bool(session.username == "friend")


@asynccontextmanager
async def a_broker(*plugins: type[Any], **limits: Any) -> AsyncIterator[CarefulBroker]:
    """Run a broker with these limits, and what it does beside; nothing in it may fail unnoticed."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    config = broker_config("127.0.0.1", 0)
    config["plugins"] |= {f"{plugin.__module__}.{plugin.__name__}": {} for plugin in plugins}
    broker = CarefulBroker(config, limits=Limits(**limits))
    await broker.start()
    sweep = asyncio.create_task(broker.sweep())
    try:
        yield broker
    finally:
        sweep.cancel()
        await broker.shutdown()
    assert failures == []


async def until(holds: Any) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < give_up_at, inspect.getsource(holds)
        await asyncio.sleep(0.01)


async def a_client(broker: CarefulBroker, name: str, *filters: tuple[str, int], clean: bool = True) -> Wire:
    wire = await Wire.to(broker.port, raw_mqtt.connect(name, clean=clean))
    assert await wire.packet() in (ACCEPTED, RESUMED)
    if filters:
        await wire.send(subscribe(*filters))
        assert await wire.packet() == packet(0x90, b"\x00\x01" + bytes(qos for _, qos in filters))
    return wire


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (Broker, CarefulBroker),
        (BrokerProtocolHandler, CarefulConnection),
        (Session, CarefulSession),
        (StreamWriterAdapter, PatientWriter),
    ],
)
def test_every_method_that_mends_amqtt_still_exists_there(theirs: type, ours: type) -> None:
    mended = [name for name in vars(ours) if hasattr(theirs, name) and not name.startswith("__")]
    assert mended
    for name in mended:
        if inspect.isfunction(getattr(ours, name)):
            signatures = [list(inspect.signature(getattr(each, name)).parameters) for each in (theirs, ours)]
            assert signatures[0] == signatures[1], name


# --- connections --------------------------------------------------------------------------------------


async def test_who_sends_no_connect_is_closed_after_a_while_and_others_are_not() -> None:
    async with a_broker(connect_s=0.2) as broker:
        silent, trickling = await Wire.to(broker.port), await Wire.to(broker.port, raw_mqtt.connect("x")[:9])
        async with await a_client(broker, "patient") as patient:
            assert await silent.ended()
            assert await trickling.ended()
            assert await patient.until_ping() == []
        await until(lambda: not broker._open)


async def test_a_crowd_without_a_connect_costs_the_oldest_its_place_and_not_who_comes_next() -> None:
    async with a_broker(max_unproven=3, connect_s=60.0) as broker:
        crowd = [await Wire.to(broker.port) for _ in range(5)]
        assert await crowd[0].ended()
        async with await a_client(broker, "late") as late:
            assert await late.until_ping() == []
        await until(lambda: len(broker._open) == len(broker._unproven) == 2)
        for wire in crowd:
            await wire.close()
        await until(lambda: not broker._open)


async def test_one_connection_too_many_is_closed_and_its_place_is_free_again() -> None:
    async with a_broker(max_connections=2) as broker, await a_client(broker, "one"):
        two = await a_client(broker, "two")
        assert await (await Wire.to(broker.port, raw_mqtt.connect("three"))).ended()
        await two.send(raw_mqtt.DISCONNECT)
        assert await two.ended()
        async with await a_client(broker, "three") as three:
            assert await three.until_ping() == []


async def test_who_does_not_finish_a_packet_or_sends_too_large_a_one_is_closed() -> None:
    async with a_broker(packet_s=0.2, max_packet_bytes=100) as broker:
        slow, large = await a_client(broker, "slow"), await a_client(broker, "large")
        await slow.send(publish("t", b"payload")[:-1])
        await large.send(publish("t", bytes(100)))
        assert await slow.ended()
        assert await large.ended()


async def test_who_does_not_read_its_answers_is_closed() -> None:
    async with a_broker(write_s=0.3) as broker, await a_client(broker, "full", ("t", 0)) as full:
        echo = publish("t", bytes(1_000_000)) + raw_mqtt.PINGREQ
        sending = asyncio.create_task(full.send(*[echo] * 40))
        await until(lambda: not broker._open)
        await asyncio.gather(sending, return_exceptions=True)


async def test_messages_of_qos_0_for_who_does_not_read_them_are_lost_and_not_kept() -> None:
    async with (
        a_broker(max_unsent_bytes=2_000_000) as broker,
        await a_client(broker, "slow", ("t", 0)) as slow,
        await a_client(broker, "fast", ("t", 0)) as fast,
        await a_client(broker, "writer") as writer,
    ):
        session, connection = broker._sessions["slow"]
        for number in range(30):
            await writer.send(publish("t", bytes([number]) * 1_000_000))
            assert (await fast.packet())[-1] == number
            assert connection.writer.num_unsent_bytes <= 3_100_000, "the limit, and the message that passed it"
        assert session.outbox.num_lost > 0
        for _ in range(30 - session.outbox.num_lost):
            assert len(await slow.packet()) > 1_000_000
        assert await slow.until_ping() == []


async def test_a_version_that_is_not_spoken_is_said_to_be_so_even_with_a_user() -> None:
    async with a_broker() as broker:
        for level in (3, 5):
            wire = await Wire.to(broker.port, raw_mqtt.connect("me", level=level, user="somebody"))
            assert await wire.packet() == b"\x20\x02\x00\x01"
            assert await wire.ended()


async def test_a_line_in_the_log_says_what_a_refused_client_did(caplog: pytest.LogCaptureFixture) -> None:
    async with a_broker() as broker:
        with caplog.at_level(logging.WARNING):
            assert await (await Wire.to(broker.port, b"GET / HTTP/1.1\r\n\r\n")).ended()
            await (await Wire.to(broker.port)).close()
            await until(lambda: not broker._open)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("grapevine_broker")] == [
        "closed a connection: it began with the byte 0x47 instead of a CONNECT"
    ]


# --- sessions -----------------------------------------------------------------------------------------


async def test_sessions_of_the_absent_are_limited_in_number_and_in_time() -> None:
    async with a_broker(max_absent_sessions=2, session_expiry_s=1.0) as broker:
        for name in ("one", "two", "three"):
            async with await a_client(broker, name, ("t", 1), clean=False) as wire:
                await wire.send(raw_mqtt.DISCONNECT)
                assert await wire.ended()
            await until(lambda: not broker._open)
        assert set(broker._sessions) == {"two", "three"}
        async with await a_client(broker, "writer") as writer:
            await writer.send(publish("t", b"kept", 1))
            assert await writer.packet() == answer(PUBACK, 1)
            assert broker._room.num_bytes > 0
            await until(lambda: set(broker._sessions) == {"writer"})
        assert broker._room.num_bytes == 0
        assert broker._subscriptions == {}


async def test_a_clean_session_leaves_nothing_behind() -> None:
    async with a_broker() as broker:
        async with await a_client(broker, "one", ("a", 1), ("b/#", 0)) as one:
            await one.send(packet(0xA2, b"\x00\x02" + raw_mqtt.text("a")))
            assert await one.packet() == b"\xb0\x02\x00\x02"
            assert list(broker._subscriptions) == ["b/#"]
        await until(lambda: not broker._sessions)
        assert broker._subscriptions == {}


async def test_a_storm_of_connections_under_one_name_leaves_one_of_them() -> None:
    async with a_broker() as broker:
        wires = await asyncio.gather(*(Wire.to(broker.port, raw_mqtt.connect("me", clean=False)) for _ in range(30)))
        await until(lambda: len(broker._open) == 1)
        assert len(broker._sessions) == 1
        for wire in wires:
            await wire.close()
        await until(lambda: not broker._open)


async def test_a_refused_login_displaces_nobody() -> None:
    async with a_broker(OnlyFriends) as broker:
        friendly = raw_mqtt.connect("me", user="friend")
        async with await Wire.to(broker.port, friendly, ACCEPTED) as friend:
            for clean in (True, False):
                stranger = await Wire.to(broker.port, raw_mqtt.connect("me", clean=clean, user="stranger"))
                assert await stranger.packet() == b"\x20\x02\x00\x05"
                assert await stranger.ended()
            await friend.send(subscribe(("t", 0)), publish("t", b"x"))
            assert [await friend.packet() for _ in range(2)] == [b"\x90\x03\x00\x01\x00", publish("t", b"x")]


async def test_what_waits_for_the_absent_is_limited_and_the_newest_is_kept() -> None:
    async with a_broker(max_queued_messages=3) as broker:
        await (await a_client(broker, "absent", ("t", 1), clean=False)).close()
        await until(lambda: not broker._open)
        async with await a_client(broker, "writer") as writer:
            for number in range(5):
                await writer.send(publish("t", b"%d" % number, 1))
                assert await writer.packet() == answer(PUBACK, 1)
        assert broker._sessions["absent"][0].outbox.num_lost == 2
        async with await Wire.to(broker.port, raw_mqtt.connect("absent", clean=False), RESUMED) as back:
            expected = [publish("t", b"%d" % (number + 1), 1, number) for number in (1, 2, 3)]
            assert await back.until_ping() == expected


# --- subscriptions and retained messages --------------------------------------------------------------


async def test_a_filter_too_many_or_that_is_none_is_refused_and_the_others_count() -> None:
    async with a_broker(max_subscriptions=2) as broker, await a_client(broker, "me") as me:
        await me.send(subscribe(("a", 0), ("b/#/c", 0), ("b+", 0), ("b", 1), ("c", 0), ("a", 1)))
        assert await me.packet() == packet(0x90, b"\x00\x01\x00\x80\x80\x01\x80\x01")
        await me.send(publish("c", b""), publish("a", b""))
        assert await me.until_ping() == [publish("a", b"")]


async def test_subscriptions_take_room_from_all_and_give_it_back() -> None:
    async with a_broker(max_queued_bytes_in_all=3000) as broker, await a_client(broker, "me") as me:
        await me.send(subscribe(("a" * 1000, 0), ("b" * 1000, 0), ("c" * 1000, 0), ("a" * 1000, 1)))
        assert await me.packet() == packet(0x90, b"\x00\x01\x00\x00\x80\x01")
        await me.send(packet(0xA2, b"\x00\x02" + raw_mqtt.text("a" * 1000) + raw_mqtt.text("never")))
        assert await me.packet() == b"\xb0\x02\x00\x02"
        await me.send(subscribe(("c" * 1000, 2)), raw_mqtt.DISCONNECT)
        assert await me.packet() == packet(0x90, b"\x00\x01\x02")
        await until(lambda: not broker._sessions)
        assert broker._room.num_bytes == 0


async def test_who_never_releases_its_messages_of_qos_2_is_closed() -> None:
    async with a_broker(max_unreleased=3) as broker:
        wire = await a_client(broker, "me")
        for packet_id in (1, 2, 2, 3):
            await wire.send(publish("t", b"x", 2, packet_id))
            assert await wire.packet() == answer(raw_mqtt.PUBREC, packet_id)
        await wire.send(publish("t", b"x", 2, 4))
        assert await wire.ended()


async def test_a_broker_that_denies_answers_a_subscription_with_failure() -> None:
    async with a_broker(Denying) as broker, await a_client(broker, "me") as me:
        await me.send(subscribe(("secret/#", 2), ("theirs/#", 0), ("mute/#", 0)))
        assert await me.packet() == packet(0x90, b"\x00\x01\x80\x00\x00")
        await me.send(publish("theirs/a", b"", 1), publish("mute/a", b"x", retain=True), publish("secret/a", b""))
        assert await me.until_ping() == [answer(PUBACK, 1)]
        assert list(broker.retained_messages) == ["mute/a"]


async def test_retained_messages_are_limited_in_number_and_bytes_and_the_oldest_goes() -> None:
    limits = {"max_retained_messages": 3, "max_retained_bytes": 20}
    async with a_broker(**limits) as broker, await a_client(broker, "writer") as writer:

        async def retain(topic: str, payload: bytes) -> list[str]:
            await writer.send(publish(topic, payload, retain=True))
            assert await writer.until_ping() == []
            assert broker._num_retained_bytes == sum(
                len(topic) + len(message.data) for topic, message in broker.retained_messages.items()
            )
            return sorted(broker.retained_messages)

        for topic in ("a", "b", "c", "a"):
            kept = await retain(topic, b"1")
        assert kept == ["a", "b", "c"]
        assert await retain("d", b"1") == ["a", "c", "d"], "b is the oldest: a was said again"
        assert await retain("e", bytes(15)) == ["a", "d", "e"]
        assert await retain("e", bytes(18)) == ["e"]
        assert await retain("e", b"") == []


async def test_more_retained_messages_than_fit_at_once_all_greet_a_subscriber() -> None:
    async with a_broker(max_unsent_bytes=1_000_000) as broker, await a_client(broker, "writer") as writer:
        for number in range(30):
            await writer.send(publish(f"t/{number}", bytes(300_000), retain=True))
        assert await writer.until_ping() == []
        async with await a_client(broker, "reader", ("t/+", 0)) as reader:
            assert len(await reader.until_ping()) == 30


async def test_a_subscriber_is_not_sent_what_another_one_asked_for() -> None:
    async with a_broker() as broker, await a_client(broker, "writer", ("secret", 0)) as writer:
        await writer.send(publish("secret", b"x", retain=True))
        assert await writer.packet() == publish("secret", b"x")
        async with await a_client(broker, "other", ("open", 0)) as other:
            assert await other.until_ping() == []
