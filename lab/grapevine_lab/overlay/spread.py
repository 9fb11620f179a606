"""How long a record takes to reach every agent: over one broker, or over several that share some agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.overlay.here import agent_here, until
from grapevine_proto.topics import TaskTopic

SETTLES_S: Final = 12.0  # brokers have sent what they retain
AT_ALL: Final = 2  # agents that are at every broker
HEARTBEAT_S: Final = 5.0


@dataclass(frozen=True)
class Spread:
    """Seconds from the publisher's word until each agent held the record: of all agents and all records."""

    median_s: float
    p95_s: float
    last_s: float


async def measure_spread(
    *, num_agents: int, num_brokers: int, num_records: int, folder: Path, say: Callable[[str], None]
) -> Spread:
    """Publish records one after the other, each by an agent of another broker."""
    async with AsyncExitStack() as stack:
        urls = [stack.enter_context(start_broker("mosquitto")).url for _ in range(num_brokers)]
        agents: list[AgentService] = []
        for number in range(num_agents):
            own = urls if number < AT_ALL else [urls[number % num_brokers]]
            agent = agent_here(folder / str(number), own, heartbeat_s=HEARTBEAT_S)
            agents.append(await stack.enter_async_context(agent))
        say(f"{num_agents} agents at {num_brokers} brokers")
        await asyncio.sleep(SETTLES_S)
        took: list[float] = []
        for number in range(num_records):
            took += await _publish(agents[AT_ALL + number], agents, f"{number + 1:064x}")
        return Spread(*np.percentile(took, [50, 95, 100]))


async def _publish(author: AgentService, agents: list[AgentService], task: str) -> list[float]:
    topic = TaskTopic(author.identity.peer_id, task, "review")
    waiting = [each for each in agents if each is not author]
    until_ms = clock.now().wall_ms + 3_600_000
    began_s = time.monotonic()
    author.perform(author.core.review(task, approved=True, reason="", valid_until_ms=until_ms))
    took: list[float] = []

    def all_have_it() -> bool:
        now_s = time.monotonic()
        has = [each for each in waiting if each.core.records.get(topic) is not None]
        took.extend([now_s - began_s] * len(has))
        waiting[:] = [each for each in waiting if each not in has]
        return not waiting

    await until(all_have_it)
    return took
