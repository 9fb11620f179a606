"""One agent at several brokers: records spread by themselves, presence is of each, and no broker is the last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.agents import agent, agents, say, status, until

from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker import RunningBroker, start_broker
from grapevine_proto.topics import TaskTopic

ROOT = "several"
TASK = "ab" * 32


@pytest.fixture(params=[("mosquitto", "mosquitto"), ("embedded", "mosquitto")], ids="+".join)
def two(request: pytest.FixtureRequest) -> Iterator[tuple[RunningBroker, RunningBroker]]:
    one, other = request.param
    with start_broker(one) as first, start_broker(other) as second:
        yield first, second


pytestmark = [pytest.mark.mosquitto]


def reviewed(service: AgentService, task: str = TASK, reason: str = "well") -> None:
    until_ms = clock.now().wall_ms + 3_600_000
    say(service, service.core.review(task, approved=True, reason=reason, valid_until_ms=until_ms))


def knows(service: AgentService, author: AgentService, task: str = TASK) -> bool:
    return service.core.records.get(TaskTopic(author.identity.peer_id, task, "review")) is not None


def sees(service: AgentService, other: AgentService) -> bool:
    peer = service.core.members.peers.get(other.identity.peer_id)
    return peer is not None and peer.online


def is_routed(service: AgentService, other: AgentService) -> int | None:
    return service.core.brokers.route(other.identity.peer_id)


async def test_a_record_is_known_at_the_other_broker_within_seconds(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    here, there = two[0].url, two[1].url
    async with agents(
        agent(tmp_path / "a", [here], ROOT),
        agent(tmp_path / "b", [there], ROOT),
        agent(tmp_path / "g", [here, there], ROOT),
    ) as (ada, bob, between):
        await asyncio.sleep(9.0)  # what brokers retain has come
        began_s = asyncio.get_running_loop().time()
        reviewed(ada)
        await until(lambda: knows(bob, ada))
        assert asyncio.get_running_loop().time() - began_s < 3.0
        assert knows(between, ada)
        assert not sees(bob, ada)  # presence is of a broker


async def test_who_is_met_at_two_brokers_is_there_while_one_of_them_is(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    here, there = two
    async with agents(
        agent(tmp_path / "a", [here.url, there.url], ROOT),
        agent(tmp_path / "b", [here.url, there.url], ROOT),
        agent(tmp_path / "c", [here.url], ROOT),
    ) as (ada, bob, carl):
        await until(lambda: sees(ada, bob) and sees(bob, ada) and sees(carl, ada) and sees(ada, carl))
        session = ada.core.members.session_of(bob.identity.peer_id)
        here.kill()
        await until(lambda: not ada.attachments[0].is_connected and not bob.attachments[0].is_connected)
        await until(lambda: is_routed(ada, bob) == 1 and is_routed(bob, ada) == 1)
        assert sees(ada, bob)
        assert sees(bob, ada)
        assert not sees(ada, carl)  # whom only that broker reached
        reviewed(ada)
        await until(lambda: knows(bob, ada))
        shown = await status(ada)
        assert [each["connected"] for each in shown["brokers"]] == [False, True]
        assert shown["connected"]
        assert shown["brokers"][1]["peers"] == 1
        here.start()
        await until(lambda: all(each.attachments[0].is_connected for each in (ada, bob, carl)))
        await until(lambda: sees(carl, ada) and sees(ada, carl) and knows(carl, ada))
        assert ada.core.members.session_of(bob.identity.peer_id) == session  # it never was away


async def test_a_will_at_one_broker_says_nothing_of_the_other(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    here, there = two
    async with agents(
        agent(tmp_path / "a", [here.url, there.url], ROOT),
        agent(tmp_path / "b", [here.url, there.url], ROOT),
        agent(tmp_path / "c", [here.url], ROOT),
    ) as (ada, bob, carl):
        await until(lambda: sees(ada, bob) and sees(carl, bob))
        for _ in range(2):
            transport, seen = bob.attachments[0].transport, []
            connection = transport._connection
            assert connection is not None
            transport._backoff_s = (3.0, 4.0)
            await connection.abort()  # the broker sends our will
            await until(lambda: not sees(carl, bob))
            seen.append(sees(ada, bob))
            await until(lambda: is_routed(ada, bob) == 1)
            await until(lambda: sees(carl, bob))
            seen.append(sees(ada, bob))
            assert seen == [True, True]
