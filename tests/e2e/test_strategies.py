"""Every merge strategy, members' and servers', in a task of live agents on Mosquitto; some on the embedded broker too.

How a model is merged does not depend on the broker that brought it, and a task takes a trainer with PyTorch in each
learner: all of them on both brokers would be a hundred. So the tasks are taken one after another: each is approved when
its turn comes and left when its members have merged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.conftest import ENGINES
from tests.e2e.household import Household, Member, Village, household, village, wait_for

from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_broker import RunningBroker
from grapevine_broker.mosquitto import MosquittoBroker


@dataclass
class Stage:
    """A household that stays up for all the tests of a broker, with a published task for each strategy."""

    home: Household
    town: Village
    server: Member
    tasks: dict[str, str]  # the name of a member's or (with "server ") a server's strategy → task

    @contextmanager
    def learning(self, strategy: str) -> Iterator[str]:
        """The task by this strategy, approved; its learners leave it at the end."""
        task = self.tasks[strategy]
        for reviewer in self.town.reviewers:
            wait_for(lambda reviewer=reviewer: reviewer.task(task))  # type: ignore[misc]
            reviewer.request("review", task=task, approved=True)
        try:
            yield task
        finally:
            for learner in self.town.learners:
                learner.request("consent", task=task, joined=False)


FEW = ["average", "chisme", "delta-sum"]
FEW_SERVERS = ["fedavg"]


# By broker first: pytest makes a broker, and all that runs on it, anew where its parameters come mixed with others.
ON_EMBEDDED, ON_MOSQUITTO = (
    pytest.mark.parametrize("shared_engine", [engine], indirect=True, scope="session") for engine in ENGINES
)
MEMBERS = sorted(set(STRATEGIES) - {"follow-server"})  # whose members need a server


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A task folder for each strategy, built once for both brokers."""
    home = Household(tmp_path_factory.mktemp("built"), "", "")
    quick = ("round_interval_s = 0.5", "round_interval_s = 0.2")
    folders = {}
    for strategy in STRATEGIES:
        folders[strategy] = home.built_task(f"by-{strategy}", quick, ('"doubly-weighted"', f'"{strategy}"'))
    for strategy in SERVER_STRATEGIES:
        constants = "[merging.server_constants]\nbuffer = 2\n\n" if strategy == "fedbuff" else ""
        folders[f"server {strategy}"] = home.built_task(
            f"served-{strategy}",
            quick,
            ("sends_per_round", f'server_strategy = "{strategy}"\nsends_per_round'),
            ("[requirements]", f"{constants}[requirements]"),
        )
    return folders


@pytest.fixture(scope="module")
def stage(
    shared_engine: RunningBroker, tmp_path_factory: pytest.TempPathFactory, built: dict[str, Path]
) -> Iterator[Stage]:
    with household(tmp_path_factory.mktemp("stage"), shared_engine.url, "test/strategies") as home:
        server = home.add("server", role="server")
        town = village(home, folder=built["average"])
        trusted = json.dumps([each.peer for each in town.reviewers])
        server.config.write_text(server.config.read_text().replace("trusted = []", f"trusted = {trusted}"))
        server.start()
        tasks = {"average": town.task}
        few = {*FEW, *(f"server {name}" for name in FEW_SERVERS)}
        for name, folder in built.items():
            if name not in tasks and (isinstance(shared_engine, MosquittoBroker) or name in few):
                servers = [server.peer] if name.startswith("server ") else []
                tasks[name] = town.engineer.request("publish", folder=str(folder), servers=servers)["task"]
        yield Stage(home, town, server, tasks)


def merged(stage: Stage, strategy: str) -> None:
    """The learners of a task by this strategy merge each other's models."""
    learners = stage.town.learners
    with stage.learning(strategy) as task:
        for learner in learners:
            wait_for(lambda learner=learner: learner.task(task).get("merges", 0) >= 3, why=f"{learner.name} merges")  # type: ignore[misc]
            line = learner.task(task)
            assert line["strategy"] == strategy
            assert line["joined"]
            assert line["age"] > 0
            assert line["shares"]
            assert set(line["shares"]) <= {each.peer for each in learners}
    # What arrives while a learner joins or leaves, and weights that two tasks begin with, which one answer serves.
    rejected = set(learners[0].status()["rejected"])  # type: ignore[index]
    assert rejected <= {"not-joined", "unknown-base", "not-asked"}


def aggregated(stage: Stage, strategy: str) -> None:
    """A server aggregates by this strategy, and what it made is merged by the learners."""
    with stage.learning(f"server {strategy}") as task:
        for learner in stage.town.learners:
            wait_for(lambda learner=learner: learner.task(task).get("server") == "reachable")  # type: ignore[misc]
            wait_for(
                lambda learner=learner: learner.task(task)["shares"].get(stage.server.peer, 0) > 0,  # type: ignore[misc]
                why="the server's model is merged",
            )
        line = stage.server.task(task)
        assert line["model_version"] > 0
        assert line["decided_by"] == "a server needs no consent"


@ON_MOSQUITTO
@pytest.mark.parametrize("strategy", MEMBERS)
def test_members_merge_by_every_strategy(stage: Stage, strategy: str) -> None:
    merged(stage, strategy)


@ON_MOSQUITTO
@pytest.mark.parametrize("strategy", SERVER_STRATEGIES)
def test_a_server_aggregates_by_every_strategy(stage: Stage, strategy: str) -> None:
    aggregated(stage, strategy)


@ON_EMBEDDED
@pytest.mark.parametrize("strategy", FEW)
def test_members_merge_on_the_embedded_broker(stage: Stage, strategy: str) -> None:
    merged(stage, strategy)


@ON_EMBEDDED
@pytest.mark.parametrize("strategy", FEW_SERVERS)
def test_a_server_aggregates_on_the_embedded_broker(stage: Stage, strategy: str) -> None:
    aggregated(stage, strategy)
