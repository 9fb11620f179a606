"""A day's counters, with clocks that are right and clocks that are not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.core.governor.changes import Changes
from grapevine_agent.core.governor.day import Day
from grapevine_agent.core.governor.governor import Governor
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.governor.times import clock_words, day_ends_ms, next_quiet_ms, quiet_until_ms
from grapevine_agent.core.moment import DAY_MS, Moment
from grapevine_agent.core.settings import GovernorLimits

MIDNIGHT_MS = 1_750_032_000_000  # 2025-06-16 00:00 UTC
HOUR_S = 3600.0


def moment(hours: float, *, ahead_h: float = 0.0) -> Moment:
    return Moment(monotonic_s=hours * HOUR_S, wall_ms=MIDNIGHT_MS + int((hours + ahead_h) * 3_600_000))


def used(day: Day) -> bool:
    return day.bytes_sent > 0


def begun(hours: float = 0.0) -> Day:
    day = Day()
    day.look(moment(hours), 0)
    day.bytes_sent = 7
    return day


def test_a_day_ends_at_local_midnight() -> None:
    day = Day()
    day.look(moment(1), 3600)
    day.bytes_sent = 7
    assert not day.look(moment(22.9), 3600)
    assert day.look(moment(23), 3600)
    assert not used(day)


def test_a_start_late_in_the_evening_has_its_midnight() -> None:
    day = begun(23.5)
    assert day.look(moment(24), 0)
    assert not used(day)


def test_a_clock_that_jumps_on_brings_one_new_day_and_not_one_after_the_other() -> None:
    day = begun(12)
    assert day.look(moment(12.1, ahead_h=24), 0)
    for number in range(2, 30):  # somebody, or something, sets it on and on
        day.bytes_sent += 1
        assert not day.look(moment(12.1 + number / 60, ahead_h=24 * number), 0)
    assert day.bytes_sent == 28


def test_a_board_that_wakes_in_1970_goes_on_with_its_day() -> None:
    saved = begun(12).to_save()
    day = Day.restored(saved)
    assert not day.look(Moment(monotonic_s=5.0, wall_ms=5_000), 0)
    assert used(day)
    assert not day.look(Moment(monotonic_s=65.0, wall_ms=moment(13).wall_ms), 0)  # the time has come
    assert used(day)
    assert day.look(Moment(monotonic_s=70.0, wall_ms=moment(36).wall_ms), 0)


def test_a_clock_that_was_years_ahead_does_not_starve_the_device() -> None:
    day = begun(12)
    day.look(moment(12.5, ahead_h=24 * 2_000), 0)
    day.bytes_sent = 7
    assert not day.look(moment(13), 0)  # it is right again, and that day is years away
    assert used(day)
    assert not day.look(moment(36.9), 0)
    assert day.look(moment(37.1), 0), "a whole day by the monotonic clock has passed"


def test_a_device_that_is_suspended_each_night_has_each_day() -> None:
    day, resets = begun(0.5), 0
    for number in range(1, 6):
        now = moment(24 * number + 7)  # it wakes at seven; the monotonic clock stood still for nine hours each night
        suspended_s = 9 * HOUR_S * number
        assert day.look(Moment(now.monotonic_s - suspended_s, now.wall_ms, suspended_s), 0)
        resets += 1
    assert resets == 5


def test_a_board_that_is_switched_off_daily_is_not_starved_by_a_clock_that_was_ahead() -> None:
    day = begun(12)
    day.look(moment(12.5, ahead_h=24 * 2_000), 0)
    day.bytes_sent = 7
    saved, resets = day.to_save(), []
    for number in range(1, 6):  # ten hours a day, each a life of its own
        day = Day.restored(saved)
        for hour in range(11):
            at = moment(24 * number + hour)
            if day.look(Moment(monotonic_s=5.0 + hour * HOUR_S, wall_ms=at.wall_ms), 0):
                resets.append((number, hour))
        saved = day.to_save()
    assert resets == [(3, 4), (4, 0), (5, 0)]


@given(st.lists(st.floats(-1e7, 1e7), max_size=60))
def test_whatever_the_clock_does_a_day_is_had_once_in_twenty_hours(jumps: list[float]) -> None:
    day, resets = begun(0.0), []
    for number, ahead_h in enumerate(jumps):
        if day.look(moment(number, ahead_h=ahead_h), 0):
            resets.append(number)
    assert all(later - earlier >= 20 for earlier, later in pairwise(resets))


# --- times of the day -----------------------------------------------------------------------------

AT_22 = MIDNIGHT_MS + 22 * 3_600_000


def test_a_span_over_midnight_holds_on_both_sides_of_it() -> None:
    spans = ((22 * 60, 7 * 60),)
    assert quiet_until_ms(spans, AT_22 - 1, 0) == 0
    assert quiet_until_ms(spans, AT_22, 0) == AT_22 + 9 * 3_600_000
    assert quiet_until_ms(spans, AT_22 + 4 * 3_600_000, 0) == AT_22 + 9 * 3_600_000
    assert quiet_until_ms(spans, AT_22 + 9 * 3_600_000, 0) == 0
    assert next_quiet_ms(spans, AT_22, 0) == AT_22 + DAY_MS


def test_spans_that_follow_each_other_end_together() -> None:
    spans = ((6 * 60, 8 * 60), (8 * 60, 9 * 60), (22 * 60, 6 * 60))
    assert quiet_until_ms(spans, AT_22, 0) == AT_22 + 11 * 3_600_000


def test_spans_that_fill_the_day_are_looked_at_again_tomorrow() -> None:
    spans = ((0, 12 * 60), (12 * 60, 0))
    assert quiet_until_ms(spans, AT_22, 0) == AT_22 + DAY_MS


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, DAY_MS - 1), st.integers(-43_200, 50_400))
def test_a_span_holds_exactly_within_it(start: int, until: int, at_ms: int, offset_s: int) -> None:
    wall_ms = MIDNIGHT_MS + at_ms
    minute = (wall_ms / 60_000 + offset_s / 60) % 1440
    inside = start <= minute < until if start <= until else (minute >= start or minute < until)
    end_ms = quiet_until_ms(((start, until),), wall_ms, offset_s)
    assert (end_ms > 0) == inside
    if inside:
        assert (end_ms / 60_000 + offset_s / 60) % 1440 == pytest.approx(until, abs=1e-3)


def test_midnight_is_local() -> None:
    assert day_ends_ms(MIDNIGHT_MS, 0) == MIDNIGHT_MS + DAY_MS
    assert day_ends_ms(MIDNIGHT_MS, 7_200) == MIDNIGHT_MS + 22 * 3_600_000


def test_times_are_told_as_people_tell_them() -> None:
    assert clock_words(AT_22, MIDNIGHT_MS, 0) == "22:00"
    assert clock_words(AT_22, MIDNIGHT_MS, 7_200) == "00:00 tomorrow"
    assert clock_words(AT_22 + 3 * DAY_MS, MIDNIGHT_MS, 0) == "22:00 in 3 days"


# --- what is said ---------------------------------------------------------------------------------


def test_one_line_is_said_when_a_limit_begins_and_one_when_it_ends() -> None:
    it, changes = Governor(limits=GovernorLimits(pause_above_c=80.0, quiet_hours=((0, 60),))), Changes()

    def told(temperature_c: float, hours: float) -> list[str]:
        now = moment(hours)
        it.read(Readings(temperature_c=temperature_c), now)
        return [each.text for each in changes.between(it.held, now.wall_ms, 0)]

    assert told(83.2, 0.5) == [
        "training is paused: it is 83 °C hot, 80 °C is the limit [pause_above_c]",
        "training is paused: these are quiet hours, until 01:00 [quiet_hours]",
    ]
    assert told(84.0, 0.6) == []
    assert told(84.0, 1.0) == ["training is still paused (pause_above_c): quiet_hours holds no more"]
    assert told(60.0, 1.5) == ["training goes on: pause_above_c holds no more"]
    it.pause("", "", 600.0, moment(2))
    assert told(60.0, 2) == ["training is paused: its owner paused it, until 02:10 [pause]"]
    assert told(60.0, 2.2) == ["training goes on: its owner's pause is over"]
