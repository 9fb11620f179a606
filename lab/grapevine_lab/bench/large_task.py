"""`large_task`: five real agents learn a model of 25 million parameters together, over one Mosquitto.

Each is a `grapevine agent run` with a trainer of its own; only the engineer's agent has the weights, 100 MB, and they
and all updates travel in chunks. Watched, once everybody has joined: each service's memory (RSS, in models of 100 MB
beyond what it took before it knew of a task), and the longest time that its event loop stood still.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE, NoAnswerError, NoServiceError
from grapevine_agent.identity import first_identity
from grapevine_broker import start_broker
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.bench.service import running_service, task_line
from grapevine_lab.demo.cast import DATA_KIND
from grapevine_lab.demo.samples import write_shares
from grapevine_lab.demo.tasks import copy_task
from grapevine_proto.errors import GrapevineError

NAME = "large_task"
NUM_AGENTS = 5
NUM_HIDDEN = 4_960
NUM_PARAMETERS = (64 + NUM_HIDDEN + 2 + 10) * NUM_HIDDEN + 10
ROUND_S = 30.0
UPLOAD_MB_PER_S = 40.0  # ten times what owners lend if they say nothing: five models a round, of 100 MB each
JOIN_S = 600.0
WATCH_S = 240.0
MODELS_TARGET = Target(limit=4.0, at_most=True)
STOP_TARGET = Target(limit=50.0, at_most=True)

missing = why_no_mosquitto


@dataclass(frozen=True)
class _Agent:
    name: str
    peer: str
    config: Path
    process: psutil.Process

    def ask(self, method: str, **params: Any) -> Any:
        return call(self.config.parent / "state" / SOCKET_FILE, method, params)

    def status(self) -> dict[str, Any]:
        with suppress(NoServiceError, NoAnswerError):  # it is starting
            found: dict[str, Any] = self.ask("status")
            return found
        return {}


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure; about eight minutes."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder, start_broker("mosquitto") as broker:
        say(f"building a task of {NUM_PARAMETERS:,} parameters")
        task_folder = _built(Path(folder) / "task")
        with _agents(Path(folder), broker.url) as (engineer, reviewers, learners):
            before = {each.name: each.process.memory_info().rss for each in learners}
            task = engineer.ask("publish", folder=str(task_folder), servers=[])["task"]
            for reviewer in reviewers:
                _until(lambda r=reviewer: task_line(r.status(), task), 60.0, "the reviewer hears of the task")  # type: ignore[misc]
                reviewer.ask("review", task=task, approved=True)
            began_s = time.monotonic()
            _until(
                lambda: all(task_line(each.status(), task).get("age", 0) > 0 for each in learners),
                JOIN_S,
                "everybody trains",
            )
            say(f"everybody trains after {time.monotonic() - began_s:.0f} s; watching for {WATCH_S:g} s")
            return _watch(learners, task, before, say)


def _watch(learners: list[_Agent], task: str, before: dict[str, int], say: Callable[[str], None]) -> list[Figure]:
    most: dict[str, int] = dict(before)
    ends_s = time.monotonic() + WATCH_S
    while time.monotonic() < ends_s:
        for each in learners:
            most[each.name] = max(most[each.name], each.process.memory_info().rss)
        time.sleep(0.1)
    last = [each.status() for each in learners]
    merges = [task_line(status, task)["merges"] for status in last]
    say(f"merges {merges}, dropped {[status['rejected'] for status in last]}")
    if min(merges) < 1:
        raise GrapevineError(f"not all have merged anything: {merges}")
    model_bytes = 4 * NUM_PARAMETERS
    models = [(most[each.name] - before[each.name]) / model_bytes for each in learners]
    stops = [status["longest_stop_ms"] for status in last]
    what = f"{NUM_AGENTS} agents, {NUM_PARAMETERS / 1e6:.0f} M parameters"
    return [
        figure(NAME, f"memory of a service at its peak, in models, {what}", models, target=MODELS_TARGET),
        figure(NAME, f"longest stop of the loop, {what}", stops, unit="ms", target=STOP_TARGET),
        figure(NAME, f"merges of each in {WATCH_S:g} s", [float(each) for each in merges]),
    ]


def _built(folder: Path) -> Path:
    copy_task(folder)
    model, task = folder / "model.py", folder / "task.toml"
    first, second = f"nn.Linear(64, {NUM_HIDDEN})", f"nn.Linear({NUM_HIDDEN}, {NUM_HIDDEN})"
    text = model.read_text().replace("nn.Linear(64, 64)", f"{first}, nn.ReLU(), {second}")
    model.write_text(text.replace("nn.Linear(64, 10)", f"nn.Linear({NUM_HIDDEN}, 10)"))
    lines = [
        f"round_interval_s = {ROUND_S}" if line.startswith("round_interval_s") else line
        for line in task.read_text().splitlines()
    ]
    task.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "grapevine_agent", "task", "build", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return folder


@contextmanager
def _agents(folder: Path, url: str) -> Iterator[tuple[_Agent, list[_Agent], list[_Agent]]]:
    """An engineer, two reviewers and the learners, running."""
    shares = write_shares(folder, NUM_AGENTS, seed=0)
    with ExitStack() as stack:

        def person(name: str, consent: str, *sections: str) -> _Agent:
            own = folder / name
            own.mkdir(exist_ok=True)
            peer = first_identity(own / "state").peer_id
            config = own / "agent.toml"
            head = f'[agent]\nname = "{name}"\nstate_dir = "state"\nconsent = "{consent}"\n[mqtt]\nbrokers = ["{url}"]'
            config.write_text(
                "\n".join(
                    [
                        head,
                        *sections,
                        f"[limits]\nthreads = 1\nmemory_mb = 6000\ncores = 8\nupload_mb_per_s = {UPLOAD_MB_PER_S}\n",
                    ]
                )
            )
            agent = _Agent(name, peer, config, stack.enter_context(running_service(config, own / "log")))
            _until(agent.status, 60.0, f"{name} answers")
            return agent

        engineer, *reviewers = (person(name, "never") for name in ("engineer", "reviewer-1", "reviewer-2"))
        trusted = json.dumps([each.peer for each in reviewers])
        learners = [
            person(
                f"learner-{number}",
                "auto",
                f"[review]\ntrusted = {trusted}",
                f"[[data]]\nkind = {json.dumps(DATA_KIND)}\npath = {json.dumps(str(share.path))}",
            )
            for number, share in enumerate(shares)
        ]
        yield engineer, list(reviewers), learners


def _until(what: Callable[[], object], within_s: float, why: str) -> None:
    ends_s = time.monotonic() + within_s
    while not what():
        if time.monotonic() > ends_s:
            raise GrapevineError(f"this cannot be measured: not within {within_s:g} s: {why}")
        time.sleep(0.5)
