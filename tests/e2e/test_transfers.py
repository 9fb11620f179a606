"""Models that no packet holds: they travel in chunks, whatever the broker takes, and outlive whoever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Household, household, village, wait_for

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker import RunningBroker
from grapevine_lab.bench.narrow import narrow_line
from grapevine_tasks.authoring.build import build_task

pytestmark = pytest.mark.timeout(300)
NUM_HIDDEN = 166_000  # 12.5 million parameters: 50 MB


def wide_task(home: Household, hidden: int, *changes: tuple[str, str]) -> Path:
    """The catalogue's digits with so many hidden units: 75 parameters for each."""
    folder = home.built_task(f"wide-{hidden}", *changes)
    model = folder / "model.py"
    model.write_text(
        model.read_text()
        .replace("nn.Linear(64, 64)", f"nn.Linear(64, {hidden})")
        .replace("nn.Linear(64, 10)", f"nn.Linear({hidden}, 10)")
    )
    build_task(folder, check_merging=check_merge_plan)
    return folder


@pytest.mark.parametrize("form", ["full", "delta"])
def test_a_model_larger_than_a_packet_is_learned_together(broker: SharedBroker, tmp_path: Path, form: str) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        changes = () if form == "full" else (("[merging]", '[merging]\nupdate_form = "delta"'),)
        town = village(home, folder=wide_task(home, 6_000, *changes))  # 450,010 parameters, 1.8 MB
        town.join()
        for learner in town.learners:
            wait_for(lambda learner=learner: learner.task(town.task)["merges"] > 3, why="it merges")  # type: ignore[misc]
            status = learner.status()
            assert status is not None
            # Of a sender's updates that are under way at once the larger may be here last.
            assert set(status["rejected"]) <= {"no-room", "unknown-base", "old-update"}


def test_weights_arrive_though_receiver_sender_and_broker_are_killed_on_the_way(
    private_broker: RunningBroker, tmp_path: Path
) -> None:
    with (
        household(tmp_path, private_broker.url, "grapevine/v1") as home,
        narrow_line(BrokerUrl.parse(private_broker.url).port, 2_500_000) as line,
    ):
        engineer, *reviewers = (home.add(name) for name in ("engineer", "reviewer-1", "reviewer-2"))
        learner = home.add("learner", digits=0, consent="auto", trusted=reviewers)
        learner.config.write_text(
            learner.config.read_text().replace(private_broker.url, f"mqtt://127.0.0.1:{line.port}")
        )
        for member in (engineer, *reviewers, learner):
            member.start()
        task = home.publish(engineer, wide_task(home, NUM_HIDDEN))
        home.approve(task, *reviewers)

        def here() -> float:
            """The part of the weights that is here; 1 once the task is joined, and nothing is on its way."""
            status = learner.status()
            assert status is not None
            under_way = [1 - each["missing"] / each["chunks"] for each in status["transfers"]["under_way"]]
            return under_way[0] if under_way else float(learner.task(task)["joined"])

        wait_for(lambda: here() > 0.2, why="a fifth has come")
        learner.kill()
        learner.start()
        wait_for(lambda: here() > 0.4, why="it goes on after the receiver was killed")
        engineer.kill()
        engineer.start()
        wait_for(lambda: here() > 0.6, why="it goes on after the sender was killed")
        private_broker.kill()
        private_broker.start()
        wait_for(lambda: here() == 1, within_s=120.0, why="it goes on after the broker was killed")
        assert line.down < 1.1 * NUM_HIDDEN * 75 * 4
        wait_for(lambda: learner.task(task).get("age", 0) > 0, why="it trains")
