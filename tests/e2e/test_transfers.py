"""Models that no packet holds: they travel in chunks, whatever the broker takes, and outlive whoever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Household, household, village, wait_for

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_tasks.authoring.build import build_task

pytestmark = pytest.mark.timeout(240)


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
            assert set(status["rejected"]) <= {"no-room", "unknown-base"}
