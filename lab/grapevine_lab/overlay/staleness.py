"""Staleness among real agents: what each has of the others' updates, against Lemma 1 of the scale-robust paper."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from grapevine_agent.core.learning.gossip import staleness_bound
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.settings import DeviceLimits, ReviewPolicy
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.bench import floods
from grapevine_lab.bench.loop_member import PUBLISHER, REVIEWER, tell
from grapevine_lab.overlay.here import PlayedTraining, agent_here, until
from grapevine_proto.errors import GrapevineError
from grapevine_proto.manifest import MergePlan, TaskManifest
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import encode_weights, reference_to

HEARTBEAT_S: Final = 5.0
ROUND_S: Final = 0.05  # at least: training, which takes so long by chance, is what paces the rounds
TRAINING_S: Final = 4.0
WARM_UP_S: Final = 30.0
LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True)
class Staleness:
    """Mean over all pairs and looks, in versions, and Lemma 1's bound with the rates that were measured, in 1/s."""

    found: float
    bound: float
    update_rate: float
    send_rate: float


def task(send_rate: str) -> tuple[TaskManifest, bytes]:
    """A small task, and its initial weights."""
    program = floods.program()
    layout = ModelLayout.of(program)
    weights = encode_weights(layout, np.zeros(layout.num_parameters, np.float32), np.empty(0, np.float32))
    manifest = floods.manifest(
        PUBLISHER.peer_id,
        name=f"staleness, {send_rate}",
        program=program,
        initial_weights=reference_to(weights),
        merging=MergePlan(strategy="random-mix", send_rate=send_rate, sends_per_round=ROUND_S / TRAINING_S),
    )
    return replace(manifest, training=replace(manifest.training, round_interval_s=ROUND_S)), weights


async def measure_staleness(
    *, num_agents: int, send_rate: str, for_s: float, folder: Path, say: Callable[[str], None]
) -> Staleness:
    """Let agents learn at a policy of send rates, and look at all of them at once, every half second."""
    manifest, weights = task(send_rate)
    async with AsyncExitStack() as stack:
        url = stack.enter_context(start_broker("mosquitto")).url
        agents: list[AgentService] = []
        for number in range(num_agents):
            agent = agent_here(
                folder / str(number),
                [url],
                trainers=PlayedTraining(TRAINING_S, number),
                review=ReviewPolicy(approvals=1, trusted=frozenset((REVIEWER.peer_id,)), max_valid_days=36_500.0),
                limits=DeviceLimits(cores=4, memory_mb=4_000, disk_mb=4_000),
                match_data=lambda _task, _head: "",
                heartbeat_s=HEARTBEAT_S,
            )
            agents.append(await stack.enter_async_context(agent))
            agents[-1].store.put_blob(weights)
        for each in agents:
            await tell(each, manifest)
        name = task_id(encode_manifest(manifest))
        try:
            await until(lambda: all(_knows_all(each, name, num_agents) for each in agents), within_s=120.0)
        except TimeoutError:
            entry = agents[0].core.book.entries[name]
            raise GrapevineError(f"not all take part: {agents[0].core.why_not(entry, clock.now())}") from None
        say(f"{num_agents} agents learn, {send_rate}")
        await asyncio.sleep(WARM_UP_S)
        return await _look(agents, name, for_s)


async def _look(agents: list[AgentService], task: str, for_s: float) -> Staleness:
    def learners() -> dict[str, Learning]:
        return {each.identity.peer_id: each.core.tasks.learning[task] for each in agents}

    began_s = time.monotonic()
    before = {peer: (each.model.version, each.num_sent) for peer, each in learners().items()}
    lags: list[float] = []
    while time.monotonic() < began_s + for_s:
        await asyncio.sleep(LOOK_EVERY_S)
        now = learners()
        versions = {peer: each.model.version for peer, each in now.items()}
        for peer, each in now.items():
            lag = each.merging.sources.mean_staleness({other: versions[other] for other in versions if other != peer})
            lags.append(lag or 0.0)
    took_s, now = time.monotonic() - began_s, learners()
    updates = float(np.mean([each.model.version - before[peer][0] for peer, each in now.items()]) / took_s)
    sends = float(np.mean([each.num_sent - before[peer][1] for peer, each in now.items()]) / took_s)
    bound = staleness_bound(num_members=len(agents), update_rate=updates, send_rate=sends)
    return Staleness(found=float(np.mean(lags)), bound=bound, update_rate=updates, send_rate=sends)


def _knows_all(service: AgentService, task: str, num_agents: int) -> bool:
    learner = service.core.tasks.learning.get(task)
    return learner is not None and len(learner.targets(clock.now())) == num_agents - 1
