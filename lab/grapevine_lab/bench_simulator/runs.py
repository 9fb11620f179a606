"""One run of one system: start it, listen to it, measure it from outside, end it."""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from grapevine_lab.bench_simulator.processes import ProcessTree
from grapevine_proto.errors import GrapevineError

SAMPLE_INTERVAL_S = 0.1
LOOK_INTERVAL_S = 2.0  # for new processes, in a run that is timed
MIN_ROUNDS = 3  # so that two remain to take the median of
TAIL_LINES = 12


class RunFailedError(GrapevineError):
    """A system ended before its rounds were over, or did not get on with them."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a run may take."""

    rounds_s: float = 60.0  # after this, as many rounds as there are will do
    whole_s: float = 300.0  # after this, it has failed


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to start, with what in its environment beside our own variables."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was measured. Times are CLOCK_MONOTONIC in seconds."""

    started_s: float
    ready_s: float | None
    round_ends_s: tuple[float, ...]
    peak_bytes: int | None = None  # of a run that was not timed
    accuracy: float | None = None

    @property
    def rounds_s(self) -> list[float]:
        """How long each round took but the first."""
        return [end - start for start, end in zip(self.round_ends_s, self.round_ends_s[1:], strict=False)]

    @property
    def round_s(self) -> float:
        """Seconds a round: the median."""
        return statistics.median(self.rounds_s)

    @property
    def start_up_s(self) -> float:
        """What passed until the first round had ended, beyond the time that a round takes."""
        return max(0.0, self.round_ends_s[0] - self.started_s - self.round_s)


@dataclass
class Story:
    """What a system has told of itself so far."""

    ready_s: float | None = None
    round_ends_s: list[float] = field(default_factory=list)
    accuracy: float | None = None

    def hear(self, line: str) -> None:
        """Take a line of its output; what is no event is no concern of ours.

        Raises:
            RunFailedError: Its rounds are out of order: one was left out, or told twice.
        """
        event = _event(line)
        match event:
            case {"event": "ready", "t": int() | float() as moment}:
                self.ready_s = moment
            case {"event": "round", "round": int() as number, "t": int() | float() as moment}:
                if number != len(self.round_ends_s) + 1:
                    raise RunFailedError(f"it told of round {number} after {len(self.round_ends_s)} rounds")
                self.round_ends_s.append(moment)
            case {"event": "learned", "accuracy": int() | float() as accuracy}:
                self.accuracy = accuracy


def run(
    command: Command,
    *,
    num_rounds: int,
    num_cores: int,
    log: Path,
    weigh: bool = False,
    patience: Patience | None = None,
) -> Run:
    """Run a system to its last round, or for as long as we have the patience.

    Args:
        command: What to start.
        num_rounds: How many rounds it has been told to run.
        num_cores: How many cores it gets.
        log: Where its standard error goes.
        weigh: Ask for its memory all the time, which slows it down: its times are worth nothing then.
        patience: When to stop it.

    Raises:
        RunFailedError: With the end of its log.
    """
    patience = patience or Patience()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    started_s = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(command.environment),
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, lines))
        reader.start()
        tree = ProcessTree(process.pid)
        try:
            tree.pin(num_cores)
            story, peak_bytes = _watch(process, tree, lines, num_rounds, started_s, patience, weigh)
        except RunFailedError as error:
            raise RunFailedError(f"{error}{_tail(log)}") from None
        finally:
            tree.end()
            process.wait()
            reader.join()
            process.stdout.close()
    return Run(
        started_s=started_s,
        ready_s=story.ready_s,
        round_ends_s=tuple(story.round_ends_s),
        peak_bytes=peak_bytes,
        accuracy=story.accuracy,
    )


def _watch(
    process: subprocess.Popen[str],
    tree: ProcessTree,
    lines: queue.SimpleQueue[str],
    num_rounds: int,
    started_s: float,
    patience: Patience,
    weigh: bool,
) -> tuple[Story, int | None]:
    story, peak_bytes = Story(), 0 if weigh else None
    looked_s = started_s
    while True:
        ended = process.poll() is not None
        if peak_bytes is not None:
            if not ended and len(story.round_ends_s) < num_rounds:  # what comes after is no part of the comparison
                peak_bytes = max(peak_bytes, tree.memory_bytes())
        elif time.monotonic() > looked_s + LOOK_INTERVAL_S:
            tree.look()
            looked_s = time.monotonic()
        _hear_all(lines, story, SAMPLE_INTERVAL_S)
        enough = len(story.round_ends_s) >= MIN_ROUNDS
        if ended:
            if process.returncode != 0 or len(story.round_ends_s) < num_rounds:
                raise RunFailedError(
                    f"it ended with status {process.returncode} after {len(story.round_ends_s)} of {num_rounds} rounds"
                )
            return story, peak_bytes or None  # never seen: not measured
        now_s = time.monotonic()
        rounds_began_s = started_s if story.ready_s is None else story.ready_s
        if enough and now_s > rounds_began_s + patience.rounds_s:
            return story, peak_bytes or None  # never seen: not measured
        if now_s > started_s + patience.whole_s:
            raise RunFailedError(f"{len(story.round_ends_s)} rounds after {patience.whole_s:g} s")


def _hear_all(lines: queue.SimpleQueue[str], story: Story, wait_s: float) -> None:
    """Hear what has been said; then stay for `wait_s`, so that memory is sampled at a steady pace."""
    until_s = time.monotonic() + wait_s
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            story.hear(lines.get(timeout=left_s))
        except queue.Empty:
            return


def _read(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line)


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours, less what would lead another interpreter to our packages."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | {"PYTHONUNBUFFERED": "1", **extra}


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "; the end of its log:\n" + "\n".join(lines[-TAIL_LINES:]) if lines else ""
