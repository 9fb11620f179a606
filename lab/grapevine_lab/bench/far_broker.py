"""`sends_to_a_far_broker`: QoS 1 messages a second at a round trip of 100 ms, against one at a time.

A proxy that delays each direction by 50 ms stands before a Mosquitto. Ours: messages of 1 kB from the outbox, as the
service sends them, until all are acknowledged. Against it, in turns and over the same connection: each message awaited
before the next one leaves, which no client that does so can beat.

In MQTT 5 a broker announces how many messages it takes unacknowledged, and nobody can have more under way: with
Mosquitto's own 20 the ratio stays below 20 whatever a client does. So the target is for a Mosquitto that is told to
take as many as we have under way, and for 3.1.1, which announces nothing; a third figure says what the 20 leave.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from grapevine_agent.net.events import Connected
from grapevine_agent.net.outbox import MAX_UNDER_WAY, Outbox
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_agent.service.answers import Answers
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.sealing import Sealing
from grapevine_agent.service.sending import Sending
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.bench.delay import delayed
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.simulator.keys import Holder, Numbering
from grapevine_proto.roots import DEFAULT_ROOT
from grapevine_proto.signing import SigningKey

NAME = "sends_to_a_far_broker"
TARGET = Target(limit=20.0, at_most=False)
ONE_WAY_S = 0.05
NUM_TURNS = 5
NUM_OURS = 250  # below what an outbox holds
NUM_ONE_BY_ONE = 10
PAYLOAD = bytes(1_000)
TOPIC = "grapevine-bench/far"
ANSWER_S = 60.0

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure it; about half a minute."""
    found: list[Figure] = []
    for version, takes, target in (("5", MAX_UNDER_WAY, TARGET), ("3.1.1", 20, TARGET), ("5", 20, None)):
        where = f"MQTT {version}, {takes} announced" if version == "5" else f"MQTT {version}"
        say(f"{where}: {NUM_TURNS} times {NUM_OURS} messages, and {NUM_ONE_BY_ONE} one by one")
        with MosquittoBroker(max_in_flight=takes) as broker, delayed(broker.port, ONE_WAY_S) as port:
            found += asyncio.run(_measure(f"mqtt://127.0.0.1:{port}?version={version}", where, target))
    return found


async def _measure(url: str, where: str, target: Target | None) -> list[Figure]:
    ours: list[float] = []
    alone: list[float] = []
    async with _sending(url) as (transport, outbox, sending):
        for _ in range(NUM_TURNS):
            ours.append(await _from_the_outbox(outbox, sending))
            alone.append(await _one_by_one(transport))
    ratios = [fast / slow for fast, slow in zip(ours, alone, strict=True)]
    return [
        figure(NAME, f"sends a second at 100 ms, {where} / one at a time", ratios, target=target),
        figure(NAME, f"sends a second at 100 ms, {where}", ours, unit="/s"),
        figure(NAME, f"one at a time, {where}", alone, unit="/s"),
    ]


async def _from_the_outbox(outbox: Outbox, sending: Sending) -> float:
    """Messages a second, until the last one is acknowledged."""
    began_s = time.monotonic()
    for _ in range(NUM_OURS):
        outbox.enqueue(TOPIC, PAYLOAD, deadline_s=clock.now().monotonic_s + ANSWER_S)
    sending.wake()
    async with asyncio.timeout(ANSWER_S):
        while len(outbox):
            await asyncio.sleep(0.001)
    assert not outbox.num_dropped
    return NUM_OURS / (time.monotonic() - began_s)


async def _one_by_one(transport: Transport) -> float:
    began_s = time.monotonic()
    for _ in range(NUM_ONE_BY_ONE):
        await transport.publish(TOPIC, PAYLOAD)
    return NUM_ONE_BY_ONE / (time.monotonic() - began_s)


@asynccontextmanager
async def _sending(url: str) -> AsyncIterator[tuple[Transport, Outbox, Sending]]:
    """What the service sends with, connected."""
    transport, outbox = Transport([BrokerUrl.parse(url)], client_id="grapevine-bench-far"), Outbox()
    sealing = Sealing(Sealer(Holder(SigningKey.generate()), Numbering()), Beside())
    answers = Answers(outbox=outbox, get_blob=_no_blob, sealing=sealing, root=DEFAULT_ROOT)
    sending = Sending(outbox=outbox, transport=transport, answers=answers, sealing=sealing)
    tasks = [asyncio.create_task(transport.run()), asyncio.create_task(sending.run())]
    try:
        async for event in transport.events():
            if isinstance(event, Connected):
                sending.connected(event.max_in_flight)
                break
        yield transport, outbox, sending
    finally:
        await transport.disconnect()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _no_blob(_digest: str) -> bytes | None:
    return None
