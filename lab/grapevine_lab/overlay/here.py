"""Real services in this process: each with its own connections, store and core; only training is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core import effects as fx
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.identity import Identity
from grapevine_agent.net.events import Will
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.store import Store
from grapevine_lab.bench.trainers_here import Done, TrainersHere
from grapevine_proto.signing import SigningKey

ROOT = "grapevine-lab/overlay"
PACKET_BYTES = 1_000_000
BACKOFF_S = (0.05, 0.5)


class PlayedTraining(TrainersHere):
    """Trainers that wait for as long as an exponential says, and change nothing: what is measured is who knows what.

    `mean_s`: seconds. The model is moved by a little, or nothing would be news.
    """

    def __init__(self, mean_s: float, seed: int) -> None:
        super().__init__()
        self._mean_s = mean_s
        self._rng = np.random.default_rng(seed)

    def take(self, effect: fx.Effect, done: Done) -> None:
        """As `Trainers.take`."""
        match effect:
            case fx.Train():
                self.begin(self._train(effect, done))
            case fx.Evaluate(task=task, round=number):
                evaluated = fx.Evaluated(task=task, round=number, loss=1.0, metric=0.5, num_evaluated=100)
                asyncio.get_running_loop().call_soon(done, evaluated)

    async def _train(self, asked: fx.Train, done: Done) -> None:
        took_s = float(self._rng.exponential(self._mean_s))
        await asyncio.sleep(took_s)
        moved = self._rng.standard_normal(asked.parameters.size).astype(np.float32) * np.float32(0.01)
        done(
            fx.Trained(
                task=asked.task,
                parameters=asked.parameters + moved,
                buffers=asked.buffers,
                num_steps=asked.num_steps,
                num_samples=100,
                dataset_size=100,
                loss=1.0,
                seconds=took_s,
            )
        )


@asynccontextmanager
async def agent_here(
    folder: Path,
    urls: Sequence[str],
    *,
    key: SigningKey | None = None,
    trainers: TrainersHere | None = None,
    root: str = ROOT,
    **settings: Any,
) -> AsyncIterator[AgentService]:
    """A service that is connected to all of these brokers; `settings` are those of `CoreSettings`."""
    key = key or SigningKey.generate()
    config = load_config(None, {})

    def transport(url: str, will: Callable[[], Will | None]) -> Transport:
        broker = BrokerUrl.parse(url)
        return Transport([broker], client_id=key.peer_id, will=will, max_packet_bytes=PACKET_BYTES, backoff_s=BACKOFF_S)

    with Store.open(folder) as store:
        service = AgentService(
            settings=CoreSettings(peer=key.peer_id, **settings),
            identity=Identity(key, folder / "identity.pem"),
            store=store,
            transports=[partial(transport, url) for url in urls],
            root=root,
            trainers=trainers,  # type: ignore[arg-type]
            max_bytes=PACKET_BYTES,
            config=replace(config, agent=replace(config.agent, state_dir=folder)),
        )
        running = asyncio.create_task(service.run())
        try:
            await until(lambda: all(each.is_connected for each in service.attachments), running=running)
            yield service
        finally:
            service.stop()
            await running


async def until(
    holds: Callable[[], bool], *, within_s: float = 60.0, running: asyncio.Task[None] | None = None
) -> None:
    """Wait until something holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not holds():
            if running is not None and running.done():
                running.result()
            await asyncio.sleep(0.01)
