"""Times in words."""

from __future__ import annotations

import time

import pytest

from grapevine_agent.cli.output import time_here
from grapevine_agent.spoken import span, time_of_day


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (-3.0, "0 s"),
        (119.4, "119 s"),
        (120.0, "2 minutes"),
        (7_200.0, "2 hours"),
        (86_400.0, "24 hours"),
        (3 * 86_400.0, "3 days"),
        (2_000 * 365 * 86_400.0, "2,000 years"),
    ],
)
def test_a_span_is_told_in_the_largest_unit_of_which_there_are_two(seconds: float, says: str) -> None:
    assert span(seconds) == says


def test_a_time_of_another_day_has_its_date_and_one_that_is_near_its_seconds() -> None:
    now_s = time.time()
    assert len(time_here(now_s - 60)) == len(time_here(now_s + 300, to_the_second=True)) == len("12:03")
    assert len(time_here(now_s + 30, to_the_second=True)) == len("12:03:05")
    assert time_here(now_s - 86_400) == time.strftime("%Y-%m-%d %H:%M", time.localtime(now_s - 86_400))
    assert time_of_day(6 * 60 + 5) == "06:05"
