"""No program takes more memory than its bound: what was once seen to, and the first seeds of the campaign."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.unit.tasks.hostile.memory.cases import CASES
from tests.unit.tasks.hostile.memory.programs import ALL_PROPOSALS, trial
from tests.unit.tasks.hostile.memory.run import main, report

from grapevine_tasks.opset import RULES

REPOSITORY = Path(__file__).parents[5]
NUM_SEEDS = 24
MIB = 2**20

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel's high-water mark is read, which is Linux's"
)


def run(module: str, *arguments: str) -> str:
    """Its output; in a process of its own, whose allocator is told to give all memory back."""
    command = [sys.executable, "-m", f"tests.unit.tasks.hostile.memory.{module}", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run("cases"))
    return result


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_what_once_took_more_than_its_bound_no_longer_does(name: str, found: dict[str, Any]) -> None:
    case = found[name]
    assert case["error"] == ""
    assert MIB < case["num_bytes"] <= case["bound"]


SEQUENCES = [name for name in CASES if "steps" in name or "attention" in name or "cells" in name]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in SEQUENCES if "without" not in name])
def test_recurrent_layers_and_attention_are_estimated_about_right(name: str, found: dict[str, Any]) -> None:
    assert found[name]["estimate"] == pytest.approx(found[name]["num_bytes"], rel=0.5)


@pytest.mark.timeout(600)
def test_the_mark_sees_all_that_is_known_to_be_there(found: dict[str, Any]) -> None:
    # The batch, the learned value and its gradient are there at once, and none is smaller than 256 · 8000 float32.
    assert found["ERF"]["num_bytes"] > 3 * 4 * 256 * 8000
    # Two buffers of 2,000,000 float32: in both slots, in the request, and the new ones.
    assert found["large buffers"]["num_bytes"] > 4 * 2 * 4 * 2_000_000


@pytest.mark.timeout(600)
def test_random_legal_programs_stay_below_their_bound(tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    said = run("run", "--trials", str(NUM_SEEDS), "--out", str(out))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["seed"] for line in lines] == list(range(NUM_SEEDS))
    assert sum(line["error"] == "" for line in lines) >= NUM_SEEDS - 1
    assert "bound too low: 0" in said


def test_a_campaign_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "trials.jsonl"
    done = {"seed": 0, "num_bytes": 1, "seconds": 0.0, "error": ""}
    out.write_text(json.dumps(done) + "\n")
    with pytest.raises(typer.Exit) as ended:
        main(trials=1, out=out)
    assert ended.value.exit_code == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == [done]


def test_a_bound_that_is_too_low_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"seed": 3, "num_bytes": 30 * MIB, "bound": 29 * MIB, "estimate": 1, "error": "", "operators": ("ERF",)}
    assert report([line])
    assert "seed 3: took 30.0 MB, bound 29.0 MB: ERF" in capsys.readouterr().out
    assert not report([{**line, "bound": 31 * MIB}])


def test_a_seed_always_gives_the_same_program() -> None:
    assert trial(5) == trial(5)
    assert trial(5) != trial(6)


def test_every_operator_is_drawn() -> None:
    assert set(ALL_PROPOSALS) == {operator.name for operator in RULES}
    drawn = {name for seed in range(600) for name in trial(seed).operators}
    assert drawn == set(ALL_PROPOSALS)
