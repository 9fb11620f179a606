"""A broker with a packet limit that it does not announce, as it is in MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import Client

from grapevine_agent.net import Connected, Disconnected, Trying
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_proto.errors import BrokerError

BROKER_BYTES = 15_000
pytestmark = [pytest.mark.mosquitto]


@pytest.fixture
def narrow() -> Iterator[MosquittoBroker]:
    with MosquittoBroker(max_packet_bytes=BROKER_BYTES) as broker:
        yield broker


async def test_the_limit_of_a_broker_that_closes_without_a_word_is_found(narrow: MosquittoBroker, connect: Any) -> None:
    client: Client = await connect(f"{narrow.url}?version=3.1.1", max_packet_bytes=200_000)
    num_lost = 0
    while (size := client.transport.max_packet_bytes) > BROKER_BYTES:
        with contextlib.suppress(BrokerError):
            await client.transport.publish("large", bytes(size - 100))
        await client.next(Disconnected)
        taken_in = await client.next(Connected)
        num_lost += 1
        assert num_lost < 20
    assert num_lost >= 2 * 4  # 200,000 is halved four times; where nothing had left yet, nothing is learnt
    assert taken_in.max_packet_bytes == client.transport.max_packet_bytes == 12_500
    assert taken_in.has_learnt_limit
    await client.transport.publish("large", bytes(12_000))
    with pytest.raises(BrokerError, match="a packet of 20015 bytes on large exceeds 12500"):
        await client.transport.publish("large", bytes(20_000))


async def test_a_broker_that_is_killed_twice_under_something_large_teaches_nothing(connect: Any) -> None:
    with MosquittoBroker() as broker:
        client: Client = await connect(f"{broker.url}?version=3.1.1", answer_s=60.0)
        for _ in range(3):
            lost = [asyncio.create_task(client.transport.publish("large", bytes(900_000))) for _ in range(20)]
            await asyncio.sleep(0)  # all of it is on its way
            broker.kill()
            await asyncio.gather(*lost, return_exceptions=True)
            await client.next(Disconnected)
            await client.next(Trying)
            broker.start()
            assert not (await client.next(Connected)).has_learnt_limit
        assert client.transport.max_packet_bytes == 1_000_000


async def test_a_broker_of_mqtt_5_says_what_it_takes(narrow: MosquittoBroker, connect: Any) -> None:
    client: Client = await connect(f"{narrow.url}?version=5")
    assert client.transport.max_packet_bytes == BROKER_BYTES
