"""Sleep on a real broker: the state that is said, the connection that ends, and what comes after it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agents import agent, agents, say, status

from grapevine_agent.cli.owner_commands import _describe
from grapevine_agent.cli.peer_commands import _state
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import DeviceLimits, ReviewPolicy, SleepPlan
from grapevine_agent.net.events import Arrived, Connected, Disconnected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.requests.peers import PeerRequests
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.bench.loop_member import REVIEWER, tell
from grapevine_lab.overlay.here import PlayedTraining, agent_here, until
from grapevine_lab.overlay.staleness import task
from grapevine_proto.manifest_codec import encode_manifest, task_id

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
            assert "asleep until" in _describe(shown)
            assert "connected for 4 s of every 12 s" in _describe(shown)
            others = await status(ada)
            assert others["peers"]["asleep"] == 1
            assert others["sleep"] is None
            assert "0 alive, 1 asleep of" in _describe(others)
            assert [_state(each) for each in PeerRequests(ada).peers()["peers"]] == ["asleep"]
            assert shown["peers"]["alive"] == 0
            assert PeerRequests(bob).peers()["asleep"]
            assert [_state(each) for each in PeerRequests(bob).peers()["peers"]] == ["away"]
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


async def test_who_slept_has_the_newest_model_at_once_and_others_have_what_it_made(tmp_path: Path) -> None:
    manifest, weights = task("log-n")
    rarely = replace(manifest.merging, sends_per_round=1e-5)  # gossip alone would take an hour
    manifest = replace(manifest, merging=rarely)
    name = task_id(encode_manifest(manifest))
    own: dict[str, Any] = {
        "review": ReviewPolicy(approvals=1, trusted=frozenset((REVIEWER.peer_id,)), max_valid_days=36_500.0),
        "limits": DeviceLimits(cores=4, memory_mb=4_000, disk_mb=4_000),
        "match_data": lambda _task, _head: "",
        "heartbeat_s": 0.5,
        "root": "sleep4",
    }
    plan = SleepPlan(online_s=5.0, every_s=14.0)
    with start_broker("mosquitto") as broker:
        async with agents(
            agent_here(tmp_path / "a", [broker.url], trainers=PlayedTraining(0.2, 1), **own),
            agent_here(tmp_path / "b", [broker.url], trainers=PlayedTraining(0.2, 2), sleep=plan, **own),
        ) as (awake, sleeper):
            for each in (awake, sleeper):
                each.store.put_blob(weights)
                await tell(each, manifest)

            def learner(service: AgentService) -> Learning:
                return service.core.tasks.learning[name]

            await until(lambda: all(name in each.core.tasks.learning for each in (awake, sleeper)), within_s=10.0)
            await until(lambda: _sleeps_for(sleeper, 6.0), within_s=40.0)
            peer = sleeper.identity.peer_id
            await until(lambda: peer in awake.core.members.sleepers, within_s=2.0)
            sent, made = learner(awake).num_sent, learner(sleeper).model.version
            await asyncio.sleep(3.0)
            assert learner(awake).num_sent == sent
            assert learner(sleeper).model.version > made, "it trains"
            newest = learner(awake).model.version
            versions = learner(sleeper).merging.sources.versions
            await until(lambda: versions.get(awake.identity.peer_id, 0) >= newest, within_s=10.0)
            assert not sleeper.core.sleep.is_asleep
            assert learner(awake).num_sent == sent + 1
            theirs = learner(awake).merging.sources.versions
            await until(lambda: theirs.get(peer, 0) > made, within_s=4.0)
