"""Nodes that are processes of their own: started together, heard as one, ended together.

A node is a module of this package, run as `python -m peer_code.MODULE PLAN NUMBER`, that talks like a system does
(see `Harness`): it tells of its rounds, and in the end how well its model does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from .learner import Harness

GOODBYE_S = 5.0
UP_S = 180.0
BESIDE = -1  # in place of a node's number
LISTEN_VARIABLE, MEET_VARIABLE = "BENCH_LISTEN", "BENCH_MEET"


def ports(variable: str) -> list[int]:
    """The ports that the harness has chosen: to listen on, or to meet the others at."""
    return [int(port) for port in os.environ[variable].split(",")]


@dataclass
class _Told:
    """What a node has told so far."""

    rounds: int = 0
    models: int = 0
    num_bytes: int | None = None
    accuracy: float | None = None
    is_ready: bool = False
    has_ended: bool = False


@dataclass
class Crew:
    """The nodes of one run."""

    module: str
    plan: str
    num_nodes: int
    harness: Harness
    beside: Mapping[str, subprocess.Popen[Any]] = field(default_factory=dict)  # they can do nothing without, by name
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _lines: SimpleQueue[tuple[int, str]] = field(default_factory=SimpleQueue)

    def start(self) -> None:
        """Start them all, and tell the harness who they are."""
        for number in range(self.num_nodes):
            command = [sys.executable, "-m", f"{__package__}.{self.module}", self.plan, str(number)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            self._processes.append(process)
            threading.Thread(target=self._read, args=(number, process), daemon=True).start()
        for name, other in self.beside.items():
            threading.Thread(target=self._wait_for, args=(name, other), daemon=True).start()
        self.harness.nodes([process.pid for process in self._processes])

    def hear_all(self, num_rounds: int) -> None:
        """Hear them to the end. A round of the crew is over when the slowest of them has ended it.

        Raises:
            RuntimeError: A node, or what they need beside them, has ended before their rounds were over.
        """
        told, said, was_ready = [_Told() for _ in self._processes], 0, False
        while not all(each.accuracy is not None for each in told):
            number, line = self._lines.get()
            if number == BESIDE:
                raise RuntimeError(f"{line} has ended before the nodes")
            each = told[number]
            _hear(each, line)
            if each.has_ended and each.accuracy is None:
                raise RuntimeError(f"node {number} has ended after {each.rounds} rounds")
            if not was_ready and all(other.is_ready for other in told):
                was_ready = True
                self.harness.ready()
            while said < min(num_rounds, *(other.rounds for other in told)):
                said += 1
                counted = [other.num_bytes for other in told if other.num_bytes is not None]
                num_bytes = sum(counted) if len(counted) == len(told) else None
                self.harness.round_ended(said, models=sum(other.models for other in told), num_bytes=num_bytes)
        self.harness.learned(sum(each.accuracy or 0.0 for each in told) / len(told))

    def end(self) -> None:
        """End whoever is left."""
        end_all(self._processes)

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put((number, line))
        self._lines.put((number, ""))

    def _wait_for(self, name: str, other: subprocess.Popen[Any]) -> None:
        other.wait()
        self._lines.put((BESIDE, name))


def _hear(told: _Told, line: str) -> None:
    try:
        event: Any = json.loads(line) if line else {"event": "end"}
    except ValueError:
        return
    match event:
        case {"event": "ready"}:
            told.is_ready = True
        case {"event": "round", "round": int() as number, "models": models, "bytes": num_bytes}:
            told.rounds, told.models, told.num_bytes = number, models or 0, num_bytes
        case {"event": "learned", "accuracy": float() as accuracy}:
            told.accuracy = accuracy
        case {"event": "end"}:
            told.has_ended = True


@contextmanager
def started(commands: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes beside the nodes, as a broker, while the block runs; what they print goes where errors go."""
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr) for command in commands]
    try:
        yield processes
    finally:
        end_all(processes)


def wait_for(port: int, limit_s: float = UP_S) -> None:
    """Wait until somebody listens there. Raises OSError where nobody does."""
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


def end_all(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """Ask them to end, give them a while, then end them."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_with_parent() -> None:
    """What the harness says to the one that it started, its children hear as an exception."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run_crew(
    module: str,
    plan: str,
    *,
    num_nodes: int,
    num_rounds: int,
    harness: Harness,
    beside: Mapping[str, subprocess.Popen[Any]] | None = None,
) -> None:
    """Start a crew, hear it to its end, end it. `beside` are processes without which it can do nothing, by name."""
    end_with_parent()
    crew = Crew(module=module, plan=plan, num_nodes=num_nodes, harness=harness, beside=beside or {})
    try:
        crew.start()
        crew.hear_all(num_rounds)
    finally:
        crew.end()
