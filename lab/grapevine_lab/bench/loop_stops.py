"""`loop_stops`: how long the service's event loop stands while large models come, go, are merged, trained and saved.

Two members on one Mosquitto, each a process with the real service (see `loop_member`), send each other their models as
base and delta or whole, and take rounds of a second as far as they manage. One of them is watched: its loop's longest
stop, by a timer every two milliseconds, and how long its owner waits for `status`, who asks ten times a second.
Watched is from when it has merged and sent for the first time, until it has merged, sent and finished so many rounds
again. Measured is wall time: on a busy machine the scheduler's pauses count as the loop's. How long these are says a
third process, whose loop does nothing but watch itself meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service import pulse
from grapevine_agent.service.shell import AgentService
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.loop_member import LARGEST_PACKET, member
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_proto.errors import GrapevineError

NAME = "loop_stops"
TARGET = Target(limit=50.0, at_most=True)  # ms
SIZES = (1_000_000, 25_000_000)
STRATEGIES = {
    "age-weighted": "whole models, pairwise",
    "doubly-weighted": "whole models, gathered, doubly weighted",
    "delta-sum": "base and delta, gathered",
}
NUM_EVENTS = 3  # merges, updates sent and rounds that are watched at least
EVERY_S = 0.002
ASK_EVERY_S = 0.1
DEADLINE_S = 300.0

missing = why_no_mosquitto


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; about three minutes."""
    found: list[Figure] = []
    for size in SIZES:
        for strategy, what in STRATEGIES.items():
            with (
                tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder,
                MosquittoBroker(max_packet_bytes=LARGEST_PACKET) as broker,
            ):
                found_s, told = asyncio.run(_measure(Path(folder), broker.url, size, strategy))
            stop_s, answer_s, idle_s = found_s
            say(
                f"{size:,} parameters, {what}: stop {stop_s * 1e3:.0f} ms, status {answer_s * 1e3:.0f} ms, "
                f"an idle loop's stop {idle_s * 1e3:.0f} ms; {told}"
            )
            of = f"{size / 1e6:g} M parameters, {what}"
            found += [
                figure(NAME, f"longest stop, {of}", [stop_s], unit="ms", target=TARGET, scale=1e3),
                figure(NAME, f"longest answer to status, {of}", [answer_s], unit="ms", scale=1e3),
                figure(NAME, f"longest stop of an idle loop meanwhile, {of}", [idle_s], unit="ms", scale=1e3),
            ]
    return found


async def _measure(folder: Path, url: str, size: int, strategy: str) -> tuple[tuple[float, float, float], str]:
    folders = [folder / str(number) for number in range(2)]
    for each in folders:
        each.mkdir()
    async with member(0, folders[0], url, size, strategy) as service:
        with _other(folders[1], url, size, strategy):
            await _until(service, (1, 1, 1))
            stops = pulse.Stops()
            before = _counts(service)
            with _idle() as idle:
                watching = asyncio.create_task(pulse.watch(stops, every_s=EVERY_S))
                longest_s = await _until(service, tuple(count + NUM_EVENTS for count in before))
                watching.cancel()  # before that process is waited for
            after = _counts(service)
    told = ", ".join(
        f"{now - then} {what}" for what, now, then in zip(("merged", "sent", "rounds"), after, before, strict=True)
    )
    return (stops.longest_s, longest_s, idle[0]), told


async def _until(service: AgentService, wanted: tuple[int, ...]) -> float:
    """Ask for the status until so much was done; the longest time that an answer took."""
    requests, longest_s, deadline_s = Requests(service), 0.0, time.monotonic() + DEADLINE_S
    while any(count < least for count, least in zip(_counts(service), wanted, strict=True)):
        if time.monotonic() > deadline_s:
            raise GrapevineError(f"this cannot be measured: {_counts(service)} merged, sent, rounds; {wanted} wanted")
        asked_s = time.monotonic()
        await requests.answer({"method": "status"})
        longest_s = max(longest_s, time.monotonic() - asked_s)
        await asyncio.sleep(ASK_EVERY_S)
    return longest_s


def _counts(service: AgentService) -> tuple[int, ...]:
    for learner in service.core.tasks.learning.values():
        return learner.merging.num_merged, learner.num_sent, learner.model.version
    return 0, 0, 0


@contextmanager
def _idle() -> Iterator[list[float]]:
    """The longest stop of a loop in a process of its own that has nothing to do: known when the block has ended."""
    found: list[float] = []
    command = [sys.executable, "-m", "grapevine_lab.bench.loop_stops", str(EVERY_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield found
        said, _ = process.communicate()
    found.append(float(said))


async def _watch_alone(every_s: float) -> float:
    stops = pulse.Stops()
    watching = asyncio.create_task(pulse.watch(stops, every_s=every_s))
    await asyncio.to_thread(sys.stdin.read)
    watching.cancel()
    return stops.longest_s


@contextmanager
def _other(folder: Path, url: str, size: int, strategy: str) -> Iterator[None]:
    """The member that is not watched, until the block ends."""
    leash = [sys.executable, "-m", "grapevine_broker.leash", str(os.getpid())]
    command = [
        *leash,
        sys.executable,
        "-m",
        "grapevine_lab.bench.loop_member",
        "1",
        str(folder),
        url,
        str(size),
        strategy,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=DEADLINE_S)
            process.kill()


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(_watch_alone(float(sys.argv[1])))}\n")
