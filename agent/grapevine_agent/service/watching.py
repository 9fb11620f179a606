"""What commands wait for: readings of watched tasks, and models that were asked for.

A command asks again and again over a line of single questions and answers, so what arrives in between is
kept here. A task that nobody has asked about for `LEASE_S` is not watched any longer: commands get killed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from grapevine_agent.service.figures import finite
from grapevine_proto.messages import Metrics, ReleasedModel

LEASE_S = 30.0
MAX_READINGS = 2_000  # kept for each task; a command that is slower misses the oldest


@dataclass
class _Watched:
    asked_s: float
    num_heard: int = 0
    readings: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_READINGS))


class Watching:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Watched] = {}
        self._waiting: dict[tuple[str, str], asyncio.Future[ReleasedModel]] = {}

    def since(self, task: str, after: int, now_s: float) -> tuple[int, list[dict[str, Any]]]:
        """The readings after number `after` (0: all that are kept), and the number of the newest; renews the watch."""
        watched = self._tasks.setdefault(task, _Watched(now_s))
        watched.asked_s = now_s
        missed = max(0, watched.num_heard - after)
        return watched.num_heard, list(watched.readings)[-missed:] if missed else []

    def hear(self, peer: str, metrics: Metrics, wall_ms: int) -> None:
        """A member's metrics, or our own."""
        watched = self._tasks.get(metrics.task)
        if watched is not None:
            watched.num_heard += 1
            watched.readings.append(reading_of(peer, metrics, wall_ms))

    def forgotten(self, now_s: float) -> list[str]:
        """The tasks that nobody asks about any longer; they are let go."""
        gone = [task for task, watched in self._tasks.items() if now_s - watched.asked_s > LEASE_S]
        for task in gone:
            del self._tasks[task]
        return gone

    def expect(self, peer: str, task: str) -> asyncio.Future[ReleasedModel]:
        """A future for the model that `peer` was asked for."""
        return self._waiting.setdefault((peer, task), asyncio.get_running_loop().create_future())

    def give_up(self, peer: str, task: str) -> None:
        """Nobody waits for that model any longer."""
        if (future := self._waiting.pop((peer, task), None)) is not None:
            future.cancel()

    def arrived(self, peer: str, released: ReleasedModel) -> None:
        """A model that was asked for."""
        future = self._waiting.pop((peer, released.task), None)
        if future is not None and not future.done():
            future.set_result(released)


def reading_of(peer: str, metrics: Metrics, wall_ms: int) -> dict[str, Any]:
    """One line of `grapevine task watch --json`."""
    return {
        "at_ms": wall_ms,
        "task": metrics.task,
        "peer": peer,
        "round": metrics.round,
        "age": metrics.age,
        "loss": finite(metrics.loss),
        "metric": finite(metrics.metric),
        "num_evaluated": metrics.num_evaluated,
        "baseline": metrics.baseline,
        "baseline_name": metrics.baseline_name,
        "metric_in_units": metrics.metric_in_units,
        "best": asdict(metrics.best) if metrics.best is not None else None,
        "staleness": finite(metrics.staleness),
        "energy_j": finite(metrics.energy_j),
        "round_energy_j": finite(metrics.round_energy_j),
        "is_metered": metrics.is_metered,
        "server": metrics.server,
        "peers": metrics.num_peers,
    }
