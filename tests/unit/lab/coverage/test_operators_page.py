"""docs/operators.md says what the code says."""

from __future__ import annotations

from pathlib import Path

from grapevine_lab.coverage.operators import PAGE, operators_page
from grapevine_proto.program import Operator

ROOT = Path(__file__).parents[4]


def test_the_page_is_the_one_that_the_command_writes() -> None:
    written = (ROOT / PAGE).read_text(encoding="utf-8")
    assert written == operators_page(), "run python -m grapevine_lab.coverage.operators"


def test_every_operator_is_on_it_once() -> None:
    assert all(operators_page().count(f"| {operator.name} |") == 1 for operator in Operator)
