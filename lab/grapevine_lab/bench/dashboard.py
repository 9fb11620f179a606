"""`dashboard`: what its server takes, in memory and CPU, and what it sends to one page, with 200 and 2,000 peers.

The real command replays made events as fast as their times say; each peer ends a round every four seconds, and sends
two updates. One page looks on. It is measured once all have been heard of for a while.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.made_events import MadeSwarm

NAME: Final = "dashboard"
SIZES: Final = (200, 2_000)
SETTLE_S: Final = 15.0
MEASURED_S: Final = 20.0
SPAN_S: Final = 60.0  # of the events: longer than is measured
MB_TARGET: Final = Target(limit=150.0, at_most=True)
CPU_TARGET: Final = Target(limit=15.0, at_most=True)  # percent of a core, of 200 peers


def missing() -> str:
    """What this needs and is not there."""
    names = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(names)} not installed" if names else ""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; about a minute and a half."""
    found = []
    for num in SIZES:
        memory_mb, cpu, kilobytes = _measured(num)
        what = f"{num:,} peers"
        cpu_target = CPU_TARGET if num == SIZES[0] else None
        found += [
            figure(NAME, f"{what}: memory", [memory_mb], unit="MB", target=MB_TARGET),
            figure(NAME, f"{what}: CPU of a core", [cpu], unit="%", target=cpu_target),
            figure(NAME, f"{what}: sent to a page, a second", [kilobytes], unit="kB"),
        ]
        say(f"{what}: {memory_mb:.0f} MB, {cpu:.1f} %, {kilobytes:.0f} kB a second")
    return found


def _measured(num_peers: int) -> tuple[float, float, float]:
    """MB, percent of a core, kB a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps(each) + "\n" for each in MadeSwarm(num_peers).events(SPAN_S))
        words = ("dashboard", "--replay", str(path), "--speed", "1", "--port", "0", "--no-open")
        process = subprocess.Popen([sys.executable, "-m", "grapevine_agent", *words], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline())
            assert address is not None
            page = _Page(address[0])
            threading.Thread(target=page.read, daemon=True).start()
            time.sleep(SETTLE_S)
            child = psutil.Process(process.pid)
            before, bytes_before, began_s = child.cpu_times(), page.num_bytes, time.monotonic()
            time.sleep(MEASURED_S)
            after, took_s = child.cpu_times(), time.monotonic() - began_s
            cpu = after.user + after.system - before.user - before.system
            return (
                child.memory_info().rss / 1e6,
                100 * cpu / took_s,
                (page.num_bytes - bytes_before) / took_s / 1e3,
            )
        finally:
            process.kill()
            process.wait()


class _Page:
    """Somebody who looks on."""

    def __init__(self, url: str) -> None:
        self.num_bytes = 0
        self._url = url

    def read(self) -> None:
        """Take all that comes, until the other side ends."""
        try:
            with urllib.request.urlopen(f"{self._url}api/stream") as stream:  # noqa: S310 - our own
                while part := stream.read1(65_536):
                    self.num_bytes += len(part)
        except (OSError, http.client.HTTPException):
            return  # it was ended
