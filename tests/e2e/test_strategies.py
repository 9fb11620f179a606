"""Every merge strategy, members' and servers', in a task of live agents on Mosquitto; some on the embedded broker too.

How a model is merged does not depend on the broker that brought it, and a task takes a trainer with PyTorch in each
learner: all of them on both brokers would be a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
    """A household that stays up for all the tests of a broker, with a task for each strategy."""

    home: Household
    town: Village
    server: Member
    tasks: dict[str, str]  # the name of a member's or (with "server ") a server's strategy → task


FEW = {"average", "delta-sum", "chisme", "server fedavg"}


def _on_brokers(strategies: Iterable[str], prefix: str = "") -> pytest.MarkDecorator:
    """A test for each strategy, on the brokers where it is tried."""
    pairs = [
        pytest.param(engine.values[0], strategy, id=f"{engine.id}-{strategy}", marks=engine.marks)
        for engine in ENGINES
        for strategy in strategies
        if engine.id == "mosquitto" or f"{prefix}{strategy}" in FEW
    ]
    return pytest.mark.parametrize(("shared_engine", "strategy"), pairs, indirect=["shared_engine"])


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


BEGIN_S = 300.0  # all tasks are joined at once, and for each a trainer of each learner loads PyTorch
pytestmark = pytest.mark.timeout(2 * BEGIN_S)


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
        for name, folder in built.items():
            if name not in tasks and (isinstance(shared_engine, MosquittoBroker) or name in FEW):
                servers = [server.peer] if name.startswith("server ") else []
                tasks[name] = town.engineer.request("publish", folder=str(folder), servers=servers)["task"]
        for task in tasks.values():
            for reviewer in town.reviewers:
                wait_for(lambda reviewer=reviewer, task=task: reviewer.task(task))  # type: ignore[misc]
                reviewer.request("review", task=task, approved=True)
        yield Stage(home, town, server, tasks)


@_on_brokers(sorted(set(STRATEGIES) - {"follow-server"}))  # whose members need a server
def test_members_merge_by_every_strategy(stage: Stage, strategy: str) -> None:
    task = stage.tasks[strategy]
    for learner in stage.town.learners:
        wait_for(
            lambda learner=learner: learner.task(task).get("merges", 0) >= 3,  # type: ignore[misc]
            within_s=BEGIN_S,
            why=f"{learner.name} merges",
        )
        line = learner.task(task)
        assert line["strategy"] == strategy
        assert line["joined"]
        assert line["age"] > 0
        assert line["shares"]
        assert set(line["shares"]) <= {each.peer for each in stage.town.learners}
    # So many tasks with such short rounds, and their receipts, may be more than one peer may say in a second.
    rejected = set(stage.town.learners[0].status()["rejected"])  # type: ignore[index]
    # And weights that several tasks begin with may come a second time, when the first answer has served all.
    assert rejected <= {"not-joined", "unknown-base", "over-quota", "not-asked"}


@_on_brokers(SERVER_STRATEGIES, "server ")
def test_a_server_aggregates_by_every_strategy(stage: Stage, strategy: str) -> None:
    task = stage.tasks[f"server {strategy}"]
    for learner in stage.town.learners:
        wait_for(lambda learner=learner: learner.task(task).get("server") == "reachable", within_s=BEGIN_S)  # type: ignore[misc]
        wait_for(
            lambda learner=learner: learner.task(task)["shares"].get(stage.server.peer, 0) > 0,  # type: ignore[misc]
            within_s=BEGIN_S,
            why="the server's model is merged",
        )
    assert stage.server.task(task)["model_version"] > 0
