"""Thirty agents at three brokers: brokers are killed, sites are parted, and all of it heals."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker import RunningBroker, start_broker
from grapevine_lab.overlay.here import agent_here, until
from grapevine_proto.topics import TaskTopic

HEARTBEAT_S = 2.0  # thirty services share a loop here
NUM_AGENTS, NUM_BROKERS, NUM_GATEWAYS = 30, 3, 2
pytestmark = [pytest.mark.mosquitto]


class Sites:
    """The agents; the first of them are gateways between all brokers."""

    def __init__(self, brokers: list[RunningBroker], agents: list[AgentService]) -> None:
        self.brokers, self.agents = brokers, agents
        self.said: list[TaskTopic] = []

    def of(self, broker: int) -> list[AgentService]:
        return [each for k, each in enumerate(self.agents) if k >= NUM_GATEWAYS and k % NUM_BROKERS == broker]

    def say(self, author: AgentService) -> TaskTopic:
        task = f"{len(self.said) + 1:064x}"
        until_ms = clock.now().wall_ms + 3_600_000
        author.perform(author.core.review(task, approved=True, reason="", valid_until_ms=until_ms))
        self.said.append(TaskTopic(author.identity.peer_id, task, "review"))
        return self.said[-1]

    def know(self, agents: list[AgentService]) -> bool:
        return all(each.core.records.get(topic) is not None for each in agents for topic in self.said)

    async def see(self, agents: list[AgentService], *, within_s: float = 90.0) -> None:
        """Wait until each of these has counted on each other one: not all at one moment, the machine may be slow."""
        pairs = {(each.identity.peer_id, other.identity.peer_id) for each in agents for other in agents}
        missing = {(one, other) for one, other in pairs if one != other}
        of = {each.identity.peer_id: each for each in agents}

        def all_seen() -> bool:
            now_s = clock.now().monotonic_s
            missing.difference_update([p for p in missing if of[p[0]].core.members.is_alive(p[1], now_s)])
            return not missing

        await until(all_seen, within_s=within_s)


@pytest.mark.timeout(400)
async def test_brokers_are_killed_and_sites_are_parted_and_all_of_it_heals(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        brokers = [stack.enter_context(start_broker("mosquitto")) for _ in range(NUM_BROKERS)]
        agents = []
        for number in range(NUM_AGENTS):
            is_gateway = number < NUM_GATEWAYS
            urls = [each.url for each in brokers] if is_gateway else [brokers[number % NUM_BROKERS].url]
            agent = agent_here(tmp_path / str(number), urls, heartbeat_s=HEARTBEAT_S, is_gateway=is_gateway)
            agents.append(await stack.enter_async_context(agent))
        sites = Sites(brokers, agents)
        await sites.see(agents)

        for broker in range(NUM_BROKERS):
            sites.say(sites.of(broker)[0])
        await until(lambda: sites.know(agents), within_s=15.0)

        # One broker is away: its site is alone, the others go on.
        brokers[0].kill()
        there = [each for each in agents if each not in sites.of(0)]
        cut_off = [*agents[:NUM_GATEWAYS], *sites.of(0)]
        await until(lambda: not any(each.attachments[0].is_connected for each in cut_off), within_s=20.0)
        sites.say(sites.of(1)[1])
        sites.say(sites.of(0)[1])  # nobody hears it yet
        alone = sites.said.pop()
        await until(lambda: sites.know(there), within_s=15.0)
        await sites.see(there)
        assert not sites.know(sites.of(0))
        brokers[0].start()  # with an empty memory
        sites.said.append(alone)
        await until(lambda: sites.know(agents), within_s=40.0)
        await sites.see(agents)

        # All gateways are away: three sites for themselves, until one is back.
        for each in agents[:NUM_GATEWAYS]:
            for attachment in each.attachments:
                attachment.transport._backoff_s = (600.0, 900.0)
                connection = attachment.transport._connection
                assert connection is not None
                await connection.abort()
        for broker in range(NUM_BROKERS):
            sites.say(sites.of(broker)[2])
        await until(lambda: all(each.core.records.get(sites.said[-1]) for each in sites.of(NUM_BROKERS - 1)))
        await asyncio.sleep(3.0)
        assert sites.of(0)[0].core.records.get(sites.said[-1]) is None
        back = agent_here(tmp_path / "back", [each.url for each in brokers], heartbeat_s=HEARTBEAT_S, is_gateway=True)
        await stack.enter_async_context(back)
        everybody = agents[NUM_GATEWAYS:]
        await until(lambda: sites.know(everybody), within_s=40.0)
        await sites.see(everybody)

        # Nothing is held twice, and nothing that nobody has said.
        held = [
            {record.topic for record in each.core.records if isinstance(record.topic, TaskTopic)} for each in everybody
        ]
        assert all(each == set(sites.said) for each in held)
