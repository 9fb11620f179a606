"""`join_to_step`: how long an owner waits from `grapevine join` until the first training step is done.

A fresh agent on a real Mosquitto knows an approved task. Its owner joins it: the agent asks for the
initial weights, gets and checks them, starts a trainer (a process that imports PyTorch and loads the
samples) and trains the first round of ten steps. The files of PyTorch are in the page cache, as on
a device that has trained before since it was switched on.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from grapevine_agent.config.agent_toml import MqttConfig
from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_broker import start_broker
from grapevine_lab.bench.crowd import Crowd, crowd_on
from grapevine_lab.bench.figures import Figure, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.service import ROOT, build_digits, running_service, task_line, wait_until, write_config
from grapevine_tasks.built import BuiltTask

NAME = "join_to_step"
NUM_JOINS = 6  # the first is not counted: it reads PyTorch from the disk
NUM_PEERS = 5

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; about a minute."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder, start_broker("mosquitto") as broker:
        say("building the task")
        built = build_digits(Path(folder) / "task")
        return asyncio.run(_measure(Path(folder), broker.url, built, say))


async def _measure(folder: Path, url: str, built: BuiltTask, say: Callable[[str], None]) -> list[Figure]:
    found: list[float] = []
    async with crowd_on(url, ROOT, built, num_peers=NUM_PEERS, heartbeat_s=MqttConfig().heartbeat_s) as crowd:
        for turn in range(NUM_JOINS):
            own = folder / f"agent-{turn}"
            own.mkdir()
            found.append(await _join(own, url, crowd))
            say(f"{found[-1]:.2f} s from join to the end of the first round of steps")
    return [figure(NAME, "from `grapevine join` to the first ten steps done, digits", found[1:], unit="s")]


async def _join(folder: Path, url: str, crowd: Crowd) -> float:
    config = write_config(folder, url, crowd)
    socket = folder / "state" / SOCKET_FILE
    with running_service(config, folder / "log") as process:
        await wait_until(
            process,
            socket,
            lambda status: task_line(status, crowd.task).get("standing") == "approved",
            "knows the approved task",
        )
        began_s = time.monotonic()
        await asyncio.to_thread(call, socket, "consent", {"task": crowd.task, "joined": True})
        await wait_until(process, socket, lambda status: task_line(status, crowd.task).get("age", 0) > 0, "trains")
        return time.monotonic() - began_s
