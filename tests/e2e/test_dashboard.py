"""The dashboard as its users start it: the real command, over real agents that learn."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.dashboards import dashboard
from tests.e2e.household import Household, household, village, wait_for

from grapevine_broker import start_broker

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Household]:
    with start_broker("embedded") as broker, household(tmp_path, broker.url, "grapevine/v1") as home:
        yield home


def test_a_swarm_appears_is_approved_learns_and_a_kill_shows_within_three_seconds(
    home: Household, tmp_path: Path
) -> None:
    town = village(home)
    with dashboard("--agents", f"{tmp_path}/*/state/agent.sock") as shown:
        wait_for(lambda: sum(each["own"] for each in shown.get("api/state")["peers"]) == 5, why="all five are there")

        def task() -> dict[str, Any]:
            tasks = [each for each in shown.get("api/state")["tasks"] if each["id"] == town.task]
            return tasks[0] if tasks else {}

        wait_for(lambda: task().get("standings", {}).get("waiting"), why="the learners wait for reviews")
        assert task()["publisher_name"] == "engineer"
        for reviewer in town.reviewers:
            said = shown.act("approve", task=town.task, peer=reviewer.peer, reason="looked at")
            assert said == {"ok": True, "text": "digits: approved"}
        wait_for(lambda: sum(each["approved"] for each in task()["reviews"]) == 2, why="the approvals are shown")

        def points() -> list[int]:
            curves = shown.get("api/state")["series"][town.task]["peers"]
            return [len(curves.get(learner.peer, [])) for learner in town.learners]

        wait_for(lambda: min(points()) >= 3, why="both learn")
        wait_for(lambda: shown.get("api/state")["totals"]["merged"], why="they merge")
        state = shown.get("api/state")
        assert {each["task"] for each in state["links"]} == {town.task}
        assert [each["connected"] for each in state["brokers"]] == [True]
        of_first = f"api/peers/{town.learners[0].peer}"
        wait_for(lambda: shown.get(of_first)["shares"], why="the first has merged, too")
        detail = shown.get(of_first)
        assert detail["traffic"][0]["peer"] == town.learners[1].peer
        assert detail["shares"]
        shown.act("pause", peer=town.learners[1].peer)
        wait_for(lambda: shown.state_of("learner-1") == "paused", within_s=3, why="the pause is shown")
        town.learners[0].kill()
        wait_for(lambda: shown.state_of("learner-0") == "killed", within_s=3, why="the kill is shown")
        shown.process.send_signal(signal.SIGINT)
        assert shown.process.wait(timeout=10) == 130


def test_the_dashboard_of_one_agent_shows_whom_it_knows(home: Household) -> None:
    ada, bob = home.add("ada"), home.add("bob")
    refused = ada.ask("dashboard", "--port", "0", "--no-open", check=False)
    assert refused.returncode == 3
    assert "no agent is running here" in refused.stderr
    ada.start()
    bob.start()
    with dashboard("--config", str(ada.config)) as shown:
        wait_for(lambda: shown.state_of("bob") == "alive", why="bob is known")
        own = {each["name"]: each["own"] for each in shown.get("api/state")["peers"]}
        assert own == {"ada": True, "bob": False}
        assert bob.stop() == 0
        wait_for(lambda: shown.state_of("bob") == "offline", why="its goodbye is shown")
        shown.process.terminate()
        shown.process.wait(timeout=10)
