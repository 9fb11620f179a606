"""Two agents with one key, as after copying a state folder: both are told. One alone never is."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.conftest import SharedBroker

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.double import TOLD

DEADLINE_S = 60.0


@asynccontextmanager
async def serving(folder: Path, url: str, root: str) -> AsyncIterator[Requests]:
    path = folder / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{folder / "state"}"\n[mqtt]\nbrokers = ["{url}"]\nroot = "{root}"\n')
    with assembled(load_config(path, {})) as service:
        service.attachments[0].transport._backoff_s = (0.05, 0.2)
        running = asyncio.create_task(service.run())
        try:
            await asyncio.wait_for(service.ready.wait(), DEADLINE_S)
            yield Requests(service)
        finally:
            service.stop()
            await asyncio.wait_for(running, DEADLINE_S)


async def test_both_of_two_agents_with_one_key_say_so(broker: SharedBroker, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    own = broker.url if "?" in broker.url else ""  # of a broker that speaks one version only
    for number, url in enumerate([own] if own else [f"{broker.url}?version=3.1.1", f"{broker.url}?version=5"]):
        root = f"double{number}"
        async with serving(one, url, root) as first:
            assert (await first.status())["trouble"] == ""
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(one, other)
        async with serving(one, url, root) as first, serving(other, url, root) as second, asyncio.timeout(DEADLINE_S):
            while not (await first.status())["trouble"] == (await second.status())["trouble"] == TOLD:
                await asyncio.sleep(0.05)


async def test_an_agent_that_is_lost_and_back_again_and_again_is_no_double(
    broker: SharedBroker, tmp_path: Path
) -> None:
    for _ in range(4):  # its own state, of sessions that an earlier process began, comes back
        async with serving(tmp_path, broker.url, "alone") as requests:
            service = requests._service
            for _ in range(4):
                connection = service.attachments[0].transport._connection
                assert connection is not None
                await connection.abort()  # the broker sends our will, and we hear it
                service.ready.clear()
                await asyncio.wait_for(service.ready.wait(), DEADLINE_S)
                await asyncio.sleep(0.2)
            assert (await requests.status())["trouble"] == ""
