"""Progress: the time left from a clock of ours, and what a terminal and a file get to see."""

import io
import re

import pytest
from rich.console import Console

from grapevine_lab.simulator.progress import Pace, Progress, advance, duration, seconds_left


class Clock:
    """Wall time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def watched(*, terminal: bool = False) -> tuple[Progress, Clock, io.StringIO]:
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=140, highlight=False, legacy_windows=False)
    return Progress("chisme-fig3 [quick]", console=console, clock=clock), clock, stream


def test_an_even_pace_tells_the_time_left_exactly() -> None:
    pace = Pace(work=0.0, wall_s=100.0)
    assert seconds_left(pace, total=2.0) is None
    for turn in range(1, 11):
        pace = advance(pace, work=0.05 * turn, wall_s=100.0 + 3.0 * turn, total=2.0)
        assert seconds_left(pace, total=2.0) == pytest.approx(60.0 * (2.0 - 0.05 * turn))


def test_a_change_of_pace_is_learned_but_one_hiccup_is_smoothed() -> None:
    pace = Pace(work=0.0, wall_s=0.0)
    for turn in range(1, 51):
        pace = advance(pace, work=turn / 100, wall_s=float(turn), total=1.0)
    hiccup = advance(pace, work=0.51, wall_s=61.0, total=1.0)  # eleven seconds for what takes one
    before, after = seconds_left(pace, total=1.0), seconds_left(hiccup, total=1.0)
    assert before == pytest.approx(50.0)
    assert after is not None
    assert 50 < after < 100
    for turn in range(51, 100):  # from here on, everything takes three times as long
        pace = advance(pace, work=turn / 100, wall_s=50.0 + 3.0 * (turn - 50), total=1.0)
    assert seconds_left(pace, total=1.0) == pytest.approx(3.0, rel=0.05)


def test_waiting_without_progress_counts_when_progress_is_made() -> None:
    pace = advance(Pace(work=0.0, wall_s=0.0), work=0.0, wall_s=30.0, total=1.0)
    assert seconds_left(pace, total=1.0) is None
    assert seconds_left(advance(pace, work=0.5, wall_s=40.0, total=1.0), total=1.0) == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (130, "2 min 10 s"), (3600, "1 h 00 min"),
        (47 * 3600, "47 h 00 min"), (3 * 86_400 + 7200, "3 d 02 h"),
    ],
)  # fmt: skip
def test_durations_are_said_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_file_gets_a_line_every_tenth_of_the_way() -> None:
    progress, clock, stream = watched()
    with progress:
        progress.start(total_rounds=50, seeds=2)
        for seed_index in range(2):
            for turn in range(1, 51):
                clock.now_s += 2.0
                progress.update(seed_index, turn, 30.0 * turn, "server lost", num_messages=1000 * turn)
        progress.finish()
    lines = stream.getvalue().splitlines()
    assert [int(line.split("]")[1].split("%")[0]) for line in lines[:-1]] == list(range(10, 101, 10))
    assert lines[0] == (
        "chisme-fig3 [quick] 10 %, seed 1 of 2, round 10 of 50 (virtual 5 min 00 s), 10,000 messages, server lost, "
        "3 min 00 s left"
    )
    assert lines[7].startswith("chisme-fig3 [quick] 80 %, seed 2 of 2, round 30 of 50")
    assert lines[-1] == "chisme-fig3 [quick]: done in 3 min 20 s"
    assert "\x1b" not in stream.getvalue()


def test_a_leap_over_several_tenths_is_one_line() -> None:
    progress, clock, stream = watched()
    progress.start(10, 1)
    for turn in (1, 6, 10):
        clock.now_s += 1.0
        progress.update(0, turn, float(turn))
    assert re.findall(r"(\d+) %", stream.getvalue()) == ["10", "60", "100"]


def test_virtual_time_is_the_measure_where_its_end_is_known() -> None:
    progress, clock, stream = watched()
    progress.start(100, 1, duration_s=1000.0)
    clock.now_s += 10.0
    progress.update(0, 1, 250.0)  # one slow round, a quarter of the time
    assert " 25 %, round 1 of 100 (virtual 4 min 10 s), " in stream.getvalue()


def test_a_run_that_time_alone_ends_names_no_number_of_rounds() -> None:
    progress, clock, stream = watched()
    progress.start(0, 1, duration_s=1000.0)
    clock.now_s += 10.0
    progress.update(0, 1, 250.0)
    assert " 25 %, round 1 (virtual 4 min 10 s), " in stream.getvalue()


def test_a_run_that_goes_on_from_a_checkpoint_does_not_boast() -> None:
    progress, clock, stream = watched()
    progress.start(100, 1)
    clock.now_s += 1.0
    progress.update(0, 60, 60.0)  # as restored: none of it was done in this second
    clock.now_s += 20.0
    progress.update(0, 70, 70.0)
    (line,) = stream.getvalue().splitlines()
    assert "70 %" in line
    assert line.endswith("1 min 00 s left")


def test_a_terminal_gets_one_line_that_moves_and_is_gone_in_the_end() -> None:
    progress, clock, stream = watched(terminal=True)
    with progress:
        progress.start(total_rounds=4, seeds=1)
        for turn in range(1, 4):
            clock.now_s += 5.0
            progress.update(0, turn, float(turn))
        shown = stream.getvalue()
        assert "chisme-fig3 [quick] ━━━━━━──────" in shown
        assert "75 %, round 3 of 4 (virtual 3 s), 5 s left" in shown
        progress.finish()
    assert "\x1b[2K" in stream.getvalue()  # the line was wiped
    assert stream.getvalue().rstrip().endswith("done in 15 s")


def test_a_terminal_is_not_redrawn_for_every_update() -> None:
    progress, clock, stream = watched(terminal=True)
    with progress:
        progress.start(total_rounds=10_000, seeds=1)
        for turn in range(1, 1001):
            clock.now_s += 0.001
            progress.update(0, turn, float(turn))
    assert stream.getvalue().count("round ") <= 12


def test_an_error_leaves_the_terminal_in_order() -> None:
    progress, _, stream = watched(terminal=True)

    def diverge() -> None:
        with progress:
            progress.start(10, 1)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        diverge()
    assert stream.getvalue().count("\x1b[?25h") == 1  # the cursor is back
