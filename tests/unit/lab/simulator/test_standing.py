"""How a task really stands, whatever devices make of it; and clocks that are wrong."""

from __future__ import annotations

import pytest

from grapevine_lab.simulator.clock import EPOCH_MS, VirtualClock, WallClock
from grapevine_lab.simulator.standing import DAY_S, Standing, Standings
from grapevine_proto.messages import Review, TaskPublication

DAY_MS = 86_400_000


def standings() -> Standings:
    found = Standings(reviewers=frozenset(("r", "s")), approvals=2, max_valid_s=7 * DAY_S)
    found.published("t", Standing(publisher="p", name="t", published_s=0.0), 0.0)
    return found


def say(
    found: Standings, who: str, at_s: float, *, approved: bool = True, days: float = 7.0, wrong_ms: int = 0
) -> None:
    made_ms = EPOCH_MS + int(1000 * at_s) + wrong_ms
    review = Review(task="t", approved=approved, reason="", valid_until_ms=made_ms + int(days * DAY_MS))
    found.said(who, "t", review, made_ms, at_s)


def test_a_task_is_approved_from_the_last_approval_that_it_needs_until_the_first_runs_out() -> None:
    found = standings()
    say(found, "r", 10.0)
    say(found, "somebody", 11.0)
    assert not found.tasks["t"].is_approved
    say(found, "s", 20.0)
    task = found.tasks["t"]
    assert (task.is_approved, task.since_s) == (True, 20.0)
    found.refresh(10.0 + 7 * DAY_S)
    assert task.is_approved
    found.refresh(9 * DAY_S)
    assert (task.is_approved, task.since_s) == (False, 10.0 + 7 * DAY_S)


def test_an_approval_dated_ten_years_ahead_counts_for_as_long_as_any_other() -> None:
    found = standings()
    say(found, "r", 10.0, wrong_ms=3650 * DAY_MS)
    say(found, "s", 10.0, days=300.0)
    found.refresh(6 * DAY_S)
    assert found.tasks["t"].is_approved
    found.refresh(8 * DAY_S)
    assert not found.tasks["t"].is_approved


@pytest.mark.parametrize("how", ["rejected", "withdrawn", "retracted"])
def test_what_is_taken_back_counts_at_once(how: str) -> None:
    found = standings()
    say(found, "r", 1.0)
    say(found, "s", 2.0)
    match how:
        case "rejected":
            say(found, "r", 50.0, approved=False)
        case "withdrawn":
            found.said("r", "t", Review(task="t", approved=False, withdrawn=True), EPOCH_MS, 50.0)
        case _:
            found.said("p", "t", TaskPublication(retracted=True), EPOCH_MS, 50.0)
    assert (found.tasks["t"].is_approved, found.tasks["t"].since_s) == (False, 50.0)
    assert found.approved() == {}


def test_only_the_newest_approved_version_is_expected_of_anybody() -> None:
    found = standings()
    say(found, "r", 1.0)
    say(found, "s", 2.0)
    found.published("u", Standing(publisher="p", name="u", published_s=3.0, parent="t"), 3.0)
    assert set(found.approved()) == {"t"}
    for who in ("r", "s"):
        review = Review(task="u", approved=True, valid_until_ms=EPOCH_MS + DAY_MS)
        found.said(who, "u", review, EPOCH_MS, 4.0)
    assert set(found.approved()) == {"u"}


def test_a_clock_that_was_set_and_drifts_says_so_and_a_right_one_says_the_very_same_time() -> None:
    clock: VirtualClock[None] = VirtualClock(now_s=1000.0)
    wall = WallClock()
    assert wall.moment(clock.moment()) is not None
    assert wall.moment(clock.moment()) == clock.moment()
    wall.set(1000.0, ahead_s=-60.0)
    wall.set(1000.0, ppm=1000.0)
    clock.now_s = 2000.0
    assert wall.wrong_by_s(2000.0) == pytest.approx(-59.0)
    found = wall.moment(clock.moment())
    assert found.monotonic_s == 2000.0
    assert found.wall_ms == clock.moment().wall_ms - 59_000
    wall.set(2000.0, ahead_s=0.0)
    assert wall.wrong_by_s(3000.0) == pytest.approx(1.0)  # set right; it still goes too fast
