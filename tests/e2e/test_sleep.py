"""Sleep on a real broker: the state that is said, the connection that ends, and what comes after it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.e2e.agents import agent, agents, say, status
from tests.e2e.household import Member, household, wait_for

from grapevine_agent.net.events import Arrived, Connected, Disconnected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.overlay.here import until

pytestmark = pytest.mark.mosquitto

SHORT = "online_s = 4\nevery_s = 12"


async def test_an_agent_sleeps_says_so_and_is_back(tmp_path: Path) -> None:
    with start_broker("mosquitto") as broker:
        async with agents(
            agent(tmp_path / "a", [broker.url], "sleep1"),
            agent(tmp_path / "b", [broker.url], "sleep1", mqtt=SHORT, connect="first"),
        ) as (ada, bob):
            members, peer = ada.core.members, bob.identity.peer_id
            await until(lambda: members.is_alive(peer, time.monotonic()), within_s=10.0)
            await until(lambda: _sleeps_for(bob, 5.0), within_s=30.0)  # its first sleep may be short
            session = members.session_of(peer)
            await until(lambda: peer in members.sleepers, within_s=2.0)
            await until(lambda: not any(each.is_connected for each in bob.attachments), within_s=2.0)
            shown = await status(bob)
            assert shown["sleep"]["asleep"]
            assert 0 < shown["sleep"]["until_ms"] - time.time() * 1000 <= 12_000
            assert shown["trouble"] == ""
            assert (await status(ada))["peers"]["asleep"] == 1
            reviewed = "ab" * 32
            say(
                ada, ada.core.review(reviewed, approved=True, reason="", valid_until_ms=int(time.time() * 1000) + 10**9)
            )
            await asyncio.sleep(3.0)  # several times as long as a peer may be silent here
            assert peer in members.sleepers
            assert not members.suspicion.suspects
            assert not _knows(bob, reviewed)
            await until(lambda: members.is_alive(peer, time.monotonic()), within_s=15.0)
            assert peer not in members.sleepers
            assert members.session_of(peer) > session
            assert not (await status(bob))["sleep"]["asleep"]
            await until(lambda: _knows(bob, reviewed), within_s=5.0)


def _sleeps_for(service: AgentService, seconds: float) -> bool:
    """Whether it sleeps, for so long from now at least."""
    return service.core.sleep.until_ms / 1000 - time.time() > seconds


def _knows(service: AgentService, task: str) -> bool:
    """Whether it has heard of a review of a task."""
    return any(task in received.topic.below_root() for received in service.core.records)


async def test_one_that_is_stopped_while_it_sleeps_ends_at_once(tmp_path: Path) -> None:
    with start_broker("mosquitto") as broker:
        async with agent(tmp_path / "a", [broker.url], "sleep2", mqtt="online_s = 1\nevery_s = 60") as ada:
            await until(lambda: ada.core.sleep.is_asleep and not any(e.is_connected for e in ada.attachments))
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 5.0


async def test_one_at_two_brokers_sleeps_and_wakes_at_both(tmp_path: Path) -> None:
    with start_broker("mosquitto") as first, start_broker("mosquitto") as second:
        urls = [first.url, second.url]
        async with agents(agent(tmp_path / "a", urls, "sleep3"), agent(tmp_path / "b", urls, "sleep3", mqtt=SHORT)) as (
            ada,
            bob,
        ):
            members, peer = ada.core.members, bob.identity.peer_id
            await until(lambda: members.is_alive(peer, time.monotonic()), within_s=10.0)
            await until(lambda: peer in members.sleepers, within_s=15.0)
            await until(lambda: not any(each.is_connected for each in bob.attachments), within_s=5.0)
            assert not members.is_alive(peer, time.monotonic())
            await until(lambda: all(each.is_connected for each in bob.attachments), within_s=15.0)
            await until(lambda: members.is_alive(peer, time.monotonic()), within_s=5.0)


async def test_a_transport_rests_without_its_will_and_resumes_with_its_subscriptions() -> None:
    with start_broker("mosquitto") as broker:
        url = BrokerUrl.parse(broker.url)
        transport = Transport([url], client_id="rests", backoff_s=(0.05, 0.2))
        running, events = asyncio.create_task(transport.run()), transport.events()
        await transport.subscribe(("rests/#", 1))
        assert isinstance(await anext(events), Connected)
        await transport.rest()
        assert transport.connected_to is None
        assert isinstance(await anext(events), Disconnected)
        await asyncio.sleep(0.5)
        assert transport.connected_to is None
        transport.resume()
        assert isinstance(await anext(events), Connected)
        await transport.publish("rests/here", b"again")
        assert isinstance(await anext(events), Arrived)
        await transport.rest()
        await transport.disconnect()
        await asyncio.wait_for(running, 5.0)


def sleeps(member: Member) -> bool:
    status = member.status()
    return status is not None and bool(status["sleep"]["asleep"])


def test_a_process_that_slept_has_the_newest_model_and_its_owner_is_told(tmp_path: Path) -> None:
    with start_broker("mosquitto") as broker, household(tmp_path, broker.url, "sleep4") as home:
        engineer, *reviewers = (home.add(name) for name in ("engineer", "reviewer-1", "reviewer-2"))
        awake = home.add("awake", digits=0, consent="auto", trusted=list(reviewers))
        sleeper = home.add("sleeper", digits=1, consent="auto", trusted=list(reviewers))
        text = sleeper.config.read_text()
        sleeper.config.write_text(text.replace("heartbeat_s = 0.5", "heartbeat_s = 0.5\nonline_s = 15\nevery_s = 30"))
        for member in (engineer, *reviewers, awake, sleeper):
            member.start()
        task = home.publish(engineer, home.built_task("digits"))
        home.approve(task, *reviewers)
        wait_for(lambda: sleeper.task(task).get("merges", 0) > 0, why="the sleeper takes part")
        wait_for(lambda: sleeps(sleeper), why="it sleeps")
        assert "asleep until" in sleeper.ask("status").stdout
        merges, rounds = sleeper.task(task)["merges"], sleeper.task(task)["round"]
        wait_for(lambda: awake.task(task)["peers"] == 0, within_s=5.0, why="nobody is sent to")
        wait_for(lambda: not sleeps(sleeper), why="it wakes")
        wait_for(lambda: sleeper.task(task)["merges"] > merges, within_s=12.0, why="the newest model is there")
        assert sleeper.task(task)["round"] > rounds
        wait_for(lambda: awake.task(task)["peers"] == 1, within_s=12.0)
        assert "WARNING" not in "\n".join(line for line in sleeper.log().splitlines() if "lost " in line)
