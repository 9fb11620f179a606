"""Agents in this process, over real brokers: for tests of the overlay, where nothing is trained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.core.effects import Effect
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.shell import AgentService
from grapevine_lab.overlay.here import until

DEADLINE_S = 60.0


@asynccontextmanager
async def agent(
    folder: Path,
    urls: Iterable[str],
    root: str,
    *,
    mqtt: str = "",
    extra: str = "",
    connect: str = "all",
    met: bool = True,
    own: str = "",
) -> AsyncIterator[AgentService]:
    """One that is connected to all of these brokers, in its own folder; `mqtt`, `own`: lines of `[mqtt]`, of `[agent]`.

    With `met` it is there once every broker has it.
    """
    config = _configured(folder, ", ".join(f'"{url}"' for url in urls), root, f"{mqtt}\n{extra}", connect, own)
    with assembled(config) as service:
        for each in service.attachments:
            each.transport._backoff_s = (0.05, 0.2)
        running = asyncio.create_task(service.run())
        try:
            await until(lambda: not met or all(each.is_connected for each in service.attachments), running=running)
            yield service
        finally:
            service.stop()
            await asyncio.wait_for(running, DEADLINE_S)


def _configured(folder: Path, brokers: str, root: str, more: str, connect: str, own: str) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "agent.toml"
    path.write_text(
        f'[agent]\nstate_dir = "{folder / "state"}"\n{own}\n'
        f'[mqtt]\nbrokers = [{brokers}]\nconnect = "{connect}"\nroot = "{root}"\n'
        f"heartbeat_s = 0.5\n{more}"
    )
    return load_config(path, {})


def say(service: AgentService, effects: Iterable[Effect]) -> None:
    """What an owner had the core say."""
    service.perform(effects)


async def status(service: AgentService) -> dict:  # type: ignore[type-arg]
    return await Requests(service).status()


@asynccontextmanager
async def agents(*each: object) -> AsyncIterator[list[AgentService]]:
    """Several of them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(one) for one in each]  # type: ignore[arg-type]
