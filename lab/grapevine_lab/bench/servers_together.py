"""`servers_together`: how many updates a second one, two and three servers of a group take in, over Mosquitto.

Each server is `grapevine server run`, a process of its own. The members are played by this process over one
connection: real keys, signed updates of 55 k parameters (float32, 221 kB), each member's next one when a server has
said that it has taken the last: nothing piles up, and what is counted is taken, not sent. Once to the group's topic,
where Mosquitto gives each update to one of the servers (shared subscription), once to the inbox of the member's own
server
(rendezvous hashing).

Members, broker and servers share the machine. So a second server brings something only where a core is left for it;
what CPU time an update costs a server, and the members here, is said beside it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from grapevine_agent.config.agent_toml import MqttConfig
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.core.learning.offers import in_order
from grapevine_agent.identity import first_identity
from grapevine_broker import start_broker
from grapevine_lab.bench.crowd import NUM_REVIEWERS, Crowd, crowd_on
from grapevine_lab.bench.figures import Figure, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.service import ROOT, cpu_s, running_service, task_line, wait_until
from grapevine_lab.demo.tasks import copy_task
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import GroupTopic, InboxTopic
from grapevine_tasks.built import BuiltTask, load_built

NAME = "servers_together"
GROUP = "bench"
NUM_SERVERS = (1, 2, 3)
NUM_MEMBERS = 48
HIDDEN = 736  # 64 · 736 + 736 and 736 · 10 + 10: 55,210 parameters
NUM_WINDOWS, WINDOW_S = 5, 3.0
AGAIN_S = 10.0  # without a receipt a member says its update again, as real ones do

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure it; about three minutes."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as name:
        folder = Path(name)
        say("building the task")
        built = _built(folder / "task")
        found: list[Figure] = []
        for num_servers in NUM_SERVERS:
            own = folder / str(num_servers)
            own.mkdir()
            with start_broker("mosquitto") as broker:
                found += asyncio.run(_measure(own, broker.url, built, num_servers, say))
    return found


def _built(folder: Path) -> BuiltTask:
    copy_task(folder)
    model = folder / "model.py"
    text = model.read_text().replace("nn.Linear(64, 64)", f"nn.Linear(64, {HIDDEN})")
    model.write_text(text.replace("nn.Linear(64, 10)", f"nn.Linear({HIDDEN}, 10)"))
    command = [sys.executable, "-m", "grapevine_agent", "task", "build", str(folder), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return load_built(folder)


async def _measure(
    folder: Path, url: str, built: BuiltTask, num_servers: int, say: Callable[[str], None]
) -> list[Figure]:
    folders = [folder / f"server-{k}" for k in range(num_servers)]
    servers = [first_identity(each / "state").peer_id for each in folders]
    built = replace(built, draft=replace(built.draft, servers=tuple(servers)))
    found: list[Figure] = []
    num_peers = 1 + NUM_REVIEWERS + NUM_MEMBERS
    async with (
        crowd_on(url, ROOT, built, num_peers=num_peers, heartbeat_s=MqttConfig().heartbeat_s) as crowd,
        _running(folders, url, crowd) as processes,
    ):
        for way in ("shared", "chosen"):
            members = _Members(crowd=crowd, servers=servers, is_shared=way == "shared")
            rates, server_ms, members_ms = await members.rates(processes)
            what = f"{num_servers} server{'s' * (num_servers > 1)}, {way}"
            found += [
                figure(NAME, f"updates taken in, {what}", rates, unit="/s"),
                figure(NAME, f"CPU time of a server for an update, {what}", server_ms, unit="ms"),
                figure(NAME, f"CPU time of its member here, {what}", members_ms, unit="ms"),
            ]
            parts = ", ".join(f"{num}" for num in members.num_taken.values())
            say(
                f"{what}: {found[-3].median:.0f} updates a second ({parts}; {members.num_again} said again), "
                f"{found[-2].median:.2f} ms of CPU time at a server, {found[-1].median:.2f} ms here"
            )
    return found


@asynccontextmanager
async def _running(folders: Sequence[Path], url: str, crowd: Crowd) -> AsyncIterator[list[psutil.Process]]:
    """The servers, each with the task."""
    async with AsyncExitStack() as stack:
        processes = []
        for folder in folders:
            config = folder / "agent.toml"
            config.write_text(
                f'[agent]\nname = "{folder.name}"\nstate_dir = {json.dumps(str(folder / "state"))}\n'
                f'server_group = "{GROUP}"\n[mqtt]\nbrokers = ["{url}"]\nroot = "{ROOT}"\n'
                f"[review]\ntrusted = {json.dumps(crowd.reviewers)}\n"
            )
            processes.append(stack.enter_context(running_service(config, folder / "log", role="server")))
        for folder, process in zip(folders, processes, strict=True):
            await wait_until(
                process,
                folder / "state" / SOCKET_FILE,
                lambda status: bool(task_line(status, crowd.task).get("joined")),
                "joins the task",
            )
        yield processes


@dataclass(kw_only=True)
class _Members:
    """Members who each say their next update when the last was taken."""

    crowd: Crowd
    servers: Sequence[str]
    is_shared: bool
    num_taken: dict[str, int] = field(default_factory=dict)  # by server
    num_again: int = 0
    _taken: dict[str, asyncio.Event] = field(default_factory=dict)

    async def rates(self, processes: Sequence[psutil.Process]) -> tuple[list[float], list[float], list[float]]:
        """Of each window: updates a second, and CPU milliseconds of the servers and of this process for each."""
        self.num_taken = dict.fromkeys(self.servers, 0)
        self.crowd.on_receipt = self._receipt
        keys = self.crowd.keys[1 + NUM_REVIEWERS :]
        vector = np.random.default_rng(0).standard_normal(_size(self.crowd))
        parameters = vector.astype(np.float32) * np.float32(0.01)
        saying = [asyncio.create_task(self._say(key, parameters)) for key in keys]
        rates: list[float] = []
        servers_ms: list[float] = []
        members_ms: list[float] = []
        try:
            while sum(self.num_taken.values()) < 4 * NUM_MEMBERS:
                await asyncio.sleep(0.05)
            ours = psutil.Process()
            for _ in range(NUM_WINDOWS):
                began_s, before = time.monotonic(), sum(self.num_taken.values())
                cpu_before, ours_before = sum(map(cpu_s, processes)), cpu_s(ours)
                await asyncio.sleep(WINDOW_S)
                num = sum(self.num_taken.values()) - before
                rates.append(num / (time.monotonic() - began_s))
                servers_ms.append(1e3 * (sum(map(cpu_s, processes)) - cpu_before) / max(1, num))
                members_ms.append(1e3 * (cpu_s(ours) - ours_before) / max(1, num))
        finally:
            for task in saying:
                task.cancel()
            await asyncio.gather(*saying, return_exceptions=True)
        return rates, servers_ms, members_ms

    def _receipt(self, member: str, server: str) -> None:
        self.num_taken[server] += 1
        if member in self._taken:
            self._taken[member].set()

    async def _say(self, key: SigningKey, parameters: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        peer, version = key.peer_id, time.time_ns() // 1_000_000  # above what it said in another run
        taken = self._taken[peer] = asyncio.Event()
        server = in_order(peer, self.servers)[0]
        topic = GroupTopic(self.crowd.task, GROUP, peer) if self.is_shared else InboxTopic(server, peer)
        session = 0 if self.is_shared else self.crowd.sessions[server]
        while True:
            version += 1
            update = ModelUpdate(
                task=self.crowd.task,
                window=0,
                version=version,
                age=100,
                experience=3_200,
                samples=100,
                full=parameters,
                wants_receipt=True,
            )
            taken.clear()
            while not taken.is_set():
                await self.crowd.say(key, topic, update, receiver_session=session)
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN_S):
                        await taken.wait()
                self.num_again += not taken.is_set()


def _size(crowd: Crowd) -> int:
    """How many numbers the task's model has."""
    program = crowd.built.draft.program
    return sum(int(np.prod(each.shape)) for each in program.parameters)
