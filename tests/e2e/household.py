"""Real agents as processes, driven by the real command, on a real broker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tests.swarm.digits import built_digits, samples_of

from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE, NoAnswerError, NoServiceError
from grapevine_agent.identity import first_identity, load_identity

DEADLINE_S = 60.0
T = TypeVar("T")


def wait_for(what: Callable[[], T], *, within_s: float = DEADLINE_S, why: str = "") -> T:
    """The first true value of `what`; an AssertionError after the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        if value := what():
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {why or what}"
        time.sleep(0.2)


@dataclass
class Member:
    """One peer: its folder, its configuration, and its process while it runs."""

    name: str
    folder: Path
    role: str = "agent"
    process: subprocess.Popen[bytes] | None = None

    @property
    def peer(self) -> str:
        return load_identity(self.folder / "state").peer_id

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "grapevine_agent", self.role, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self.status, within_s=2 * DEADLINE_S, why=f"{self.name} answers")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def ask(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `grapevine ARGUMENTS --config …` of this peer."""
        done = subprocess.run(
            [sys.executable, "-m", "grapevine_agent", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def request(self, method: str, **params: Any) -> Any:
        """Ask the running agent through its socket, as the commands do, without starting one."""
        return call(self.folder / "state" / SOCKET_FILE, method, params)

    def status(self) -> dict[str, Any] | None:
        try:
            status: dict[str, Any] = self.request("status")
        except (NoServiceError, NoAnswerError):
            return None
        return status

    def task(self, task: str) -> dict[str, Any]:
        status = self.status()
        assert status is not None, self.log()
        return next((line for line in status["tasks"] if line["id"] == task), {})


@dataclass
class Household:
    """Members that share a broker and a topic root."""

    folder: Path
    url: str
    root: str
    members: list[Member] = field(default_factory=list)

    def add(
        self,
        name: str,
        *,
        digits: int | None = None,
        consent: str = "never",
        trusted: list[Member] | None = None,
        role: str = "agent",
        data_kind: str = "digits-8x8",
        extra: str = "",
        disk: Path | None = None,
    ) -> Member:
        """A new peer with its key, as `grapevine init` makes it; `disk` is where its state goes, if not beside it."""
        folder = self.folder / name
        folder.mkdir()
        if disk is not None:
            (folder / "state").symlink_to(disk)
        first_identity(folder / "state")
        member = Member(name, folder, role)
        trusted_ids = json.dumps([each.peer for each in trusted or []])
        lines = [
            f'[agent]\nname = "{name}"\nstate_dir = "{folder / "state"}"\nconsent = "{consent}"\nlog_level = "debug"',
            f'[mqtt]\nbrokers = ["{self.url}"]\nroot = "{self.root}"\nheartbeat_s = 0.5',
            f"[review]\napprovals = 2\ntrusted = {trusted_ids}",
            f"[limits]\ncores = 32\nthreads = 1\nsave_every_s = 5\n{extra}",
        ]
        if digits is not None:
            own = samples_of(digits)
            pixels = 16
            np.savez(
                folder / "digits.npz",
                x=own.x * pixels,
                y=own.y,
                x_test=np.asarray(own.x_test) * pixels,
                y_test=own.y_test,
            )
            lines.append(f'[[data]]\nkind = "{data_kind}"\npath = "digits.npz"')
        member.config.write_text("\n".join(lines))
        self.members.append(member)
        return member

    def built_task(self, name: str, *changes: tuple[str, str], model: str = "") -> Path:
        """A built copy of the catalogue's digits, with pieces of its task.toml replaced, or of another model."""
        from grapevine_agent.merge.plan import check_merge_plan
        from grapevine_tasks.authoring.build import build_task
        from grapevine_tasks.catalogue import catalogue_task

        folder = self.folder / name
        shutil.copytree(catalogue_task("digits"), folder)
        text = (folder / "task.toml").read_text()
        for old, new in (('name = "Handwritten digits"', f'name = "{name}"'), *changes):
            assert old in text
            text = text.replace(old, new)
        (folder / "task.toml").write_text(text)
        if model:
            (folder / "model.py").write_text(model)
        build_task(folder, check_merging=check_merge_plan)
        return folder

    def publish(self, engineer: Member, folder: Path, *servers: Member) -> str:
        options = [option for server in servers for option in ("--server", server.peer)]
        done = engineer.ask("task", "publish", str(folder), "--json", *options)
        task: str = json.loads(done.stdout)["task"]
        return task

    def approve(self, task: str, *reviewers: Member) -> None:
        for reviewer in reviewers:
            wait_for(lambda reviewer=reviewer: reviewer.task(task), why="the reviewer hears of the task")  # type: ignore[misc]
            reviewer.ask("review", "approve", task)

    def close(self) -> None:
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                os.killpg(member.process.pid, signal.SIGKILL)
                member.process.wait()


@contextmanager
def household(folder: Path, url: str, root: str) -> Iterator[Household]:
    built_digits()  # once, before anything is timed
    home = Household(folder, url, root)
    try:
        yield home
    finally:
        home.close()


@dataclass
class Village:
    """The usual cast, running: an engineer, two reviewers, learners, and a task that was published."""

    home: Household
    engineer: Member
    reviewers: list[Member]
    learners: list[Member]
    task: str

    def join(self) -> None:
        """Approve the task and wait until everybody trains."""
        self.home.approve(self.task, *self.reviewers)
        for learner in self.learners:
            wait_for(lambda learner=learner: learner.task(self.task).get("age", 0) > 0, why=f"{learner.name} trains")  # type: ignore[misc]


def village(
    home: Household,
    *,
    num_learners: int = 2,
    servers: tuple[Member, ...] = (),
    folder: Path | None = None,
    extra: str = "",
) -> Village:
    engineer, *reviewers = (home.add(name) for name in ("engineer", "reviewer-1", "reviewer-2"))
    learners = [
        home.add(f"learner-{k}", digits=k, consent="auto", trusted=list(reviewers), extra=extra)
        for k in range(num_learners)
    ]
    for member in (engineer, *reviewers, *learners):
        member.start()
    task = home.publish(engineer, folder or home.built_task("digits"), *servers)
    return Village(home, engineer, list(reviewers), learners, task)
