"""Tables of tasks in a terminal of 80 columns: ids are whole, or long enough, and nothing is cut."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from grapevine_agent.cli.owner_commands import _task_table
from grapevine_agent.cli.review_commands import _table

TASK, PEER, OTHER = "0123456789abcdef" * 4, "abcde" * 4, "vkh4" * 5
NAME = "a-name-without-any-blank-that-would-let-it-be-wrapped"
WHY = "approved by lab and by " + "x" * 40

REVIEW = {"name": "", "approved": True, "withdrawn": False, "reason": "looked at all of it", "counts": True}
REVIEWED = {"task": TASK, "name": NAME, "version": 12, "publisher": PEER, "standing": "approved", "why": WHY}
LISTED = {"id": TASK, "name": NAME, "version": 12, "standing": "unapproved", "joined": False, "why": WHY}


@pytest.mark.parametrize(
    ("table", "whole", "folded"),
    [
        (_table([REVIEWED | {"reviews": [REVIEW | {"reviewer": OTHER}]}]), [TASK[:12], PEER, f"✓ {OTHER}"], [NAME]),
        (_task_table([LISTED | {"decided_by": "[[consent]] " + NAME}]), [TASK[:12]], [NAME]),
    ],
)
def test_a_list_fits_80_columns_and_cuts_nothing(table: Table, whole: list[str], folded: list[str]) -> None:
    written = StringIO()
    Console(file=written, width=80, soft_wrap=True).print(table)
    lines = written.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in written.getvalue()
    for each in whole:
        assert any(each in line for line in lines)
    cells: list[Any] = [line.strip("│┃").split("│") for line in lines if line.startswith("│")]
    columns = ["".join(cell.strip() for cell in column) for column in zip(*cells, strict=True)]
    for each in folded:
        assert any(each in column for column in columns)
