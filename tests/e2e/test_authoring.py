"""What a model engineer types, from an empty folder to a model that runs in plain PyTorch, on real brokers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.e2e.conftest import SharedBroker
from tests.e2e.household import Member, household, wait_for

from grapevine_agent.api import Grapevine

pytestmark = pytest.mark.timeout(240)

RUN_PT2 = """
import sys, json, torch
model = torch.export.load(sys.argv[1]).module()
assert not any(name.startswith("grapevine") for name in sys.modules)
torch.manual_seed(0)
print(json.dumps(model(torch.rand(5, 8, 8)).tolist()))
"""


def eager(weights: Path) -> np.ndarray:
    """What the engineer's own module says with these weights."""
    import torch
    from safetensors.torch import load_file as load_tensors
    from torch import nn

    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    module.load_state_dict(load_tensors(weights))
    torch.manual_seed(0)
    with torch.no_grad():
        return np.asarray(module(torch.rand(5, 8, 8)))


def test_a_task_is_made_published_watched_revised_pulled_and_retracted(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        engineer, *reviewers = (home.add(name) for name in ("engineer", "reviewer-1", "reviewer-2"))
        learners = [home.add(f"learner-{k}", digits=k, consent="auto", trusted=list(reviewers)) for k in range(2)]
        for member in (engineer, *reviewers, *learners):
            member.start()
        folder = Path(_run("task", "new", "my-digits", "--from", "digits", "--dir", str(tmp_path), "--json")["folder"])
        unbuilt = engineer.ask("task", "publish", str(folder), check=False)
        assert unbuilt.returncode == 1
        assert "has not been built" in unbuilt.stderr
        _run("task", "build", str(folder), "--json")
        task = home.publish(engineer, folder)
        home.approve(task, *reviewers)

        watched = engineer.ask("task", "watch", "my-digits", "--json", "--until", "round=5", "--for", "50")
        readings = [json.loads(line) for line in watched.stdout.splitlines()]
        assert {reading["peer"] for reading in readings} == {learner.peer for learner in learners}
        assert all(reading["task"] == task and 0 <= reading["metric"] <= 1 for reading in readings)

        with (folder / "task.toml").open("a") as file:
            file.write("\n# half a thought")
        changed = engineer.ask("task", "revise", str(folder), "--parent", task, check=False)
        assert "changed after it was built" in changed.stderr
        ages = [learner.task(task)["age"] for learner in learners]
        revise = ("task", "revise", str(folder), "--build", "--parent", task, "--reason", "a thought", "--json")
        revised = json.loads(engineer.ask(*revise).stdout)
        assert (revised["version"], revised["parent"], revised["keeps_model"]) == (2, task, True)
        again = engineer.ask(*revise, check=False)
        assert "has a version 2 already" in again.stderr
        child = str(revised["task"])
        assert learners[0].task(task)["joined"]
        home.approve(child, *reviewers)
        for learner, age in zip(learners, ages, strict=True):
            wait_for(lambda learner=learner: learner.task(child).get("joined"), why="it moves")  # type: ignore[misc]
            wait_for(lambda learner=learner: learner.task(child).get("round", 0) > 3, why="it learns")  # type: ignore[misc]
            assert learner.task(child)["age"] >= age
            assert "replaced by its version 2" in learner.task(task)["why"]

        _pull(engineer, learners[0], child, folder)

        stranger = reviewers[0].ask("task", "pull", child, "--within", "5", check=False)
        assert "publisher and members only" in stranger.stderr
        foreign = learners[0].ask("task", "retract", child, check=False)
        assert "only its publisher can retract it" in foreign.stderr
        engineer.ask("task", "retract", child, "--reason", "done")
        for learner in learners:
            wait_for(lambda learner=learner: not learner.task(child)["joined"], why="it stops")  # type: ignore[misc]
            assert "retracted by its publisher: done" in learner.task(child)["why"]


def _pull(engineer: Member, learner: Member, task: str, folder: Path) -> None:
    """Fetch the model of one member, by its name, and hold it against the engineer's own module."""
    weights, pt2 = folder / "model.safetensors", folder / "model.pt2"
    pulled = engineer.ask("task", "pull", task, "-o", str(weights), "--pt2", str(pt2), "--from", learner.name, "--json")
    facts = json.loads(pulled.stdout)
    assert facts["model_of"] == learner.peer
    assert facts["contributors"][learner.peer] > 0
    assert json.loads((folder / "model.json").read_text())["task"] == task
    assert set(load_file(weights)) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    plain = subprocess.run(
        [sys.executable, "-c", RUN_PT2, str(pt2)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "", "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        check=False,
        timeout=60,
    )
    assert plain.returncode == 0, plain.stderr
    np.testing.assert_allclose(np.asarray(json.loads(plain.stdout)), eager(weights), rtol=1e-5, atol=1e-5)


def test_an_engineer_without_an_agent_does_the_same_from_python(broker: SharedBroker, tmp_path: Path) -> None:
    with household(tmp_path, broker.url, broker.root) as home:
        reviewers = [home.add("reviewer-1"), home.add("reviewer-2")]
        away = home.add("away")
        learner = home.add("learner", digits=0, consent="auto", trusted=reviewers)
        for member in (*reviewers, learner):
            member.start()
        with Grapevine(away.config) as g:
            published = g.publish(home.built_task("from-python"), wait=False)
            home.approve(published.id, *reviewers)
            readings = g.watch(published, for_s=60)
            assert next(readings)["peer"] == learner.peer
            readings.close()  # type: ignore[attr-defined]
            model = g.pull(published)
            assert model.facts["model_of"] == learner.peer
            assert model.tensors()["3.bias"].shape == (10,)
            g.retract(published, reason="enough")
        wait_for(lambda: not learner.task(published.id)["joined"], why="it hears of the retraction")


def _run(*arguments: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "grapevine_agent", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer
