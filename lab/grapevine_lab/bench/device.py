"""`device_idle` and `device_learning`: what the service costs whoever installs it and forgets it.

Idle is `grapevine agent run` with the default configuration on a real Mosquitto: alone, and among 50 peers who have
announced themselves and send their heartbeats, with a task that nobody has consented to. Counted are its memory (RSS,
as the kernel counts it, shared libraries included), its CPU time, its wake-ups (voluntary switches of all its threads,
from /proc), and the bytes that it sends and gets, by a proxy between it and the broker. Beside it: how long one takes
from its start until the broker has taken it in, by a clock and of the processor.

Learning is the same on a board: a control group with one core and 512 MB, and the profile of a Raspberry Pi Zero 2 W.
The owner joins the digits. Counted are rounds, the service's and the trainer's memory, and what the group had in use.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from grapevine_agent.config.agent_toml import MqttConfig
from grapevine_agent.config.firmware import load_profile
from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_broker import start_broker
from grapevine_lab.bench.crowd import NUM_REVIEWERS, Crowd, crowd_on
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.quota import quota, why_no_quota
from grapevine_lab.bench.service import (
    ROOT,
    build_digits,
    cpu_s,
    knows,
    learns,
    running_service,
    task_line,
    wait_until,
    write_config,
)
from grapevine_lab.proxy import Counting, running
from grapevine_proto.errors import GrapevineError
from grapevine_tasks.built import BuiltTask

IDLE, LEARNING = "device_idle", "device_learning"
RSS_TARGET = Target(limit=55.0, at_most=True)  # MB of 10^6 bytes
START_TARGET = Target(limit=0.6, at_most=True)  # seconds
NUM_STARTS = 5
WAKE_UPS_TARGET = Target(limit=3.0, at_most=True)  # a second
NUM_PEERS = 50
PROFILE = "raspberry-pi-zero-2-w"
CORES, MEMORY_MB = 1.0, 512
SETTLE_S = 20.0
START_DEADLINE_S = 60.0
NUM_WINDOWS, WINDOW_S = 3, 30.0
LEARN_S = 60.0
DAY_S = 86_400.0
_MEGABYTES = 1e-6

missing = why_no_mosquitto


def missing_for_learning() -> str:
    """Why a board cannot be played here; empty if it can."""
    return why_no_mosquitto() or why_no_quota()


@dataclass
class _Window:
    """What was seen, one value for each window (of memory: for each second)."""

    rss_bytes: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    wake_ups: list[float] = field(default_factory=list)  # a second
    up: list[float] = field(default_factory=list)  # bytes a second
    down: list[float] = field(default_factory=list)


def run_idle(say: Callable[[str], None]) -> list[Figure]:
    """Measure the idle service; about five minutes."""
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as name:
        folder = Path(name)
        say("building the task")
        built = build_digits(folder / "task")
        for num_peers in (0, NUM_PEERS):
            own = folder / str(num_peers)
            own.mkdir()
            with _counted_broker() as line:
                seen = asyncio.run(_idle(own, line, built, num_peers))
            found += _idle_figures(seen, f"{num_peers} peers" if num_peers else "alone")
    found += _start_figures(asyncio.run(_starts()))
    return found


async def _starts() -> list[tuple[float, float]]:
    """Of several new services on a new broker: seconds until it is connected, and those of the processor."""
    seen = []
    for _ in range(NUM_STARTS):
        with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as name, start_broker("mosquitto") as broker:
            folder = Path(name)
            config = folder / "agent.toml"
            config.write_text(
                f'[agent]\nstate_dir = "{folder}"\n[mqtt]\nbrokers = ["{broker.url}"]\n', encoding="utf-8"
            )
            began_s = time.monotonic()
            with running_service(config, folder / "log") as process:
                while b"connected to" not in (folder / "log").read_bytes():
                    if time.monotonic() > began_s + START_DEADLINE_S:
                        raise GrapevineError(f"no service was connected within {START_DEADLINE_S:g} s")
                    await asyncio.sleep(0.002)
                seen.append((time.monotonic() - began_s, cpu_s(process)))
    return seen


def _start_figures(seen: list[tuple[float, float]]) -> list[Figure]:
    lasted, used = zip(*seen, strict=True)
    return [
        figure(IDLE, "start to connected", list(lasted), unit="s", target=START_TARGET),
        figure(IDLE, "start to connected: CPU", list(used), unit="s"),
    ]


async def _idle(folder: Path, line: Counting, built: BuiltTask, num_peers: int) -> _Window:
    """The service over the line that counts, the crowd past it. Alone, the crowd has said nothing."""
    directly = f"mqtt://127.0.0.1:{line.to}"
    num, heartbeat_s = num_peers or 1 + NUM_REVIEWERS, MqttConfig().heartbeat_s
    async with crowd_on(directly, ROOT, built, num_peers=num, heartbeat_s=heartbeat_s, is_there=num_peers > 0) as crowd:
        config, socket = write_config(folder, f"mqtt://127.0.0.1:{line.port}", crowd), folder / "state" / SOCKET_FILE

        def is_idle(status: dict[str, Any]) -> bool:
            return knows(status, crowd.task, num_peers) if num_peers else bool(status) and status["connected"]

        with running_service(config, folder / "log") as process:
            await wait_until(process, socket, is_idle, f"knows {num_peers} peers")
            await asyncio.sleep(SETTLE_S)
            return await _watch(process, line)


async def _watch(process: psutil.Process, line: Counting) -> _Window:
    seen = _Window()
    for _ in range(NUM_WINDOWS):
        began_s, used_s, wake_ups = time.monotonic(), cpu_s(process), _wake_ups(process)
        up, down = line.num_up, line.num_down
        await asyncio.sleep(WINDOW_S)
        lasted_s = time.monotonic() - began_s
        seen.rss_bytes.append(float(process.memory_info().rss))
        seen.cores.append((cpu_s(process) - used_s) / lasted_s)
        seen.wake_ups.append((_wake_ups(process) - wake_ups) / lasted_s)
        seen.up.append((line.num_up - up) / lasted_s)
        seen.down.append((line.num_down - down) / lasted_s)
    return seen


def _wake_ups(process: psutil.Process) -> int:
    """How often its threads have given up the processor by themselves, and so were woken up again."""
    found = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                found += int(line.split()[1])
    return found


def _idle_figures(seen: _Window, where: str) -> list[Figure]:
    day = DAY_S * _MEGABYTES
    return [
        _megabytes(IDLE, f"RSS, {where}", seen.rss_bytes, RSS_TARGET),
        figure(IDLE, f"CPU, {where}", seen.cores, unit="% of a core", scale=100.0),
        figure(IDLE, f"wake-ups a second, {where}", seen.wake_ups, target=WAKE_UPS_TARGET),
        figure(IDLE, f"sent a day, {where}", seen.up, unit="MB", scale=day),
        figure(IDLE, f"received a day, {where}", seen.down, unit="MB", scale=day),
    ]


@contextmanager
def _counted_broker() -> Iterator[Counting]:
    """A line to a broker of its own that counts."""
    with start_broker("mosquitto") as broker, running(Counting(urlsplit(broker.url).port or 0)) as line:
        yield line


# --- on a board -----------------------------------------------------------------------------------


def run_learning(say: Callable[[str], None]) -> list[Figure]:
    """Measure the learning one; about two minutes."""
    with (
        tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder,
        start_broker("mosquitto") as broker,
        quota(cores=CORES, memory_mb=MEMORY_MB) as board,
    ):
        say("building the task")
        built = build_digits(Path(folder) / "task")

        async def measure() -> list[Figure]:
            heartbeat_s = MqttConfig().heartbeat_s
            async with crowd_on(broker.url, ROOT, built, num_peers=NUM_PEERS, heartbeat_s=heartbeat_s) as crowd:
                config, socket = write_config(Path(folder), broker.url, crowd, profile=PROFILE), Path(folder) / "state"
                with running_service(config, Path(folder) / "log", within=board.within) as process:
                    return await _learn(process, socket / SOCKET_FILE, crowd, board.peak_bytes, say)

        return asyncio.run(measure())


async def _learn(
    process: psutil.Process,
    socket: Path,
    crowd: Crowd,
    peak_bytes: Callable[[], float],
    say: Callable[[str], None],
) -> list[Figure]:
    await wait_until(process, socket, lambda s: knows(s, crowd.task, NUM_PEERS), "knows every peer and the task")
    await asyncio.to_thread(call, socket, "consent", {"task": crowd.task, "joined": True})
    await wait_until(process, socket, lambda status: learns(status, crowd.task), "learns and merges")
    say(f"it learns for {LEARN_S:g} s")
    before = task_line(await asyncio.to_thread(call, socket, "status"), crowd.task)["round"]
    began_s, services, trainers = time.monotonic(), [], []
    while time.monotonic() < began_s + LEARN_S:
        services.append(float(process.memory_info().rss))
        trainers.append(float(sum(child.memory_info().rss for child in process.children(recursive=True))))
        await asyncio.sleep(1.0)
    lasted_s = time.monotonic() - began_s
    after = task_line(await asyncio.to_thread(call, socket, "status"), crowd.task)["round"]
    lent = Target(limit=load_profile(PROFILE).memory_mb * (1 << 20) * _MEGABYTES, at_most=True)
    on = f"{CORES:g} core, {MEMORY_MB} MB"
    return [
        _megabytes(LEARNING, f"RSS of the service, {on}", services),
        _megabytes(LEARNING, f"largest RSS of the trainer, {on}", [max(trainers)], lent),
        _megabytes(LEARNING, f"most memory in use at once, page cache included, {on}", [peak_bytes()]),
        figure(LEARNING, f"rounds a minute, {on}", [(after - before) / lasted_s * 60.0]),
    ]


def _megabytes(name: str, what: str, num_bytes: list[float], target: Target | None = None) -> Figure:
    return figure(name, what, num_bytes, unit="MB", target=target, scale=_MEGABYTES)
