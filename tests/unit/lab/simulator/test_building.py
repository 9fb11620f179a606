"""A run without training builds its task in another process, and imports no PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from grapevine_lab.simulator.building import build_apart
from grapevine_proto.errors import TaskError
from grapevine_tasks.catalogue import catalogue_task

_RUN = """\
import sys
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import prepare
from grapevine_lab.simulator.run import run_seed
from grapevine_lab.simulator.scenario import read_scenario

changes = ["nodes.num=22", "scenario.rounds=2"]
outcome = run_seed(prepare(read_scenario(find_scenario("protocol"), changes=changes)), 0)
assert outcome.rounds == 2, outcome
assert outcome.num_delivered > 0, outcome
assert "torch" not in sys.modules
"""


def test_a_run_in_which_nobody_trains_does_without_pytorch() -> None:
    subprocess.run([sys.executable, "-P", "-c", _RUN], check=True, timeout=120)


def test_a_task_built_apart_is_the_one_that_is_built_here(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from grapevine_agent.merge.plan import check_merge_plan
    from grapevine_tasks.authoring.build import build_task

    changes = {"training": {"batch_size": 7}}
    for name in ("apart", "here"):
        (tmp_path / name).mkdir()
    apart = build_apart(catalogue_task("digits"), tmp_path / "apart", changes)
    here = build_task(catalogue_task("digits"), check_merging=check_merge_plan, into=tmp_path / "here", changes=changes)
    assert apart == here
    assert apart.draft.training.batch_size == 7


def test_what_is_wrong_with_a_task_is_told_as_it_is_here(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="batch_size"):
        build_apart(catalogue_task("digits"), tmp_path, {"training": {"batch_size": -1}})


def test_a_process_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "task.toml").write_text((catalogue_task("digits") / "task.toml").read_text(encoding="utf-8"))
    (folder / "model.py").write_text("import os, sys\nprint('out of luck', file=sys.stderr)\nos._exit(7)\n")
    (tmp_path / "into").mkdir()
    with pytest.raises(TaskError, match=r"(?s)exit code 7.*out of luck"):
        build_apart(folder, tmp_path / "into", {})
