"""A swarm of real agents with a server, for drills: what is done to the server, and how the swarm is after it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.household import DEADLINE_S, Household, Member, household, wait_for

from grapevine_lab.long_life.agent import set_clock

NUM_LEARNERS = 4
HEARTBEAT_S = 0.5  # of the server
GOOD = 0.8  # accuracy on samples of all ten classes; alone, with four of them, nobody comes beyond 0.4
WORSE = 0.1


@dataclass
class DrilledServer(Member):
    """A server as a process whose wall clock can be set, and that can be frozen."""

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def start(self) -> None:
        command = [sys.executable, "-m", "grapevine_lab.long_life.agent", "server", repr(HEARTBEAT_S)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.config), str(self.clock)], stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.status, within_s=2 * DEADLINE_S, why=f"{self.name} answers")

    def set_clock(self, ahead_s: float) -> None:
        set_clock(self.clock, ahead_s)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def keep_state(self) -> Path:
        """A copy of the state folder, which nobody uses at the moment."""
        kept = self.folder / "kept"
        shutil.copytree(self.folder / "state", kept, ignore=shutil.ignore_patterns("*.sock"))
        return kept

    def put_back(self, kept: Path) -> None:
        shutil.rmtree(self.folder / "state")
        kept.rename(self.folder / "state")


@dataclass(frozen=True)
class Standing:
    """How the learners were at one moment."""

    rounds: tuple[int, ...]
    merges: tuple[int, ...]
    ages: tuple[int, ...]
    accuracies: tuple[float, ...]


@dataclass
class Drilled:
    """The swarm: learners with four of ten classes each, and a server.

    Beside them two keys: a `rogue`'s, which may serve, and a `stranger`'s, which may not.
    """

    home: Household
    learners: list[Member]
    server: DrilledServer
    rogue: Member
    stranger: Member
    task: str
    _rogues: list[subprocess.Popen[bytes]] = field(default_factory=list)

    # --- how the learners are ---------------------------------------------------------------------

    def lines(self) -> list[dict[str, Any]]:
        """What each learner says of the task."""
        return [learner.task(self.task) for learner in self.learners]

    def standing(self) -> Standing:
        lines = self.lines()
        return Standing(
            rounds=tuple(line["round"] for line in lines),
            merges=tuple(line["merges"] for line in lines),
            ages=tuple(line["age"] for line in lines),
            accuracies=tuple(line["metric"] or 0.0 for line in lines),
        )

    def train_on(self, num_rounds: int = 5) -> None:
        """Wait until every learner has come so many rounds further, and has merged meanwhile."""
        start = self.standing()

        def went_on() -> bool:
            now = self.standing()
            rounds = all(new >= old + num_rounds for new, old in zip(now.rounds, start.rounds, strict=True))
            return rounds and all(new > old for new, old in zip(now.merges, start.merges, strict=True))

        wait_for(went_on, why=f"all learners go on from {start}")

    def server_line(self, line: dict[str, Any], peer: str) -> dict[str, Any]:
        return next(each for each in line["servers"] if each["peer"] == peer)

    def wait_for_server(self, *states: str, within_s: float = DEADLINE_S) -> None:
        """Wait until every learner says that the server is in one of these states."""

        def seen() -> list[str]:
            return [self.server_line(line, self.server.peer)["state"] for line in self.lines()]

        wait_for(lambda: set(seen()) <= set(states), within_s=within_s, why=f"the server is one of {states}")

    def wait_for_help(self) -> None:
        """Wait until every learner can reach the server, and its model has a part in what it merges."""
        self.wait_for_server("reachable")
        peer = self.server.peer
        wait_for(lambda: all(line["shares"].get(peer, 0) > 0.2 for line in self.lines()), why="the server counts")
        assert {self.server_line(line, peer)["refused"] for line in self.lines()} == {""}

    def rejected(self) -> Counter[str]:
        """What the learners have dropped, all together, by reason."""
        statuses = [learner.status() or {} for learner in self.learners]
        return sum((Counter(status["rejected"]) for status in statuses), Counter[str]())

    def printed_status(self) -> str:
        """What `grapevine status` prints of the first learner, in one line."""
        told = self.learners[0].ask("status").stdout
        return " ".join(told.replace("│", " ").split())

    @contextmanager
    def unharmed(self) -> Iterator[Standing]:
        """What is done within must leave everybody training, no model lost, and accuracies where they were."""
        before = self.standing()
        yield before
        self.train_on()
        least = [max(GOOD, was - WORSE) if was >= GOOD else was - WORSE for was in before.accuracies]
        wait_for(
            lambda: all(now >= low for now, low in zip(self.standing().accuracies, least, strict=True)),
            why=f"accuracies come back to {least}",
        )
        after = self.standing()
        # Ages are mixed as models are: who was ahead comes back to the others. A model that is lost begins at 0.
        assert min(after.ages) > 0.8 * min(before.ages), f"a model was lost: {before.ages}, then {after.ages}"
        assert all(learner.process is not None and learner.process.poll() is None for learner in self.learners)

    # --- rogues -----------------------------------------------------------------------------------

    @contextmanager
    def serving(self, who: Member, kind: str) -> Iterator[None]:
        """Somebody else says that it serves the task, and publishes models of this kind: see `rogue_server`."""
        arguments = [self.home.url, self.home.root, self.task, str(who.folder / "state"), kind]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.rogue_server", *arguments],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), "it says a model"
                yield
                assert process.poll() is None, "it has spoken until now"
            finally:
                process.kill()

    def refused(self, reason: str) -> bool:
        """Whether every learner names the rogue, and why its newest model was not taken."""
        return all(self.server_line(line, self.rogue.peer)["refused"] == reason for line in self.lines())


@contextmanager
def drilled(folder: Path, url: str, root: str) -> Iterator[Drilled]:
    """Such a swarm, once every learner has come to `GOOD` and merges the server's model."""
    with household(folder, url, root) as home:
        engineer, *reviewers = (home.add(name) for name in ("engineer", "reviewer-1", "reviewer-2"))
        added = home.add("server", role="server", trusted=list(reviewers))
        server = home.members[-1] = DrilledServer(added.name, added.folder, "server")
        rogue, stranger = (home.add(name) for name in ("rogue", "stranger"))
        learners = [
            home.add(f"learner-{k}", digits=k, consent="auto", trusted=list(reviewers)) for k in range(NUM_LEARNERS)
        ]
        started = [engineer, *reviewers, server, *learners]
        with ThreadPoolExecutor(len(started)) as several:
            list(several.map(lambda member: member.start(), started))
        task = home.publish(engineer, home.built_task("digits"), server, rogue)
        home.approve(task, *reviewers)
        for done in (engineer, *reviewers):
            done.stop()
        swarm = Drilled(home, learners, server, rogue, stranger, task)
        wait_for(lambda: all(line.get("age", 0) > 0 for line in swarm.lines()), within_s=180, why="everybody trains")
        swarm.wait_for_help()
        wait_for(lambda: min(swarm.standing().accuracies) > GOOD, within_s=120, why="everybody knows all ten classes")
        try:
            yield swarm
        finally:
            if server.process is not None and server.process.poll() is None:
                os.killpg(server.process.pid, signal.SIGCONT)
