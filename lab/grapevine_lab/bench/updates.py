"""`update_over_mosquitto`: one update from agent to agent, against paho alone with the same bytes.

Two processes on one Mosquitto. Ours: from a model to the receiver's checked model, that is to encode,
hash, sign, publish (QoS 1), receive, hash, verify, decode, and to check sequence, shape and numbers.
Raw: paho's `publish` to paho's `on_message` with a payload of as many bytes, in the same two
processes, over connections with the same options. They take turns, one message at a time; times are
taken on the clock that the processes share.

What the receiving process takes of a processor for one message is read from the kernel, which counts in hundredths of a
second: before and after a row of messages of one kind, several rows of each, in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil

from grapevine_agent.core.effects import Publish
from grapevine_agent.core.learning.intake import Intake
from grapevine_agent.identity import first_identity
from grapevine_agent.net.events import Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_agent.service.numbering import OwnNumbers
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.unsaved import Unsaved
from grapevine_agent.store.store import Store
from grapevine_broker import start_broker
from grapevine_lab.bench.figures import Figure, Target, block_ratios, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.raw import RAW_TOPIC, connected_client
from grapevine_lab.bench.receiver import layout_of
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import GrapevineError
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.roots import DEFAULT_ROOT
from grapevine_proto.signing import SigningKey, signed_bytes, verify
from grapevine_proto.topics import InboxTopic

NAME = "update_over_mosquitto"
WHAT = "update, agent to agent / paho with the same bytes"
TARGET = Target(limit=2.2, at_most=True)
NUM_PARAMETERS = 55_338
NUM_WARM_UP = 30
NUM_REPETITIONS = 400
BLOCK = 20
NUM_ROWS, IN_A_ROW = 9, 200  # of messages of one kind, for the processor's time
ANSWER_S = 10.0
PAUSE_S = 0.001  # so that one message's acknowledgements do not meet the next message

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure it; about ten seconds."""
    say(f"{NUM_PARAMETERS:,} parameters, {NUM_REPETITIONS} times each way")
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder, start_broker("mosquitto") as broker:
        return asyncio.run(_measure(Path(folder), broker.url))


async def _measure(folder: Path, url: str) -> list[Figure]:
    parameters = np.random.default_rng(0).standard_normal(NUM_PARAMETERS, dtype=np.float32)
    receiver_id = SigningKey.generate().peer_id
    identity = first_identity(folder)
    with Store.open(folder) as store:
        sealer = Sealer(identity, OwnNumbers(store, Unsaved()))
        sealer.begin_session(clock.now().wall_ms)
        topic = InboxTopic(receiver_id, identity.peer_id)

        def sealed() -> bytes:
            body = ModelUpdate(
                task="bench", window=1, version=1, age=100, experience=3_200, samples=600, full=parameters
            )
            return sealer.seal(Publish(topic=topic, body=body, receiver_session=1), clock.now().wall_ms)

        ours_s, raw_s, cpu_s = await _by_turns(url, receiver_id, topics.build(DEFAULT_ROOT, topic), sealed)
        parts = _parts(sealed, topic, identity.key)
    milliseconds = 1e3
    size = f"{len(sealed()) / 1e3:.0f} kB"
    ratios = block_ratios(ours_s, raw_s, BLOCK)
    return [
        figure(NAME, WHAT, ratios, target=TARGET),
        figure(NAME, f"update of {size}, agent to agent", ours_s, unit="ms", scale=milliseconds),
        figure(NAME, f"paho, {size}", raw_s, unit="ms", scale=milliseconds),
        *(figure(NAME, what, seconds, unit="ms", scale=milliseconds) for what, seconds in parts.items()),
        *(
            figure(NAME, f"CPU of the receiver for one: {what}", seconds, unit="ms", scale=milliseconds)
            for what, seconds in cpu_s.items()
        ),
    ]


# --- there and back -------------------------------------------------------------------------------


async def _by_turns(
    url: str, receiver_id: str, name: str, sealed: Callable[[], bytes]
) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """Seconds from model to checked model, from payload to payload, and of the receiver's processor for one of each."""
    noise = os.urandom(len(sealed()))
    ours_s: list[float] = []
    raw_s: list[float] = []
    async with _receiver(url, receiver_id) as (arrival, process), _transport(url) as transport:
        with connected_client(url, "grapevine-bench-raw-sender") as client:

            async def ours() -> None:
                await transport.publish(name, sealed())
                await arrival("ours")

            async def raw() -> None:
                client.publish(RAW_TOPIC, noise, qos=1)
                await arrival("raw")

            for repetition in range(NUM_WARM_UP + NUM_REPETITIONS):
                await asyncio.sleep(PAUSE_S)
                ours_at_ns = time.monotonic_ns()
                await transport.publish(name, sealed())
                ours_ns = await arrival("ours") - ours_at_ns
                await asyncio.sleep(PAUSE_S)
                raw_at_ns = time.monotonic_ns()
                client.publish(RAW_TOPIC, noise, qos=1)
                raw_ns = await arrival("raw") - raw_at_ns
                if repetition >= NUM_WARM_UP:
                    ours_s.append(ours_ns * 1e-9)
                    raw_s.append(raw_ns * 1e-9)
            cpu_s: dict[str, list[float]] = {"an update, checked": [], "paho alone": []}
            for _ in range(NUM_ROWS):
                for step, found in zip((ours, raw), cpu_s.values(), strict=True):
                    found.append(await _cpu_of_each(process, step))
    return ours_s, raw_s, cpu_s


async def _cpu_of_each(process: psutil.Process, step: Callable[[], Awaitable[None]]) -> float:
    """Seconds of its processor that a process takes for one step, of a row of them."""
    before = process.cpu_times()
    for _ in range(IN_A_ROW):
        await step()
        await asyncio.sleep(PAUSE_S)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / IN_A_ROW


@asynccontextmanager
async def _transport(url: str) -> AsyncIterator[Transport]:
    transport = Transport([BrokerUrl.parse(url)], client_id="grapevine-bench-sender")
    running = asyncio.create_task(transport.run())
    try:
        async for event in transport.events():
            if isinstance(event, Connected):
                break
        yield transport
    finally:
        await transport.disconnect()
        await running


@asynccontextmanager
async def _receiver(url: str, peer: str) -> AsyncIterator[tuple[Callable[[str], Awaitable[int]], psutil.Process]]:
    """The receiving process, and a function that waits for its next message, and says when that was taken in."""
    command = [sys.executable, "-m", "grapevine_lab.bench.receiver", url, DEFAULT_ROOT, peer, str(NUM_PARAMETERS)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = process.stdout

    async def said(kind: str) -> list[str]:
        words: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                words = (await lines.readline()).decode().split()
        if words[:1] != [kind]:
            msg = f"this cannot be measured: the receiver was to say {kind!r}, it said {' '.join(words)!r}"
            raise GrapevineError(msg)
        return words

    async def arrival(kind: str) -> int:
        return int((await said(kind))[1])

    try:
        await said("ready")
        yield arrival, psutil.Process(process.pid)
    finally:
        process.stdin.close()  # it ends when its input does
        await process.wait()


# --- the parts ------------------------------------------------------------------------------------


def _parts(sealed: Callable[[], bytes], topic: InboxTopic, key: SigningKey) -> dict[str, list[float]]:
    """Seconds of what is done to an update at each end, without a broker."""
    payload = sealed()
    covered = signed_bytes(topic.below_root(), payload)  # a few bytes longer than the message inside
    signature = key.sign(covered)
    intake = Intake(layout=layout_of(NUM_PARAMETERS))
    update = open_envelope(payload, topic).message.body
    assert isinstance(update, ModelUpdate)
    steps: dict[str, Callable[[], object]] = {
        "at the sender: encode, hash, sign": sealed,
        "… of which hash and sign": lambda: key.sign(signed_bytes(topic.below_root(), payload)),
        "at the receiver: hash, verify, decode": lambda: open_envelope(payload, topic),
        "… of which hash and verify": lambda: verify(
            key.public_key, signature, signed_bytes(topic.below_root(), payload)
        ),
        "at the receiver: check shape and numbers": lambda: intake.model_of(topic.sender, update),
    }
    seconds: dict[str, list[float]] = {what: [] for what in steps}
    for repetition in range(NUM_WARM_UP + NUM_REPETITIONS):
        for what, step in steps.items():
            started_s = time.perf_counter()
            step()
            if repetition >= NUM_WARM_UP:
                seconds[what].append(time.perf_counter() - started_s)
    return seconds
