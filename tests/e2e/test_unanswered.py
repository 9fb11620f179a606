"""The transport against a broker that is late, deaf, or forgets: every wait ends, with a new connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from tests.raw_mqtt import answer, packet
from tests.scripted_broker import ScriptedBroker

from grapevine_agent.net.events import Connected, Disconnected, Trying
from grapevine_agent.net.failures import ConnectionLostError

VERSIONS = ("3.1.1", "5")
ANSWER_S = 0.4
pytestmark = pytest.mark.parametrize("version", VERSIONS)


async def test_a_lost_acknowledgement_ends_the_connection_and_a_new_one_is_made(version: str, connect: Any) -> None:
    async with ScriptedBroker(withholds=lambda each: each.topic == "lost" and each.connection == 0) as broker:
        client = await connect(broker.url(version), answer_s=ANSWER_S)
        lost = asyncio.create_task(client.transport.publish("lost", b"1"))
        await asyncio.gather(*(client.transport.publish(f"kept/{n}", b"") for n in range(30)))  # nothing waits for it
        with pytest.raises(ConnectionLostError, match="no answer to a message on lost in 0"):
            await asyncio.wait_for(lost, 10)
        assert "no answer to a message on lost" in (await client.next(Disconnected)).reason
        await client.next(Connected)
        await client.transport.publish("lost", b"2")
        assert broker.published[-1].connection == 1


async def test_acknowledgements_that_take_a_tenth_of_a_second_are_waited_for_together(
    version: str, connect: Any
) -> None:
    async with ScriptedBroker(delay_s=0.1) as broker:
        client = await connect(broker.url(version))
        began_s = time.monotonic()
        await asyncio.gather(*(client.transport.publish(f"t/{n}", b"") for n in range(60)))
        assert time.monotonic() - began_s < 2.0  # one by one it takes six seconds
        assert [each.topic for each in broker.published] == [f"t/{n}" for n in range(60)]


async def test_no_more_is_on_the_way_than_the_broker_announces(version: str, connect: Any) -> None:
    async with ScriptedBroker(delay_s=0.02, receive_maximum=3) as broker:
        client = await connect(broker.url(version), wait=False)
        most = (await client.next(Connected)).max_in_flight
        assert most == (3 if version == "5" else 64)
        publishes = [asyncio.create_task(client.transport.publish(f"t/{n}", b"")) for n in range(30)]
        await asyncio.sleep(0.01)
        for task in publishes[:3]:  # nobody waits for these any more, but the broker has not acknowledged them
            task.cancel()
        await asyncio.gather(*publishes, return_exceptions=True)
        assert len(broker.published) == 30
        assert broker.most_in_flight <= most


async def test_a_broker_that_does_not_read_is_given_up_though_nothing_waits_for_an_acknowledgement(
    version: str, connect: Any
) -> None:
    async with ScriptedBroker() as broker:
        client = await connect(broker.url(version), answer_s=ANSWER_S, keepalive_s=60)
        broker.reads.clear()
        sent = [asyncio.create_task(client.transport.publish("t", bytes(4_000), qos=0)) for _ in range(4_000)]
        done = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(done[-1], ConnectionLostError)
        assert "no answer to a message on t" in (await client.next(Disconnected)).reason
        broker.reads.set()
        await client.next(Connected)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_line_that_is_dead_without_a_word_is_noticed(version: str, connect: Any, is_busy: bool) -> None:
    async with ScriptedBroker(pings=False) as broker:
        client = await connect(broker.url(version), keepalive_s=1)
        broker.reads.clear()
        began_s = time.monotonic()
        lost = asyncio.create_task(client.next(Disconnected))
        while not lost.done():
            await asyncio.sleep(0.1)
            if is_busy and not lost.done():
                with contextlib.suppress(ConnectionLostError):  # it is noticed while this is published
                    await client.transport.publish("heartbeat", b"", qos=0)
        assert time.monotonic() - began_s < 6.0


@pytest.mark.parametrize("ends", [False, True])
async def test_a_subscription_that_is_not_answered_is_made_over_a_new_connection(
    version: str, connect: Any, ends: bool
) -> None:
    async with ScriptedBroker(subscribes=lambda connection: connection != 0) as broker:
        client = await connect(broker.url(version), answer_s=ANSWER_S)
        with pytest.raises(ConnectionLostError, match="subscription to a"):
            await (client.transport.unsubscribe("a") if ends else client.transport.subscribe(("a", 1)))
        await client.next(Disconnected)
        assert (await client.next(Connected)).refused == ()


async def test_a_broker_that_answers_no_subscription_is_tried_again(version: str, connect: Any) -> None:
    async with ScriptedBroker(subscribes=lambda connection: connection > 1) as broker:
        client = await connect(broker.url(version), subscribe=("a",), answer_s=ANSWER_S, wait=False)
        assert "no answer to a subscription to a" in (await client.next(Trying)).reason
        await client.next(Connected)


async def test_acknowledgements_of_what_was_never_sent_mean_nothing(version: str, connect: Any) -> None:
    subacks = [packet(0x90, n.to_bytes(2, "big") + (b"\x00" if version == "5" else b"") + b"\x01") for n in range(1, 9)]
    stray = b"".join([*(answer(0x40, n) for n in range(1, 9)), *subacks])
    async with ScriptedBroker(
        session_present=True, after_connack=stray, withholds=lambda each: each.connection == 0
    ) as broker:
        client = await connect(broker.url(version), answer_s=ANSWER_S, subscribe=("a",))
        with pytest.raises(ConnectionLostError):
            await client.transport.publish("t", b"1")
        await client.next(Connected)
        await client.transport.publish("t", b"2")


async def test_packet_ids_that_are_still_under_way_are_not_given_again(version: str, connect: Any) -> None:
    async with ScriptedBroker(withholds=lambda each: each.topic == "lost") as broker:
        client = await connect(broker.url(version))
        lost = asyncio.create_task(client.transport.publish("lost", b""))
        while not broker.published:
            await asyncio.sleep(0.01)
        paho = client.transport._connection._client
        for qos in (0, 1):
            paho._last_mid = broker.published[0].packet_id - 1  # it has come round
            await asyncio.wait_for(client.transport.publish(f"next/{qos}", b"", qos=qos), 5)
        assert not lost.done()
        assert broker.published[-1].packet_id != broker.published[0].packet_id
        await client.transport.disconnect()
        with pytest.raises(ConnectionLostError):
            await lost


async def test_an_answer_without_a_word_on_a_filter_counts_as_refusal(version: str, connect: Any) -> None:
    first = b"\x00" if version == "5" else b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(packet(0x20, b"\x00\x00" + first))
        packet_id = (await reader.read(1000))[2:4]
        writer.write(packet(0x90, packet_id + first + b"\x01"))
        await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = await connect(f"mqtt://127.0.0.1:{port}?version={version}", subscribe=("a", "b"), wait=False)
        assert (await client.next(Connected)).refused == ("b",)
        await client.transport.disconnect()
