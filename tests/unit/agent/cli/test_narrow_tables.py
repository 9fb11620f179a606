"""Tables of tasks in a terminal of 80 columns: ids are whole, or long enough, and nothing is cut."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from grapevine_agent.cli.owner_commands import _progress_line, _task_table
from grapevine_agent.cli.review_commands import _table

TASK, PEER, OTHER = "0123456789abcdef" * 4, "abcde" * 4, "vkh4" * 5
NAME = "a-name-without-any-blank-that-would-let-it-be-wrapped"
WHY = "approved by lab and by " + "x" * 40

REVIEW = {"name": "", "approved": True, "withdrawn": False, "reason": "looked at all of it", "counts": True}
REVIEWED = {"task": TASK, "name": NAME, "version": 12, "publisher": PEER, "standing": "approved", "why": WHY}
LISTED = {"id": TASK, "name": NAME, "version": 12, "standing": "unapproved", "joined": False, "why": WHY}


PROGRESS = {
    "round": 20,
    "metric_name": "accuracy",
    "metric": 0.965,
    "metric_in_units": None,
    "num_evaluated": 36,
    "best": {"metric": 1.0, "age": 150},
    "baseline": 0.222,
    "baseline_name": "majority class",
    "server": "unknown",
    "n": 1,
    "send_rate": 4.0,
    "staleness": None,
    "staleness_bound": None,
    "resting": False,
    "enough": False,
}


def test_who_is_alone_is_not_said_to_send() -> None:
    assert ", n 1, nobody to send to, " in _progress_line(PROGRESS | {"peers": 0})
    assert ", 4 sends/s, " in _progress_line(PROGRESS | {"peers": 0, "server": "reachable"})
    assert ", 4 sends/s, " in _progress_line(PROGRESS | {"peers": 1})


def test_what_decided_a_task_is_said_once() -> None:
    by = "waits for the owner's consent: grapevine join"
    for why, shown in ((f"0 of 2 approvals by trusted reviewers; {by}", "—"), ("no data", by)):
        table = _task_table([LISTED | {"why": why, "decided_by": by}])
        assert list(table.columns[-1].cells) == [shown]


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
