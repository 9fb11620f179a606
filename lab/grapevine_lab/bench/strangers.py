"""A service among strangers: `flood_memory`, what manifests cost it, and `start_to_heartbeat`, how fast it begins.

The service is a real `grapevine agent run` on a real Mosquitto, with two trusted reviewers who say nothing. In the
flood one stranger publishes 96 manifests of 220 kB, then a hundred others publish three each; meanwhile the service is
asked for its status all the time, and the longest that it takes to answer is what the flood holds its loop for. Then
it is started again, and the broker sends it all of that in one go.

A start is timed from the creation of the process to the arrival of its first heartbeat at another client: with an
empty state folder, and with 10,000 manifests of strangers in it, in a chain of versions. Beside it stands the CPU time
that the process has taken by then, which a busy machine changes less.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE, NoAnswerError, NoServiceError
from grapevine_agent.identity import make_if_new, read_identity
from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.store.database import StoredRecord
from grapevine_agent.store.store import Store
from grapevine_broker import start_broker
from grapevine_lab.bench import floods
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.service import ROOT, cpu_s, running_service, wait_until
from grapevine_proto import messages as m
from grapevine_proto import topics
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import PeerTopic, TaskTopic

MEMORY, START = "flood_memory", "start_to_heartbeat"
MORE_TARGET = Target(limit=60.0, at_most=True)  # MB more than before anybody said anything
EMPTY_TARGET, KEPT_TARGET = Target(limit=1.0, at_most=True), Target(limit=2.0, at_most=True)  # s
NUM_OF_ONE, NUM_STRANGERS, NUM_OF_EACH = 96, 100, 3
NUM_KEPT, PER_AUTHOR = 10_000, 90
NUM_STARTS = 5
SETTLE_S = 3.0
ASK_EVERY_S = 0.05
DEADLINE_S = 120.0
REVIEWERS = ["a" * 20, "b" * 20]

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure both; about two minutes."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder:
        figures: list[Figure] = []
        for name, measure in (("starts", _starts), ("flood", _flood)):
            own = Path(folder) / name
            own.mkdir()
            with start_broker("mosquitto") as broker:
                figures += asyncio.run(measure(own, broker.url, say))
        return figures


def _write_config(folder: Path, url: str) -> Path:
    sections = [
        f'[agent]\nname = "measured"\nstate_dir = {json.dumps(str(folder / "state"))}',
        f"[mqtt]\nbrokers = {json.dumps([url])}\nroot = {json.dumps(ROOT)}",
        f"[review]\ntrusted = {json.dumps(REVIEWERS)}",
    ]
    config = folder / "agent.toml"
    config.write_text("\n".join(sections), encoding="utf-8")
    return config


@asynccontextmanager
async def _client(url: str, *filters: str) -> AsyncIterator[Transport]:
    """A client of the broker's that is connected."""
    transport = Transport([BrokerUrl.parse(url)], client_id="grapevine-bench-strangers")
    await transport.subscribe(*((name, 1) for name in filters))
    running = asyncio.create_task(transport.run())
    try:
        async for event in transport.events():
            if isinstance(event, Connected):
                break
        yield transport
    finally:
        await transport.disconnect()
        await running


# --- the flood ------------------------------------------------------------------------------------


async def _flood(folder: Path, url: str, say: Callable[[str], None]) -> list[Figure]:
    config, socket = _write_config(folder, url), folder / "state" / SOCKET_FILE
    megabytes = 1e-6
    one = [floods.key(0)] * NUM_OF_ONE
    others = [floods.key(1 + number % NUM_STRANGERS) for number in range(NUM_STRANGERS * NUM_OF_EACH)]
    async with _client(url) as client:
        with running_service(config, folder / "log") as process:
            await wait_until(process, socket, lambda status: bool(status) and status["connected"], "is connected")
            await asyncio.sleep(SETTLE_S)
            before = float(process.memory_info().rss)
            of_one, held_s = await _publish(client, process, socket, one)
            say(f"one stranger's {NUM_OF_ONE} manifests are dealt with: {(of_one - before) * megabytes:.1f} MB more")
            of_all, held_again_s = await _publish(client, process, socket, others)
        with running_service(config, folder / "log-again") as process:
            again, held_at_connect_s = await _watch(process, socket, len(one) + len(others))
    flood = f"{NUM_OF_ONE} manifests of 220 kB of one stranger"
    more = f"{NUM_OF_EACH} each of {NUM_STRANGERS} others"
    held = [held_s, held_again_s, held_at_connect_s]
    return [
        figure(MEMORY, "RSS before", [before], unit="MB", scale=megabytes),
        figure(MEMORY, f"RSS more after {flood}", [of_one - before], unit="MB", target=MORE_TARGET, scale=megabytes),
        figure(MEMORY, f"RSS more after {more} too", [of_all - before], unit="MB", target=MORE_TARGET, scale=megabytes),
        figure(MEMORY, "RSS more, started again", [again - before], unit="MB", target=MORE_TARGET, scale=megabytes),
        figure(MEMORY, "longest wait for `status` meanwhile", [max(held)], unit="ms", scale=1e3),
    ]


async def _publish(
    client: Transport, process: psutil.Process, socket: Path, keys: list[SigningKey]
) -> tuple[float, float]:
    """Let these keys publish one large manifest each, retained. Returns the RSS after it, and the longest wait."""
    known = await asyncio.to_thread(call, socket, "status", {})
    watching = asyncio.create_task(_watch(process, socket, _num_seen(known) + len(keys)))
    made = floods.large_manifests(len(keys), lambda number: keys[number].peer_id)
    for key, (_, task, encoded) in zip(keys, made, strict=True):
        topic = TaskTopic(key.peer_id, task, "manifest")
        payload = floods.sealed(key, topic, m.TaskPublication(manifest=encoded))
        await client.publish(topics.build(ROOT, topic), payload, retain=True)
        await asyncio.sleep(0)
    return await watching


async def _watch(process: psutil.Process, socket: Path, num_seen: int) -> tuple[float, float]:
    """Ask for the status until so many manifests were taken or refused. Returns the RSS, and the longest wait."""
    longest_s, deadline_s = 0.0, time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        began_s = time.monotonic()
        with contextlib.suppress(NoServiceError, NoAnswerError):  # it is starting
            status = await asyncio.to_thread(call, socket, "status", {})
            longest_s = max(longest_s, time.monotonic() - began_s)
            if _num_seen(status) >= num_seen:
                break
        await asyncio.sleep(ASK_EVERY_S)
    await asyncio.sleep(SETTLE_S)
    return float(process.memory_info().rss), longest_s


def _num_seen(status: dict[str, Any]) -> int:
    return int(status["num_tasks"]) + int(status["rejected"].get("over-quota", 0))


# --- starts ---------------------------------------------------------------------------------------


async def _starts(folder: Path, url: str, say: Callable[[str], None]) -> list[Figure]:
    config, state = _write_config(folder, url), folder / "state"
    state.mkdir(mode=0o700)
    make_if_new(state)
    peer = read_identity(state).peer_id
    heartbeat = topics.build(ROOT, PeerTopic(peer, "heartbeat"))
    async with _client(url, heartbeat) as client:
        empty = [await _start_s(client, config, folder / "log", heartbeat) for _ in range(NUM_STARTS)]
        say(f"{min(empty)[0]:.2f} s to the first heartbeat; {NUM_KEPT:,} manifests are put into the state folder")
        kept = await asyncio.to_thread(_kept_records)
        full: list[tuple[float, float]] = []
        for _ in range(NUM_STARTS):
            await asyncio.to_thread(_keep, state, kept)
            full.append(await _start_s(client, config, folder / "log", heartbeat))
    what = "from the process to its first heartbeat"
    kept_too = f"the same with {NUM_KEPT:,} records of strangers kept"
    return [
        figure(START, what, [wall_s for wall_s, _ in empty], unit="s", target=EMPTY_TARGET),
        figure(START, kept_too, [wall_s for wall_s, _ in full], unit="s", target=KEPT_TARGET),
        figure(START, "CPU time of the one", [used_s for _, used_s in empty], unit="s"),
        figure(START, "CPU time of the other", [used_s for _, used_s in full], unit="s"),
    ]


async def _start_s(client: Transport, config: Path, log: Path, heartbeat: str) -> tuple[float, float]:
    """Start it and wait for it: wall time, and CPU time of all its threads."""
    began_s = time.monotonic()
    with running_service(config, log) as process:
        async for event in client.events():
            if isinstance(event, Arrived) and event.topic == heartbeat:
                return time.monotonic() - began_s, cpu_s(process)
    raise AssertionError("the client was disconnected")


def _kept_records() -> list[StoredRecord]:
    """A chain of versions, signed by as many strangers as may say so much."""
    keys = [floods.key(number) for number in range(NUM_KEPT // PER_AUTHOR + 1)]
    made = floods.manifests("chain", NUM_KEPT, lambda number: keys[number // PER_AUTHOR].peer_id)
    records: list[StoredRecord] = []
    for number, (author, task, encoded) in enumerate(made):
        topic = TaskTopic(author, task, "manifest")
        envelope = floods.sealed(keys[number // PER_AUTHOR], topic, m.TaskPublication(manifest=encoded))
        records.append(
            StoredRecord(topic=topic.below_root(), author=author, sequence=1, expires_at_ms=0, envelope=envelope)
        )
    return records


def _keep(state: Path, records: Iterable[StoredRecord]) -> None:
    """What a service could not hold it has deleted: each start finds all of them again."""
    with Store.open(state) as store:
        for record in records:
            store.put_record(record)
