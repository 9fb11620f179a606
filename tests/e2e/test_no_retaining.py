"""A broker that is told to retain nothing: in MQTT 5 it says so, and in 3.1.1 it closes the connection."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Client, Connect
from tests.e2e.household import household, wait_for

from grapevine_agent.net.events import Connected, Disconnected, Trying, Will
from grapevine_broker.mosquitto import MosquittoBroker

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(300)]
RETAINS_NOTHING = "retain_available false"
WILL = Will(topic="gone", payload=b"it was lost")


@pytest.fixture
def forgetful() -> Iterator[MosquittoBroker]:
    with MosquittoBroker(more_config=RETAINS_NOTHING) as broker:
        yield broker


@pytest.mark.parametrize("version", ["5", "auto"])
async def test_what_is_to_be_retained_reaches_whoever_is_there(
    forgetful: MosquittoBroker, connect: Connect, version: str
) -> None:
    listener = await connect(forgetful.url, subscribe=("kept", "gone"))
    client: Client = await connect(forgetful.url, will=lambda: WILL, version=version)
    for word in (b"one", b"two"):
        await client.transport.publish("kept", word, retain=True)
        arrived = await listener.arrival("kept")
        assert (arrived.payload, arrived.retained) == (word, False)
    later = await connect(forgetful.url, subscribe=("kept",))
    await asyncio.sleep(0.3)
    for each in (client, later):
        await each.transport.disconnect()
        assert [type(event) for event in await each.rest()] == [Disconnected], "nothing came, and it was not lost"


async def test_the_will_is_said_all_the_same(forgetful: MosquittoBroker, connect: Connect) -> None:
    listener = await connect(forgetful.url, subscribe=("gone",))
    client = await connect(forgetful.url, will=lambda: WILL)
    client.task.cancel()
    assert (await listener.arrival("gone")).payload == WILL.payload
    with pytest.raises(asyncio.CancelledError):
        await client.task
    client.task = asyncio.create_task(asyncio.sleep(0))


async def test_a_broker_that_retains_again_is_asked_to(connect: Connect) -> None:
    with MosquittoBroker(more_config=RETAINS_NOTHING) as broker:
        client = await connect(broker.url, will=lambda: WILL)
        port = broker.port
    with MosquittoBroker(port=port) as broker:
        await client.next(Connected)
        await client.transport.publish("kept", b"one", retain=True)
        later = await connect(broker.url, subscribe=("kept",))
        assert (await later.arrival("kept")).retained


async def test_in_3_1_1_the_owner_is_told_what_it_may_be(forgetful: MosquittoBroker, connect: Connect) -> None:
    client = await connect(f"{forgetful.url}?version=3.1.1", will=lambda: WILL, wait=False)
    assert "Mosquitto: retain_available true" in (await client.next(Trying)).reason


def test_a_learner_that_comes_later_hears_of_the_task_from_peers(forgetful: MosquittoBroker, tmp_path: Path) -> None:
    with household(tmp_path, forgetful.url, f"test/{secrets.token_hex(4)}") as home:
        engineer, *reviewers = (home.add(each) for each in ("engineer", "ada", "grace"))
        for each in (engineer, *reviewers):
            each.start()
        task = home.publish(engineer, home.built_task("Late"))
        home.approve(task, *reviewers)
        learner = home.add("learner", digits=0, consent="auto", trusted=reviewers)
        learner.start()
        wait_for(lambda: learner.task(task).get("age", 0) > 0, within_s=120, why="the learner trains")
        assert "records are asked of peers" in (learner.status() or {})["broker_cannot"][0]
        assert learner.log().count("lost mqtt://") == 0
