"""What `task check` prints for people, in a narrow terminal."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from grapevine_agent.cli.check_commands import _bytes, fits_table
from grapevine_agent.requests.costs import ProfileFit


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
