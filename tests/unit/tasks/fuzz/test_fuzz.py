"""Whatever the checks accept runs, forward and backward: a short, fixed part of the campaign (see the package)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grapevine_proto.program import Operator

REPOSITORY = Path(__file__).parents[4]
DRAWS = 12  # of each operator


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """In a process of its own: what is not refused in time may end it."""
    command = [sys.executable, "-m", "tests.unit.tasks.fuzz.run", "--json", "--draws", str(DRAWS), "--seconds", "1000"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout, f"ended by {done.returncode}: {done.stderr[-2000:]}"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_what_the_checks_accept_runs_at_every_batch_that_there_may_be(found: dict[str, Any]) -> None:
    assert found["failures"] == {}


def test_every_operator_was_accepted_and_run(found: dict[str, Any]) -> None:
    assert set(found["ran"]) == {operator.name for operator in Operator}
    assert [name for name, number in found["ran"].items() if number == 0] == []


def test_the_checks_refused_some_of_what_was_drawn(found: dict[str, Any]) -> None:
    assert found["outcomes"]["refused"] > len(Operator)
    assert found["outcomes"]["ran"] > 4 * len(Operator)
