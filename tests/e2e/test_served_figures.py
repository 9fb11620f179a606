"""What a server tells Prometheus and its owner, asked at its real endpoint while members send it their models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.ports import free_port

from grapevine_agent.cli.serving import served_line
from grapevine_agent.config.metrics import MetricsConfig
from grapevine_agent.core.effects import Publish
from grapevine_agent.core.settings import DeviceLimits, ReviewPolicy
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.metrics.endpoint import Endpoint
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.bench.loop_member import REVIEWER, tell
from grapevine_lab.overlay.here import PlayedTraining, agent_here, until
from grapevine_lab.overlay.staleness import task as played_task
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from grapevine_agent.service.metrics.families import render

NUM_MEMBERS = 2


@asynccontextmanager
async def swarm(folder: Path) -> AsyncIterator[tuple[AgentService, list[AgentService], str]]:
    """A server, members that send it their models, and the task that they learn."""
    key = SigningKey.generate()
    manifest, weights = played_task("every-round")
    manifest = replace(manifest, servers=(key.peer_id,))
    async with AsyncExitStack() as stack:
        url = stack.enter_context(start_broker("embedded")).url
        services: list[AgentService] = []
        for number in range(1 + NUM_MEMBERS):
            agent = agent_here(
                folder / str(number),
                [url],
                key=SigningKey.generate() if number else key,
                trainers=PlayedTraining(0.05, number),
                role="member" if number else "server",
                review=ReviewPolicy(approvals=1, trusted=frozenset((REVIEWER.peer_id,)), max_valid_days=36_500.0),
                limits=DeviceLimits(cores=4, memory_mb=4_000, disk_mb=4_000),
                match_data=lambda _task, _head: "",
                heartbeat_s=0.5,
                server_heartbeat_s=0.2,
            )
            services.append(await stack.enter_async_context(agent))
            services[-1].store.put_blob(weights)
        for each in services:
            await tell(each, manifest)
        yield services[0], services[1:], task_id(encode_manifest(manifest))


async def page(port: int) -> dict[str, float]:
    """The samples of `grapevine_server_…`, by the rest of their names, and the reason where they have one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = (await asyncio.wait_for(reader.read(), 30)).decode()
    writer.close()
    return {
        " ".join((sample.name.removeprefix("grapevine_server_"), *filter(None, (sample.labels.get("reason"),)))): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.partition("\r\n\r\n")[2])
        for sample in family.samples
        if sample.name.startswith("grapevine_server_")
    }


async def test_a_server_tells_prometheus_and_its_owner_what_it_folds_in_and_what_it_refuses(tmp_path: Path) -> None:
    async with swarm(tmp_path) as (server, members, task):
        await until(lambda: task in server.core.tasks.aggregating)
        aggregating = server.core.tasks.aggregating[task]
        await until(lambda: len(aggregating.contributors) == NUM_MEMBERS)

        misfit = ModelUpdate(
            task=task, window=1 << 20, version=1 << 20, age=1, experience=1, samples=1, full=np.zeros(3, np.float32)
        )
        sender = members[0]
        topic = InboxTopic(server.identity.peer_id, sender.identity.peer_id)
        session = sender.core.members.session_of(server.identity.peer_id)
        await sender.turns.take(lambda: [Publish(topic=topic, body=misfit, receiver_session=session)])
        await until(lambda: server.rejected["wrong-shape"] == 1)

        config = MetricsConfig(port=free_port())
        endpoint = Endpoint(
            config=config, look=lambda: server.turns.look(server.figures), version="0.1.0", render=render
        )
        asking = asyncio.create_task(endpoint.run())
        try:
            await until(lambda: endpoint.is_listening, running=asking)
            told = await page(config.port)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        assert told["members"] == NUM_MEMBERS
        assert told["clusters"] == 1
        assert 1 <= told["model_version"] <= aggregating.model_version
        assert NUM_MEMBERS <= told["updates_folded_total"] <= aggregating.num_merged
        assert told["updates_refused_total wrong-shape"] == 1
        assert told["held_bytes"] >= aggregating.model.parameters.nbytes
        assert 0 <= told["since_published_seconds"] < 60

        status = await Requests(server).answer({"method": "status"})
        (line,) = (each for each in status["tasks"] if each["id"] == task)
        said = served_line(line)
        assert "of 2 members, published" in said
        assert "1 refused (1 wrong-shape)" in said
