"""The transport against real brokers of both engines."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from grapevine_agent.net.events import Arrived, Connected, Disconnected, Trying, Will
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.answers import Answers
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.sending import Sending
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.simulator.keys import Holder, Numbering
from grapevine_proto.errors import BrokerError
from grapevine_proto.parts import LARGE, Parts, Payload, parts_of
from grapevine_proto.signing import SigningKey

NOWHERE = "mqtt://127.0.0.1:9"  # the discard port: nothing listens there

VICTIM = """
import asyncio, sys
from grapevine_agent.net.events import Connected, Will
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl

async def main(url, topic, keepalive_s):
    transport = Transport(
        [BrokerUrl.parse(url)], client_id="victim-" + topic.split("/")[1], keepalive_s=int(keepalive_s),
        will=lambda: Will(topic=topic, payload=b"gone"),
    )
    task = asyncio.create_task(transport.run())
    async for event in transport.events():
        if isinstance(event, Connected):
            print("connected", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def victim(url: str, topic: str, keepalive_s: int = 60) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run another process with a connected transport, whose will goes to `topic`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, url, topic, str(keepalive_s), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"connected\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("username", [None, "somebody"])
async def test_it_finds_out_which_version_a_broker_speaks(broker: Any, connect: Any, username: str | None) -> None:
    client = await connect(broker.url.partition("?")[0], wait=False, username=username, connack_s=1.0)
    connected = await client.next(Connected)
    assert connected.version == ("3.1.1" if "version=3.1.1" in broker.url else "5")
    assert client.transport.connected_to == connected.url


async def test_a_broker_that_keeps_silent_at_version_5_is_asked_again_in_the_older_one(connect: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        level = (await reader.readexactly(9))[-1]
        if level == 4:
            writer.write(b"\x20\x02\x00\x00")
        while await reader.read(1000):
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = await connect(f"mqtt://127.0.0.1:{port}", wait=False, connack_s=0.3)
        assert (await client.next(Connected)).version == "3.1.1"
        await client.transport.disconnect()
        await client.rest()


async def test_a_message_comes_back_whole_in_both_qualities_of_service(broker: Any, connect: Any) -> None:
    client = await connect(broker.url, subscribe=(f"{broker.root}/#",))
    for qos in (0, 1):
        payload = os.urandom(300_000)
        await client.transport.publish(f"{broker.root}/model", payload, qos=qos)
        assert await client.next(Arrived) == Arrived(topic=f"{broker.root}/model", payload=payload, retained=False)


async def test_a_retained_message_awaits_later_subscribers_after_connected(broker: Any, connect: Any) -> None:
    author = await connect(broker.url)
    await author.transport.publish(f"{broker.root}/record", b"state", retain=True)
    reader = await connect(broker.url, subscribe=(f"{broker.root}/#",), wait=False)
    first, second = await reader.next(object), await reader.next(object)
    assert isinstance(first, Connected)
    assert second == Arrived(topic=f"{broker.root}/record", payload=b"state", retained=True)


async def test_a_retained_message_stays_with_those_who_subscribed(broker: Any, connect: Any) -> None:
    author = await connect(broker.url, subscribe=(f"{broker.root}/secret",))
    await author.transport.publish(f"{broker.root}/secret", b"mine", retain=True)
    other = await connect(broker.url, subscribe=(f"{broker.root}/fence",))
    await author.transport.publish(f"{broker.root}/fence", b"")
    assert (await other.next(Arrived)).topic == f"{broker.root}/fence"


async def test_an_ended_subscription_brings_nothing_more(broker: Any, connect: Any) -> None:
    client = await connect(broker.url, subscribe=(f"{broker.root}/a", f"{broker.root}/b"))
    await client.transport.unsubscribe(f"{broker.root}/a")
    await client.transport.publish(f"{broker.root}/a", b"")
    await client.transport.publish(f"{broker.root}/b", b"")
    assert (await client.next(Arrived)).topic == f"{broker.root}/b"


async def test_a_process_killed_outright_leaves_its_will(broker: Any, connect: Any) -> None:
    topic = f"{broker.root}/state"
    watcher = await connect(broker.url, subscribe=(topic,))
    async with victim(broker.url, topic) as process:
        process.kill()
        assert await watcher.next(Arrived) == Arrived(topic=topic, payload=b"gone", retained=False)
    late = await connect(broker.url, subscribe=(topic,))
    assert await late.next(Arrived) == Arrived(topic=topic, payload=b"gone", retained=True)


async def test_a_process_that_falls_silent_leaves_its_will_too(broker: Any, connect: Any) -> None:
    topic = f"{broker.root}/state"
    watcher = await connect(broker.url, subscribe=(topic,))
    async with victim(broker.url, topic, keepalive_s=1) as process:
        process.send_signal(signal.SIGSTOP)
        assert (await watcher.arrival(topic)).payload == b"gone"


async def test_an_orderly_disconnect_leaves_no_will(broker: Any, connect: Any) -> None:
    watcher = await connect(broker.url, subscribe=(f"{broker.root}/#",))
    will = Will(topic=f"{broker.root}/state", payload=b"gone")
    client = await connect(broker.url, client_id="orderly", will=lambda: will)
    await client.transport.disconnect()
    assert [type(event) for event in await client.rest()] == [Disconnected]
    again = await connect(broker.url, client_id="orderly")
    await again.transport.publish(f"{broker.root}/fence", b"")
    assert (await watcher.next(Arrived)).topic == f"{broker.root}/fence"


async def test_a_cancelled_transport_leaves_its_will(broker: Any, connect: Any) -> None:
    topic = f"{broker.root}/state"
    watcher = await connect(broker.url, subscribe=(topic,))
    client = await connect(broker.url, will=lambda: Will(topic=topic, payload=b"gone"))
    client.task.cancel()
    assert (await watcher.arrival(topic)).payload == b"gone"
    with pytest.raises(asyncio.CancelledError):
        await client.task
    client.task = asyncio.create_task(asyncio.sleep(0))


async def test_a_restarted_broker_is_found_again_with_every_subscription_and_a_fresh_will(
    private_broker: Any, connect: Any
) -> None:
    wills: list[Will] = []

    def will() -> Will:
        wills.append(Will(topic="test/state", payload=b"session %d" % len(wills)))
        return wills[-1]

    client = await connect(private_broker.url, subscribe=("test/#",), will=will)
    num_wills = len(wills)
    await asyncio.to_thread(private_broker.kill)
    lost = await client.next(Disconnected)
    assert lost == Disconnected(url=BrokerUrl.parse(private_broker.url), reason="connection lost")
    assert "nothing listens" in (await client.next(Trying)).reason
    with pytest.raises(BrokerError, match="not connected"):
        await client.transport.publish("test/hello", b"")
    await asyncio.to_thread(private_broker.start)
    assert (await client.next(Connected)).refused == ()
    assert len(wills) > num_wills
    await client.transport.publish("test/hello", b"again")
    assert (await client.next(Arrived)).payload == b"again"


async def test_a_publish_that_was_not_acknowledged_fails_when_the_connection_is_lost(
    private_broker: Any, connect: Any
) -> None:
    client = await connect(private_broker.url)
    os.kill(private_broker.pid, signal.SIGSTOP)
    publishes = [asyncio.create_task(client.transport.publish("test/x", b"x" * 1000)) for _ in range(50)]
    await asyncio.sleep(0.1)  # long enough for some to be on the way
    assert not any(task.done() for task in publishes)
    await asyncio.to_thread(private_broker.kill)
    results = await asyncio.wait_for(asyncio.gather(*publishes, return_exceptions=True), 10)
    assert all(isinstance(result, BrokerError) for result in results)


async def test_an_oversize_publish_is_refused_here_and_blocks_nothing(broker: Any, connect: Any) -> None:
    client = await connect(broker.url, subscribe=(f"{broker.root}/#",), max_packet_bytes=5_000)
    with pytest.raises(BrokerError, match=r"5\d\d\d bytes on .* exceeds 5000"):
        await client.transport.publish(f"{broker.root}/big", bytes(5_000))
    await client.transport.publish(f"{broker.root}/small", bytes(4_900))
    assert (await client.next(Arrived)).topic == f"{broker.root}/small"


@pytest.mark.parametrize("version", ["3.1.1", "auto"])  # the embedded broker speaks no other than the first
async def test_a_large_payload_arrives_as_it_left_and_so_does_what_comes_before_and_behind_it(
    private_broker: Any, connect: Any, version: str
) -> None:
    client = await connect(private_broker.url.split("?")[0] + f"?version={version}", subscribe=("test/#",))
    content = random.Random(0).randbytes(LARGE - 3)
    parts = Parts((content[:5], content[5 : LARGE // 2], memoryview(content)[LARGE // 2 :], b"end"))
    said: dict[str, Payload] = {
        "before": b"b",
        "parts": parts,
        "whole": content + b"whole",
        "short": Parts((b"a", b"b")),
        "behind": b"c",
    }
    await asyncio.gather(*(client.transport.publish(f"test/{name}", each) for name, each in said.items()))
    heard = [await client.next(Arrived) for _ in said]
    assert [each.topic for each in heard] == [f"test/{name}" for name in said]
    assert [bytes(each.payload) for each in heard] == [b"".join(parts_of(each)) for each in said.values()]
    assert isinstance(heard[1].payload, memoryview)
    assert heard[1].payload.readonly
    await client.transport.publish("test/parts", parts, qos=0)
    assert bytes((await client.next(Arrived)).payload) == bytes(parts)


async def test_what_was_under_way_when_a_broker_was_killed_arrives_at_the_one_that_takes_its_place(
    private_broker: Any, connect: Any
) -> None:
    reader = await connect(private_broker.url, subscribe=("test/#",))
    client, outbox = await connect(private_broker.url), Outbox()
    sealing = Sealing(Sealer(Holder(SigningKey.generate()), Numbering()), Beside())
    answers = Answers(
        outbox=outbox,
        get_blob=lambda _digest: asyncio.sleep(0),
        sealing=sealing,
        root="test",
    )
    sending = Sending(outbox=outbox, transport=client.transport, answers=answers, sealing=sealing)
    running = asyncio.create_task(sending.run())
    sending.connected(20)
    os.kill(private_broker.pid, signal.SIGSTOP)
    for number in range(100):
        outbox.enqueue(f"test/{number}", b"", deadline_s=time.monotonic() + 60.0)
    outbox.keep("test/record", b"r")
    sending.wake()
    await asyncio.sleep(0.1)  # long enough for some to be on the way
    assert len(outbox) == 101
    await asyncio.to_thread(private_broker.kill)
    await client.next(Disconnected)
    await asyncio.to_thread(private_broker.start)
    await reader.next(Connected)
    await client.next(Connected)
    sending.connected(20)
    arrived = {(await reader.next(Arrived)).topic for _ in range(101)}
    assert arrived == {f"test/{number}" for number in range(100)} | {"test/record"}
    running.cancel()


@pytest.mark.mosquitto
async def test_what_mosquitto_takes_unacknowledged_is_obeyed(connect: Any) -> None:
    for url, most in (("", 7), ("?version=3.1.1", 64)):
        with MosquittoBroker(max_in_flight=7) as running:
            client = await connect(running.url + url, wait=False)
            assert (await client.next(Connected)).max_in_flight == most
            await asyncio.gather(*(client.transport.publish("test/x", b"") for _ in range(300)))
            await client.transport.disconnect()


@pytest.mark.mosquitto
async def test_the_smaller_limit_of_a_version_5_broker_holds(connect: Any) -> None:
    with MosquittoBroker(max_packet_bytes=50_000) as running:
        client = await connect(running.url, wait=False)
        assert (await client.next(Connected)).max_packet_bytes == 50_000
        with pytest.raises(BrokerError, match="exceeds 50000"):
            await client.transport.publish("test/x", bytes(50_000))
        await client.transport.publish("test/x", bytes(49_900))
        await client.transport.disconnect()


async def test_brokers_are_tried_in_order_and_the_owner_learns_which_failed(broker: Any, connect: Any) -> None:
    client = await connect(NOWHERE, broker.url, wait=False)
    trying = await client.next(Trying)
    assert trying == Trying(
        url=BrokerUrl.parse(NOWHERE),
        reason="nothing listens on 127.0.0.1:9: is the broker running?",
        retry_in_s=0.0,
        next_url=BrokerUrl.parse(broker.url),
    )
    assert (await client.next(Connected)).url == BrokerUrl.parse(broker.url)


async def test_an_unreachable_broker_is_tried_for_ever_with_growing_waits(connect: Any) -> None:
    client = await connect(NOWHERE, wait=False, backoff_s=(0.02, 0.3))
    waits = [(await client.next(Trying)).retry_in_s for _ in range(7)]
    assert waits[0] < 0.03
    assert 0.15 <= waits[-1] <= 0.3


async def test_a_silent_port_is_reported_and_an_unknown_name_too(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        client = await connect(f"mqtt://127.0.0.1:{port}", "mqtt://nowhere.invalid", wait=False, connack_s=0.2)
        assert "did not answer a CONNECT of MQTT 3.1.1" in (await client.next(Trying)).reason
        assert "nowhere.invalid cannot be resolved" in (await client.next(Trying)).reason
        await client.transport.disconnect()


async def test_bytes_that_are_not_mqtt_end_the_attempt_and_nothing_else(connect: Any) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"\x20\xff\xff\xff\xff\xffHTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = await connect(f"mqtt://127.0.0.1:{port}", wait=False, connack_s=2.0)
        assert (await client.next(Trying)).reason
        assert (await client.next(Trying)).reason
        await client.transport.disconnect()


async def test_many_clients_that_connect_in_one_instant_are_all_served(private_broker: Any, connect: Any) -> None:
    clients = [await connect(private_broker.url, subscribe=(f"test/{n}", "test/all"), wait=False) for n in range(30)]
    await asyncio.gather(*(client.next(Connected) for client in clients))
    await asyncio.gather(
        *(client.transport.publish(f"test/{n}", b"%d" % n, retain=True) for n, client in enumerate(clients))
    )
    arrived = await asyncio.gather(*(client.next(Arrived) for client in clients))
    assert [event.payload for event in arrived] == [b"%d" % n for n in range(30)]
    await asyncio.gather(*(client.transport.disconnect() for client in clients))


async def test_two_thousand_messages_get_through_while_subscriptions_change(private_broker: Any, connect: Any) -> None:
    reader = await connect(private_broker.url, subscribe=("test/flow",))
    writer = await connect(private_broker.url)
    restless = await connect(private_broker.url)
    flow = asyncio.gather(*(writer.transport.publish("test/flow", b"%d" % n) for n in range(2000)))
    changes = 0
    while not flow.done():
        await restless.transport.subscribe((f"test/restless/{changes}", 1))
        await restless.transport.unsubscribe(f"test/restless/{changes}")
        changes += 1
    await flow
    assert changes > 0
    assert {(await reader.next(Arrived)).payload for _ in range(2000)} == {b"%d" % n for n in range(2000)}
