"""`server_folding`: how many updates a second one server folds into its model, against memory and against Flower.

A *fold* is a server strategy's own part: 20 members' updates given to it, one after the other, and the model that it
makes of them. The *whole accept* is the aggregator's: checks, what is believed of claims, the guards, the fold, and
once for the 20 the model that is published. Messages are decoded already; reading them is another benchmark
(`update_over_mosquitto`).

Whatever holds one sum for all members has to move 12 bytes for each parameter of an update: read it, read the sum,
write the sum. So many are counted for each strategy, also where it moves more (a delta with a base of its own). Two
raw limits stand beside them, measured in turns in the same process:

    copy    `np.copyto` between two arrays of 100 MB, which no cache holds: the speed of memory
    plain   sum += weight · update over the very same updates, NumPy's two operations, block by block, in place

All of it is the work of one thread, and its CPU time is what counts: other work on the machine then disturbs it less.
Of 55,338 parameters the 20 updates lie in a large machine's cache, and a fold may be faster than memory. Flower's
functions get the same arrays, each as one array, which suits them: a model of many layers takes them longer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from grapevine_lab.bench.figures import Figure, Finding, Skipped, Target, bandwidth_share, figure
from grapevine_lab.bench.server_flower import FLOWER, SCRIPT, Beside, NoAnswerError, beside
from grapevine_lab.bench.server_members import NUM_MEMBERS, Accepting, Folding, updates_of
from grapevine_lab.bench_simulator.peers import PeerMissingError, Say, ensure_installed, environments_folder
from grapevine_proto.messages import Vector

NAME: Final = "server_folding"
SIZES: Final = {55_338: 12, 1_000_000: 1}  # parameters, and how often the 20 are folded in one repetition
STRATEGIES: Final = ("doubly-weighted", "fedavg", "fedasync", "fedbuff")
OF_MEMORY = Target(limit=0.5, at_most=False)
OF_FLOWER = Target(limit=3.0, at_most=False)
NUM_REPETITIONS: Final = 15
LEAST_BYTES: Final = 12  # a parameter: see the module's docstring
COPIED: Final = 25_000_000  # floats
COPY_BYTES: Final = 8  # a float, read and written
BLOCK: Final = 1 << 14  # floats of the plain pass: 64 KiB, and as much of the sum
WAYS: Final = {
    "records": "Flower's FedAvg of today (aggregate_arrayrecords)",
    "in place": "Flower's FedAvg before (aggregate_inplace)",
    "arrays": "Flower's aggregate, of arrays",
}
FASTEST: Final = "Flower's fastest"


def missing() -> str:
    """Why this machine cannot hold the arrays; empty if it can."""
    needed = 4.0 * (2 * COPIED + 8 * NUM_MEMBERS * max(SIZES))
    available = psutil.virtual_memory().available
    return (
        "" if available > needed else f"needs {needed / 1e9:.1f} GB of free memory, {available / 1e9:.1f} GB are free"
    )


def run(say: Say) -> Sequence[Finding]:
    """Measure both sizes; about a minute, and what installing Flower takes the first time."""
    python: Path | None = None
    without: list[Finding] = []
    try:
        python = ensure_installed(FLOWER, environments_folder(), say).python
    except PeerMissingError as error:
        without = [Skipped(name=NAME, reason=f"beside Flower: {error}")]
    findings: list[Finding] = []
    for num_parameters, times in SIZES.items():
        say(f"{NUM_MEMBERS} updates of {num_parameters:,} parameters, {NUM_REPETITIONS} times")
        findings += measure(num_parameters, times, python, NUM_REPETITIONS)
    return findings + without


def measure(num_parameters: int, times: int, python: Path | None, num_repetitions: int) -> list[Figure]:
    """The figures of one size; without `python`, an interpreter that has Flower, those beside it are left out."""
    updates = updates_of(num_parameters)
    with _flower(python, updates.vectors) as flower:
        turns = Turns(updates=updates.vectors, times=times, flower=flower)
        folds = {name: Folding.of(name, updates) for name in STRATEGIES}
        if flower is not None:
            _check_same(folds["fedavg"].fold()[0], flower.mean)
        wholes = {name: Accepting.of(name, updates) for name in STRATEGIES}
        for repetition in range(num_repetitions + 1):  # the first warms up
            turns.take(folds, wholes, counts=repetition > 0)
    return turns.figures(f"{num_parameters:,}")


@dataclass(kw_only=True)
class Turns:
    """What was measured in turns: seconds of 20 updates by what was done with them, and ratios of neighbours."""

    updates: Sequence[Vector]
    times: int
    flower: Beside | None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.updates[0].size
        self._from, self._into = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
        self._sum, self._scratch = np.zeros(size, np.float32), np.empty(min(size, BLOCK), np.float32)

    def take(self, folds: dict[str, Folding], wholes: dict[str, Accepting], *, counts: bool) -> None:
        """One repetition: every fold with both limits beside it. It is kept if it `counts`."""
        num_bytes = LEAST_BYTES * self._sum.size * len(self.updates)
        for name, folding in folds.items():
            copy_s = seconds_of(lambda: np.copyto(self._into, self._from))
            plain_s = seconds_of(self._plain, self.times)
            fold_s = folding.seconds(self.times)
            whole_s = wholes[name].seconds(self.times)
            found = {"copy": copy_s, "plain": plain_s, name: fold_s, f"{name} whole": whole_s}
            shares = {
                (name, "copy"): bandwidth_share(num_bytes, fold_s, COPY_BYTES * COPIED, copy_s),
                (name, "plain"): plain_s / fold_s,
            }
            if self.flower is not None and name == "fedavg":
                flower_s = self.flower.seconds(self.times)
                found |= flower_s
                shares[name, FASTEST] = min(flower_s.values()) / fold_s
            if counts:
                for what, taken_s in found.items():
                    self.seconds.setdefault(what, []).append(taken_s)
                for pair, share in shares.items():
                    self.ratios.setdefault(pair, []).append(share)

    def _plain(self) -> None:
        weight = np.array(1 / len(self.updates), np.float32)
        for update in self.updates:
            for start in range(0, update.size, BLOCK):
                part = update[start : start + BLOCK]
                total, scaled = self._sum[start : start + BLOCK], self._scratch[: part.size]
                np.multiply(part, weight, out=scaled)
                np.add(total, scaled, out=total)

    def figures(self, size: str) -> list[Figure]:
        """All that was measured, for so many parameters."""

        def a_second(what: str) -> list[float]:
            return [len(self.updates) / taken_s for taken_s in self.seconds[what]]

        per_s, copied = "updates/s", [COPY_BYTES * COPIED / taken_s for taken_s in self.seconds["copy"]]
        found = [
            figure(NAME, f"{size}: memory, bytes copied", copied, unit="GB/s", scale=1e-9),
            figure(NAME, f"{size}: plain pass", a_second("plain"), unit=per_s),
        ]
        for name in STRATEGIES:
            found += [
                figure(NAME, f"{size}: {name}, folded", a_second(name), unit=per_s),
                figure(NAME, f"{size}: {name}, whole accept", a_second(f"{name} whole"), unit=per_s),
                figure(NAME, f"{size}: {name}, least bytes / copy", self.ratios[name, "copy"], target=OF_MEMORY),
                figure(NAME, f"{size}: {name} / plain pass", self.ratios[name, "plain"]),
            ]
        if self.flower is not None:
            found += [figure(NAME, f"{size}: {said}", a_second(way), unit=per_s) for way, said in WAYS.items()]
            ratios = self.ratios["fedavg", FASTEST]
            found.append(figure(NAME, f"{size}: fedavg, folded / {FASTEST}", ratios, target=OF_FLOWER))
        return found


def seconds_of(work: Callable[[], object], times: int = 1) -> float:
    """CPU time of one call, of so many."""
    started_s = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - started_s) / times


@contextmanager
def _flower(python: Path | None, updates: Sequence[Vector]) -> Iterator[Beside | None]:
    if python is None:
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder,
        beside(python, updates, Path(folder), SCRIPT) as one,
    ):
        yield one


def _check_same(ours: Vector, theirs: Vector) -> None:
    """Raise `NoAnswerError` where the two means are not the same: then they are not the same work."""
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
        raise NoAnswerError("Flower's mean of the same updates is another than ours: the two cannot be compared")
