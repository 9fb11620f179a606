"""One run of one system: start it, listen to it, measure it from outside, end it."""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

from grapevine_lab.bench_simulator.processes import ProcessTree, Weighed
from grapevine_proto.errors import GrapevineError

SAMPLE_INTERVAL_S = 0.1
LOOK_INTERVAL_S = 2.0  # for new processes, in a run that is timed
MIN_ROUNDS = 3  # so that two remain to take the median of
TAIL_LINES = 12


class RunFailedError(GrapevineError):
    """A system ended before its rounds were over, or did not get on with them."""


Lines: TypeAlias = queue.SimpleQueue[tuple[str, int | None]]  # of its output, with what had been carried by then
Carried: TypeAlias = Callable[[], int]  # bytes that have passed the lines between the nodes so far


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a run may take."""

    rounds_s: float = 60.0  # after this, as many rounds as there are will do
    whole_s: float = 300.0  # after this, it has failed


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What had passed between the nodes when a round ended, since the run began. None: nobody counted."""

    num_bytes: int | None = None
    num_models: int | None = None  # each time that one crosses a line: twice on its way through a broker or a server


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to start, with what in its environment beside our own variables."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None  # that it runs in; None: ours


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was measured. Times are CLOCK_MONOTONIC in seconds."""

    started_s: float
    ready_s: float | None
    round_ends_s: tuple[float, ...]
    peak_bytes: int | None = None  # of a run that was not timed
    node_bytes: float | None = None  # of memory, of one node: the whole over their number where they are no processes
    traffic: tuple[Traffic, ...] = ()  # when each round ended
    accuracy: float | None = None

    @property
    def bytes_a_round(self) -> float | None:
        """That pass between the nodes in a round, all of them together; the first round is left out."""
        return self._a_round([each.num_bytes for each in self.traffic])

    @property
    def models_a_round(self) -> float | None:
        """That cross a line between the nodes in a round; the first round is left out."""
        return self._a_round([each.num_models for each in self.traffic])

    def _a_round(self, counted: Sequence[int | None]) -> float | None:
        known = [each for each in counted if each is not None]
        return (known[-1] - known[0]) / (len(known) - 1) if len(known) == len(counted) and len(known) > 1 else None

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
    traffic: list[Traffic] = field(default_factory=list)
    node_pids: tuple[int, ...] = ()
    accuracy: float | None = None

    def hear(self, line: str, carried: int | None = None) -> None:
        """Take a line of its output; what is no event is no concern of ours.

        Args:
            line: One line.
            carried: Bytes that had passed between the nodes when it was said, where somebody counts them. A system
                that counts by itself does so because the lines see nothing of it.

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
                told_bytes, models = event.get("bytes"), event.get("models")
                self.traffic.append(Traffic(num_bytes=carried if told_bytes is None else told_bytes, num_models=models))
            case {"event": "nodes", "pids": [*pids]}:
                self.node_pids = tuple(pid for pid in pids if isinstance(pid, int))
            case {"event": "learned", "accuracy": int() | float() as accuracy}:
                self.accuracy = accuracy


def run(
    command: Command,
    *,
    num_rounds: int,
    num_cores: int,
    log: Path,
    weigh: bool = False,
    carried: Carried | None = None,
    patience: Patience | None = None,
) -> Run:
    """Run a system to its last round, or for as long as we have the patience.

    Args:
        command: What to start.
        num_rounds: How many rounds it has been told to run.
        num_cores: How many cores it gets.
        log: Where its standard error goes.
        weigh: Ask for its memory all the time, which slows it down: its times are worth nothing then.
        carried: Says what has passed between the nodes; asked whenever the system says something.
        patience: When to stop it.

    Raises:
        RunFailedError: With the end of its log.
    """
    patience = patience or Patience()
    lines: Lines = queue.SimpleQueue()
    started_s = time.monotonic()
    with log.open("wb") as errors:
        process = _started(command, errors)
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, lines, carried))
        reader.start()
        tree = ProcessTree(process.pid)
        try:
            tree.pin(num_cores)
            story, weighed = _watch(process, tree, lines, num_rounds, started_s, patience, weigh)
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
        peak_bytes=weighed.whole or None,  # never seen: not measured
        node_bytes=weighed.nodes / len(story.node_pids) if story.node_pids and weighed.nodes else None,
        traffic=tuple(story.traffic),
        accuracy=story.accuracy,
    )


def _started(command: Command, errors: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command.arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=_environment(command.environment),
        cwd=command.folder,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def _watch(
    process: subprocess.Popen[str],
    tree: ProcessTree,
    lines: Lines,
    num_rounds: int,
    started_s: float,
    patience: Patience,
    weigh: bool,
) -> tuple[Story, Weighed]:
    story, weighed = Story(), Weighed()
    looked_s = started_s
    while True:
        ended = process.poll() is not None
        if weigh:
            if not ended and len(story.round_ends_s) < num_rounds:  # what comes after is no part of the comparison
                weighed = weighed.or_more(tree.weigh(story.node_pids))
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
            return story, weighed
        now_s = time.monotonic()
        rounds_began_s = started_s if story.ready_s is None else story.ready_s
        if enough and now_s > rounds_began_s + patience.rounds_s:
            return story, weighed
        if now_s > started_s + patience.whole_s:
            raise RunFailedError(f"{len(story.round_ends_s)} rounds after {patience.whole_s:g} s")


def _hear_all(lines: Lines, story: Story, wait_s: float) -> None:
    """Hear what has been said; then stay for `wait_s`, so that memory is sampled at a steady pace."""
    until_s = time.monotonic() + wait_s
    while (left_s := until_s - time.monotonic()) > 0:
        try:
            story.hear(*lines.get(timeout=left_s))
        except queue.Empty:
            return


def _read(stream: IO[str], lines: Lines, carried: Carried | None) -> None:
    for line in stream:
        lines.put((line, None if carried is None else carried()))


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
