"""`service_memory` and `service_idle_cpu`: the device service as a process, on a real Mosquitto.

One `grapevine agent run` with the default configuration knows 200 other peers, which have announced
themselves and send their heartbeats, and one task, which is approved and which its owner has not
consented to: it is *idle*. Memory is its resident set (RSS) as the kernel counts it, shared libraries
included; CPU time is that of all its threads, from /proc, over windows of 30 seconds.

Then the owner joins the task. The service starts its trainer, a process of its own that is not
counted here, and learns: every update that it sends is answered by one of the same size.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from grapevine_agent.config.agent_toml import MqttConfig
from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE, NoAnswerError, NoServiceError
from grapevine_broker import start_broker
from grapevine_lab.bench.crowd import Crowd, crowd_on
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.demo.cast import DATA_KIND
from grapevine_lab.demo.samples import write_shares
from grapevine_proto.errors import GrapevineError
from grapevine_tasks.built import BuiltTask, load_built

MEMORY, IDLE_CPU = "service_memory", "service_idle_cpu"
MEMORY_TARGET = Target(limit=80.0, at_most=True)  # MB of 10^6 bytes
CPU_TARGET = Target(limit=1.0, at_most=True)  # per cent of a core
NUM_PEERS = 200
MANY_PEERS = 1_000
MEMORY_OF_MANY = "service_memory_many"
TARGET_OF_MANY = Target(limit=90.0, at_most=True)  # MB
ROOT = "grapevine/v1"
SETTLE_S = 20.0  # records are relayed, if any, 8 s after a connect
NUM_WINDOWS = 3
WINDOW_S = 30.0
DEADLINE_S = 60.0
ASK_EVERY_S = 0.05

# What a service in Python cannot do without: how much of its memory is theirs, how much is ours.
_LIBRARIES = "asyncio, ssl, sqlite3, numpy, numpy.random, paho.mqtt.client, google.protobuf.message"
_KEYS = "cryptography.hazmat.primitives.asymmetric.ed25519"
_LIBRARIES_ALONE = f"import {_LIBRARIES}, {_KEYS}, psutil; print(psutil.Process().memory_info().rss)"

missing = why_no_mosquitto


@dataclass
class Watched:
    """What was seen of a process: RSS each second, and the share of a core in each window."""

    rss_bytes: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)


def run_many(say: Callable[[str], None]) -> list[Figure]:
    """Memory with many peers; about four minutes."""
    return [each for each in run(say, MANY_PEERS) if each.name == MEMORY_OF_MANY]


def run(say: Callable[[str], None], num_peers: int = NUM_PEERS) -> list[Figure]:
    """Measure both; about three minutes."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder, start_broker("mosquitto") as broker:
        say("building the task")
        built = build_digits(Path(folder) / "task")
        return asyncio.run(_measure(Path(folder), broker.url, built, say, num_peers))


async def _measure(
    folder: Path, url: str, built: BuiltTask, say: Callable[[str], None], num_peers: int
) -> list[Figure]:
    libraries = [_rss_of_libraries() for _ in range(NUM_WINDOWS)]
    heartbeat_s = MqttConfig().heartbeat_s
    async with crowd_on(url, ROOT, built, num_peers=num_peers, heartbeat_s=heartbeat_s) as crowd:
        config = write_config(folder, url, crowd)
        with running_service(config, folder / "log") as process:
            socket = folder / "state" / SOCKET_FILE
            await wait_until(
                process, socket, lambda status: knows(status, crowd.task, num_peers), "knows every peer and the task"
            )
            say(f"the service knows {num_peers} peers and a task; it is idle for {NUM_WINDOWS} × {WINDOW_S:g} s")
            await asyncio.sleep(SETTLE_S)
            idle = await _watch(process)
            await asyncio.to_thread(call, socket, "consent", {"task": crowd.task, "joined": True})
            await wait_until(process, socket, lambda status: learns(status, crowd.task), "learns and merges")
            say(f"the service has joined; it learns for {NUM_WINDOWS} × {WINDOW_S:g} s")
            learning = await _watch(process)
            status = await asyncio.to_thread(call, socket, "status")
            _expect(_knows_peers(status, num_peers) and learns(status, crowd.task), f"it still learns: {status}")
    percent, megabytes = 100.0, 1e-6
    of = f"{num_peers} peers, one task"
    memory, target = (MEMORY, MEMORY_TARGET) if num_peers == NUM_PEERS else (MEMORY_OF_MANY, TARGET_OF_MANY)
    return [
        figure(memory, f"RSS, idle, {of} known", idle.rss_bytes, unit="MB", target=target, scale=megabytes),
        figure(memory, f"RSS, learning, {of}", learning.rss_bytes, unit="MB", target=target, scale=megabytes),
        figure(
            MEMORY,
            "RSS of Python with NumPy, paho, protobuf, cryptography",
            libraries,
            unit="MB",
            scale=megabytes,
        ),
        figure(IDLE_CPU, f"CPU, idle, {of} known", idle.cores, unit="% of a core", target=CPU_TARGET, scale=percent),
        figure(IDLE_CPU, f"CPU, learning, {of}", learning.cores, unit="% of a core", scale=percent),
    ]


# --- watching -------------------------------------------------------------------------------------


async def _watch(process: psutil.Process) -> Watched:
    watched = Watched()
    for _ in range(NUM_WINDOWS):
        before_s, started_s = cpu_s(process), time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < WINDOW_S:
            watched.rss_bytes.append(float(process.memory_info().rss))
            await asyncio.sleep(min(1.0, WINDOW_S - elapsed_s))
        watched.cores.append((cpu_s(process) - before_s) / (time.monotonic() - started_s))
    return watched


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of the process's threads; its children's are counted apart."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def wait_until(process: psutil.Process, socket: Path, done: Callable[[dict[str, Any]], bool], what: str) -> None:
    """Ask the service until its status is as wished. Raises GrapevineError when it ends, or after a minute."""
    deadline_s = time.monotonic() + DEADLINE_S
    status: dict[str, Any] = {}
    while not done(status):
        _expect(process.status() != psutil.STATUS_ZOMBIE, f"the service {what}; it has ended")
        _expect(time.monotonic() < deadline_s, f"the service {what}; after {DEADLINE_S:g} s it said {status}")
        await asyncio.sleep(ASK_EVERY_S)
        with contextlib.suppress(NoServiceError, NoAnswerError):  # it is starting
            status = await asyncio.to_thread(call, socket, "status")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise GrapevineError(f"this cannot be measured: expected that {what}")


def _knows_peers(status: dict[str, Any], num_peers: int = NUM_PEERS) -> bool:
    return bool(status) and status["connected"] and status["peers"]["alive"] >= num_peers * 0.95


def knows(status: dict[str, Any], task: str, num_peers: int = NUM_PEERS) -> bool:
    """Whether the service knows the crowd, and the task as approved and not joined."""
    line = task_line(status, task)
    return _knows_peers(status, num_peers) and line.get("standing") == "approved" and not line["joined"]


def learns(status: dict[str, Any], task: str) -> bool:
    """Whether the service trains the task, merges, and sends."""
    line = task_line(status, task)
    return bool(line) and bool(line["joined"]) and line["age"] > 0 and line["merges"] > 0 and line["sent"] > 0


def task_line(status: dict[str, Any], task: str) -> dict[str, Any]:
    """What a status says of a task; empty if nothing."""
    return next((line for line in status.get("tasks", []) if line["id"] == task), {})


# --- the service ----------------------------------------------------------------------------------


def write_config(folder: Path, url: str, crowd: Crowd, *, profile: str = "generic") -> Path:
    """Defaults, but for what makes this service find its broker, its state, its data and its reviewers."""
    (share,) = write_shares(folder, 1, seed=0)
    sections = [
        f'[agent]\nname = "measured"\nprofile = {json.dumps(profile)}\nstate_dir = {json.dumps(str(folder / "state"))}',
        f"[mqtt]\nbrokers = {json.dumps([url])}\nroot = {json.dumps(ROOT)}",
        f"[review]\ntrusted = {json.dumps(crowd.reviewers)}",
        f"[[data]]\nkind = {json.dumps(DATA_KIND)}\npath = {json.dumps(str(share.path))}",
    ]
    config = folder / "agent.toml"
    config.write_text("\n".join(sections), encoding="utf-8")
    return config


@contextmanager
def running_service(
    config: Path, log: Path, *, within: Sequence[str] = (), role: str = "agent"
) -> Iterator[psutil.Process]:
    """`grapevine agent run`, or `server run`, until the block ends. `within` comes before the command."""
    leash = [sys.executable, "-m", "grapevine_broker.leash", str(os.getpid())]
    command = [*within, *leash, sys.executable, "-m", "grapevine_agent", role, "run", "--config", str(config)]
    with log.open("wb") as output, subprocess.Popen(command, stderr=output, env=_environment()) as process:
        try:
            yield psutil.Process(process.pid)
        except GrapevineError as error:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise GrapevineError(f"{error}\nThe end of the service's log:\n{said}") from error
        finally:
            process.terminate()


def _environment() -> dict[str, str]:
    """Ours, without the settings that the person who runs this has for an agent of their own.

    Bytecode is kept, as where Grapevine is installed: else each start would compile it anew.
    """
    ours = ("GRAPEVINE_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def build_digits(folder: Path) -> BuiltTask:
    """The catalogue's digits, built."""
    from grapevine_lab.demo.tasks import copy_task  # noqa: PLC0415 - only now is it needed

    copy_task(folder)
    # In a process of its own, because building imports torch.
    command = [sys.executable, "-m", "grapevine_agent", "task", "build", str(folder), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment())
    return load_built(folder)


def _rss_of_libraries() -> float:
    done = subprocess.run([sys.executable, "-c", _LIBRARIES_ALONE], check=True, capture_output=True, text=True)
    return float(done.stdout)
