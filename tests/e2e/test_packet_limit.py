"""A broker with a packet limit that it does not announce, as it is in MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Client
from tests.e2e.household import household, wait_for

from grapevine_agent.net.events import Connected, Disconnected, Trying
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("told", [False, True], ids=["learnt", "configured"])
def test_agents_learn_together_over_a_broker_that_closes_without_a_word(
    narrow: MosquittoBroker, tmp_path: Path, told: bool
) -> None:
    """The weights of the digits take 19 kB."""
    with household(tmp_path, f"{narrow.url}?version=3.1.1", "grapevine/v1") as home:
        engineer, *reviewers = (home.add(name) for name in ("engineer", "ada", "grace"))
        learners = [home.add(f"learner-{k}", digits=k, consent="auto", trusted=reviewers) for k in range(2)]
        for member in (engineer, *reviewers, *learners):
            if told:
                text = member.config.read_text()
                member.config.write_text(text.replace("heartbeat_s", f"max_packet_bytes = {BROKER_BYTES}\nheartbeat_s"))
            member.start()
        task = home.publish(engineer, home.built_task("narrow"))
        home.approve(task, *reviewers)
        for learner in learners:
            why = f"{learner.name} merges"
            wait_for(lambda learner=learner: learner.task(task).get("merges", 0) > 2, within_s=150.0, why=why)  # type: ignore[misc]
            assert learner.task(task)["in_chunks"] or not told
        if not told:
            assert "mqtt.max_packet_bytes" in engineer.ask("status").stdout


def test_status_says_what_an_announced_limit_means(narrow: MosquittoBroker, tmp_path: Path) -> None:
    with household(tmp_path, f"{narrow.url}?version=5", "grapevine/v1") as home:
        (member := home.add("ada")).start()
        wait_for(lambda: (member.status() or {}).get("connected"), why="a broker has it")
        status = member.status()
        assert status is not None
        assert status["brokers"][0]["max_packet_bytes"] == BROKER_BYTES
        assert "what is larger travels in chunks" in status["broker_cannot"][0]
        assert "takes no packets above 15,000 bytes" in member.ask("status").stdout
