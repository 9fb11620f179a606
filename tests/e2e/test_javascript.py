"""A client in another language, written from docs/wire-protocol.md alone, takes part beside real agents."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Household, Village, household, village, wait_for
from tests.e2e.test_transfers import wide_task

SOURCE = Path(__file__).with_name("js")
PROTOS = Path(__file__).parents[2] / "proto"
CHUNKS_IN_NOTICE = 64
LONG_INDEX = 26_000  # hidden units: 1,950,010 parameters, 7.8 MB, 66 chunks

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="needs Node.js and npm on this machine: apt-get install nodejs npm",
    ),
]


@dataclass
class Script:
    """The client as a process, and the JSON lines that it wrote."""

    process: subprocess.Popen[bytes]
    out: Path

    def said(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["event"] == event and facts.items() <= line.items()]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def packages(request: pytest.FixtureRequest) -> Path:
    """The node_modules that the lock file names: installed once, as long as it does not change."""
    names = ("package.json", "package-lock.json")
    key = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in names)).hexdigest()[:16]
    assert request.config.cache is not None
    folder = request.config.cache.mkdir(f"javascript-{key}")
    if not (folder / "complete").exists():
        for name in names:
            shutil.copy(SOURCE / name, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install the client's packages: {done.stderr.strip()[-300:]}")
        (folder / "complete").touch()
    return folder / "node_modules"


@contextmanager
def script(home: Household, town: Village, packages: Path) -> Iterator[Script]:
    """The client on its way into the village's task."""
    folder = home.folder / "javascript"
    folder.mkdir()
    for source in SOURCE.glob("*.mjs"):
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(packages)
    reviewers = [f"--reviewer={each.peer}" for each in town.reviewers]
    pace = ["--heartbeat", "0.5", "--send", "1"]
    command = ["node", "client.mjs", home.url, home.root, town.task, "--proto", str(PROTOS), *pace, *reviewers]
    out = folder / "out"
    with out.open("wb") as lines, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=lines, stderr=errors)
    try:
        yield Script(process, out)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert (folder / "errors").read_text() == ""


INT8 = ("[merging]", '[merging]\nencodings = ["int8"]')


@pytest.mark.parametrize(
    ("hidden", "changes"),
    [(None, ()), (None, (INT8,)), (6_000, ()), (LONG_INDEX, ())],
    ids=["one-packet", "int8", "chunks", "chunks-with-an-index-to-ask-for"],
)
def test_a_client_written_from_the_page_learns_with_agents(
    broker: SharedBroker, tmp_path: Path, packages: Path, hidden: int | None, changes: tuple[tuple[str, str], ...]
) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        folder = home.built_task("small", *changes) if hidden is None else wide_task(home, hidden, *changes)
        town = village(home, num_learners=1, folder=folder)
        town.join()
        (learner,) = town.learners

        def rejected() -> Counter[str]:
            status = learner.status()
            assert status is not None
            return Counter(status["rejected"])

        before = rejected()
        with script(home, town, packages) as client:
            wait_for(lambda: client.said("weights"), why="the client has the initial weights")
            peer = client.said("peer")[0]["peer"]
            wait_for(lambda: learner.task(town.task)["peers"] == 1, why="the agent counts on the client")
            wait_for(lambda: peer in learner.task(town.task)["shares"], why="the agent merges what the client sends")
            wait_for(lambda: client.said("update", **{"from": learner.peer}), why="the client takes an update")
            wait_for(
                lambda: client.said("released_model", refusal=""),
                why="the client has the agent's released model",
            )
            assert set(rejected() - before) <= {"no-room"}
            assert client.stop() == 0
            assert client.said("goodbye")
            wait_for(lambda: learner.task(town.task)["peers"] == 0, why="the agent hears the goodbye")

            verified = {line["kind"] for line in client.said("verified")}
            assert verified >= {"announcement", "state", "publication", "review", "heartbeat", "blob", "update"}
            assert client.said("sent", to=learner.peer)
            assert not client.said("dropped")
            assert {line["as"] for line in client.said("update")} == {"int8" if changes else "float32"}
            fetched = client.said("fetched")
            assert {line["kind"] for line in fetched} == (
                set() if hidden is None else {"blob", "update", "released_model"}
            )
            served = client.said("served", to=learner.peer)
            assert bool(served) == (hidden is not None)
            if hidden == LONG_INDEX:
                assert all(line["chunks"] > CHUNKS_IN_NOTICE for line in fetched)
                assert {line["index"] for line in fetched} == {"asked for"}
                assert any(line["index"] for line in served)
                assert max(chunk for line in served for chunk in line["chunks"]) >= CHUNKS_IN_NOTICE
