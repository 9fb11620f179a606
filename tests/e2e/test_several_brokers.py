"""One agent at several brokers: records spread by themselves, presence is of each, and no broker is the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from paho.mqtt import publish
from tests.e2e.agents import agent, agents, say, status

from grapevine_agent.cli.owner_commands import _describe
from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.ways import NO_WAY
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker import RunningBroker, start_broker
from grapevine_lab.overlay.here import until
from grapevine_proto import topics
from grapevine_proto.codec import with_hops
from grapevine_proto.messages import BlobRequest
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic

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
        reviewed(ada)
        await until(lambda: knows(bob, ada), within_s=15.0)
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
            transport._backoff_s = (6.0, 8.0)
            await connection.abort()  # the broker sends our will
            await until(lambda: not sees(carl, bob))
            seen.append(sees(ada, bob))
            await until(lambda: is_routed(ada, bob) == 1)
            await until(lambda: sees(carl, bob))
            seen.append(sees(ada, bob))
            assert seen == [True, True]


# --- gateways -------------------------------------------------------------------------------------

GATEWAY = "gateway = true"


def beats(service: AgentService, other: AgentService) -> bool:
    return service.core.members.is_member(other.identity.peer_id)


async def heard(service: AgentService, other: AgentService, sequence: int) -> None:
    """A message from the other one comes, which that one sends by the way that it knows."""
    topic = InboxTopic(service.identity.peer_id, other.identity.peer_id)
    body = BlobRequest(task=TASK, digest=f"{sequence:064x}")
    before = service.core.brokers.at(0).heard.get(other.identity.peer_id, 0.0)
    say(other, [fx.Publish(topic=topic, body=body, receiver_session=other.core.members.session_of(topic.receiver))])
    await until(lambda: service.core.brokers.at(0).heard.get(other.identity.peer_id, 0.0) > before)


async def test_a_gateway_makes_peers_known_and_carries_what_they_say(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    here, there = two[0].url, two[1].url
    async with agents(
        agent(tmp_path / "a", [here], ROOT),
        agent(tmp_path / "b", [there], ROOT),
        agent(tmp_path / "g", [here, there], ROOT, mqtt=GATEWAY),
    ) as (ada, bob, between):
        await until(lambda: beats(ada, bob) and beats(bob, ada))
        await heard(bob, ada, 1)
        await heard(ada, bob, 2)
        shown = await status(between)
        assert shown["gateway"]["known_at"] == {"0": 1, "1": 1}
        assert shown["gateway"]["messages"] > 4
        text = _describe(shown)
        assert f"connected to {here} (MQTT " in text
        assert "gateway: 2 peers made known" in text
        assert between.core.brokers.route(bob.identity.peer_id) == 1  # the nearer one
        peer = bob.identity.peer_id
        bob.stop()
        await until(lambda: not ada.core.members.peers[peer].online)


async def test_of_two_gateways_one_carries_and_the_other_when_it_goes(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    here, there = two[0].url, two[1].url
    async with (
        agents(agent(tmp_path / "a", [here], ROOT), agent(tmp_path / "b", [there], ROOT)) as (ada, bob),
        agent(tmp_path / "g", [here, there], ROOT, mqtt=GATEWAY) as one,
    ):
        async with agent(tmp_path / "h", [here, there], ROOT, mqtt=GATEWAY) as other:
            await until(lambda: beats(ada, bob) and beats(bob, ada) and beats(one, other) and beats(other, one))
            duties = [set(each.core.gateway._duties) for each in (one, other)]
            await until(
                lambda: (
                    len(one.core.gateway._duties) + len(other.core.gateway._duties) == 2
                    and not set(one.core.gateway._duties) & set(other.core.gateway._duties)
                )
            )
            assert all(len(each) <= 2 for each in duties)
            await heard(bob, ada, 3)
        await until(lambda: len(one.core.gateway._duties) == 2)
        await heard(bob, ada, 4)
        await heard(ada, bob, 5)


async def test_in_a_ring_of_gateways_nothing_goes_round(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    with start_broker("mosquitto") as third:
        urls = [two[0].url, two[1].url, third.url]
        async with agents(
            agent(tmp_path / "a", urls[:1], ROOT),
            agent(tmp_path / "b", urls[1:2], ROOT),
            *(agent(tmp_path / f"g{k}", [urls[k], urls[(k + 1) % 3]], ROOT, mqtt=GATEWAY) for k in range(3)),
        ) as (ada, bob, *gateways):
            await until(lambda: beats(ada, bob) and beats(bob, ada))
            await heard(bob, ada, 6)
            before = [each.forwarding.num_messages for each in gateways]
            await asyncio.sleep(4.0)
            carried = sum(each.forwarding.num_messages for each in gateways) - sum(before)
            # Five peers beat twice a second; of each heartbeat a copy is needed at each broker where its sender is not.
            assert carried < 5 * 2 * 4.0 * 2 * 1.5


@asynccontextmanager
async def met_over_a_gateway(
    two: tuple[RunningBroker, RunningBroker], folder: Path
) -> AsyncIterator[tuple[AgentService, AgentService, AgentService]]:
    """One agent at each broker and a gateway between, who hear of each other."""
    here, there = (each.url for each in two)
    async with agents(
        agent(folder / "a", [here], ROOT),
        agent(folder / "b", [there], ROOT),
        agent(folder / "g", [here, there], ROOT, mqtt=GATEWAY),
    ) as (ada, bob, between):
        await until(lambda: beats(ada, bob) and beats(bob, ada))
        yield ada, bob, between


async def test_a_state_that_somebody_repeats_as_if_it_were_nearer_costs_some_seconds(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    _, there = two
    async with met_over_a_gateway(two, tmp_path) as (ada, bob, between):
        peer, brokers = ada.identity.peer_id, between.core.brokers
        await until(lambda: brokers.at(1).online.get(peer) == 1)
        state = brokers.held(0, PeerTopic(peer, "state"))
        assert state is not None
        lie, url = bytes(with_hops(state.envelope, 0)), urlsplit(there.url)
        name = topics.build(ROOT, state.topic)
        await asyncio.to_thread(
            publish.single, name, lie, qos=1, retain=True, hostname=url.hostname or "", port=url.port or 1883
        )
        await until(lambda: brokers.at(1).online.get(peer) == 0)
        await until(lambda: any(duty.peer == peer for duty in between.core.gateway._duties), within_s=15.0)
        await heard(ada, bob, 7)
        await heard(bob, ada, 8)
        await until(lambda: brokers.hops(brokers.at(1), peer) == 1 or brokers.hops(brokers.at(1), peer) == NO_WAY)


async def test_a_gateway_that_loses_a_broker_says_whom_it_does_not_reach(
    two: tuple[RunningBroker, RunningBroker], tmp_path: Path
) -> None:
    here, _ = two
    async with met_over_a_gateway(two, tmp_path) as (ada, bob, between):
        peer = ada.identity.peer_id
        assert bob.core.brokers.at(0).online.get(peer) == 1
        here.kill()
        await until(lambda: peer not in bob.core.brokers.at(0).online)
        await until(lambda: not sees(bob, ada))
        here.start()
        await until(lambda: sees(bob, ada) and bob.core.brokers.at(0).online.get(peer) == 1)
        await heard(bob, ada, 9)
        assert not between.core.gateway.num_refused
