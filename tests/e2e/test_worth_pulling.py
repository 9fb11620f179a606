"""The best model, as real agents keep it and an engineer pulls it, on a real broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Member, household, village, wait_for

from grapevine_agent.store.models import BEST, ModelFiles, StoredModel

pytestmark = pytest.mark.timeout(300)


def pulled(engineer: Member, task: str, folder: Path, *options: str) -> tuple[dict[str, Any], np.ndarray]:
    """The facts and the numbers of a model that was pulled."""
    path = folder / "pulled.safetensors"
    done = engineer.ask("task", "pull", task, "-o", str(path), "--json", *options)
    tensors = load_file(path)
    return json.loads(done.stdout), np.concatenate([tensors[name].reshape(-1) for name in sorted(tensors)])


def test_pull_gives_the_best_model_and_a_restart_keeps_it(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        cast = village(home, num_learners=1)
        cast.join()
        (learner,) = cast.learners
        best: dict[str, Any] = wait_for(lambda: learner.task(cast.task).get("best") or {}, why="a model is measured")
        assert best["num_evaluated"] > 0
        line = learner.task(cast.task)
        assert (line["baseline_name"], line["version"]) == ("majority class", 1)
        assert 0 < line["baseline"] < 0.3
        facts, _ = pulled(cast.engineer, cast.task, tmp_path)
        assert facts["which"] == "best"
        assert facts["metric"] == facts["best"]["metric"]
        assert facts["latest"] is not None
        assert facts["baseline"] == line["baseline"]
        facts, _ = pulled(cast.engineer, cast.task, tmp_path, "--latest")
        assert facts["which"] == "latest"

        # A model of an earlier day that did better than any since.
        wait_for((learner.folder / "state" / "models" / cast.task / BEST).exists, why="it is saved")
        assert learner.stop() == 0
        files = ModelFiles(learner.folder / "state" / "models")
        held = files.load_best(cast.task)
        assert held is not None
        vectors = {name: np.full_like(vector, 0.25) for name, vector in held.vectors.items()}
        files.save_best(
            cast.task, StoredModel(vectors=vectors, metadata={**held.metadata, "metric": 1.5, "counted": 1.5, "age": 7})
        )
        learner.start()
        wait_for(lambda: learner.task(cast.task).get("metric") is not None, why="it trains on, and measures")
        assert learner.task(cast.task)["best"]["age"] == 7
        facts, numbers = pulled(cast.engineer, cast.task, tmp_path, "--from", learner.name)
        assert (facts["which"], facts["age"], facts["metric"]) == ("best", 7, 1.5)
        assert facts["latest"]["age"] > 7
        assert (numbers == np.float32(0.25)).all()
        facts, numbers = pulled(cast.engineer, cast.task, tmp_path, "--from", learner.name, "--latest")
        assert facts["which"] == "latest"
        assert not (numbers == np.float32(0.25)).all()

        refused = cast.engineer.ask("task", "watch", cast.task, "--until", "rmse=0.5", "--for", "20", check=False)
        assert refused.returncode != 0
        assert "has no rmse; it has accuracy=0.95, loss=0.1 and round=40" in " ".join(refused.stderr.split())
