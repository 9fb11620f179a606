"""What `task check` prints for people, in a narrow terminal."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from grapevine_agent.cli import build_app
from grapevine_agent.cli.checked import _bytes, fits_table
from grapevine_agent.cli.task_commands import _what_members_bring
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.requests.costs import ProfileFit
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.catalogue import catalogue_task


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 B"), (999, "999 B"), (1040, "1.02 kB"), (1020 * 1024, "1020 kB"), (2**20, "1 MB")]
)
def test_bytes_are_told_in_three_digits_or_so_and_never_in_powers_of_ten(number: int, said: str) -> None:
    assert _bytes(number) == said


def test_reasons_stand_below_the_table_each_on_a_line_that_names_its_profile() -> None:
    figures: Any = {"step_s": 0.5, "evaluation_s": 1.0, "round_s": 5.0, "allowed_mb": 600}
    reasons = ("needs batches of 500, profile allows 64", "needs 700 MB, profile allows 600 [and no more]")
    report: Any = SimpleNamespace(fits=(ProfileFit(profile="a-board-of-some-length", reasons=reasons, **figures),))
    written = StringIO()
    Console(file=written, width=80, soft_wrap=True).print(fits_table(report))
    lines = written.getvalue().splitlines()
    assert [line.rstrip() for line in lines[-2:]] == [f"a-board-of-some-length: {reason}" for reason in reasons]
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_a_check_with_a_devices_data_tells_the_baseline(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(catalogue_task("digits"), folder)
    build_task(folder, check_merging=check_merge_plan)
    x, y = np.zeros((50, 8, 8), np.float32), np.repeat([3, 4, 5], [40, 6, 4])
    np.savez(tmp_path / "own.npz", x=x, y=y, x_test=x[:10], y_test=np.repeat([3, 4], [7, 3]))
    config = tmp_path / "agent.toml"
    config.write_text('[mqtt]\nbrokers = ["mqtt://127.0.0.1"]\n[[data]]\nkind = "digits-8x8"\npath = "own.npz"\n')
    done = CliRunner().invoke(build_app(), ["task", "check", str(folder), "--config", str(config), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["baseline"]
    assert (found["name"], found["value"], found["num_evaluated"]) == ("majority class", 0.7, 10)
    config.write_text('[mqtt]\nbrokers = ["mqtt://127.0.0.1"]\n')
    done = CliRunner().invoke(build_app(), ["task", "check", str(folder), "--config", str(config)])
    assert "baseline: none: no data source" in " ".join(done.stdout.split())
    plain = CliRunner().invoke(build_app(), ["task", "check", str(folder), "--json"])
    assert "baseline" not in json.loads(plain.stdout)


def test_a_revision_says_what_age_members_bring() -> None:
    answer = {"fresh": False, "keeps_model": True, "member_ages": [940, 980, 1_020]}
    assert "(940 to 1,020 steps in those of 3 members known here)" in _what_members_bring(answer)
    assert "how old, nobody here knows" in _what_members_bring(answer | {"member_ages": []})
    assert "at age 0" in _what_members_bring(answer | {"keeps_model": False})
    assert "leave their model behind" in _what_members_bring(answer | {"fresh": True, "keeps_model": False})
