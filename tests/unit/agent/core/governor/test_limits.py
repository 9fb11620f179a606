"""Every limit of the governor is tripped here, and lets go again."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest

from grapevine_agent.core.governor.budget import SLOW
from grapevine_agent.core.governor.governor import LEAST_HELD_S, Governor
from grapevine_agent.core.governor.promises import PROMISED_S
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.settings import GovernorLimits

NOON_MS = 1_750_075_200_000  # 2025-06-16 12:00 UTC
HOUR_S = 3600.0


def at(seconds: float, *, ahead_s: float = 0.0) -> Moment:
    """So long after a noon, by a clock that is so much ahead."""
    return Moment(monotonic_s=1_000.0 + seconds, wall_ms=NOON_MS + int(1000 * (seconds + ahead_s)))


def governor(**limits: Any) -> Governor:
    return Governor(limits=GovernorLimits(**limits))


SENSED = [
    # limit, as written, what trips it, what is not enough to let go of it, what is
    (
        "pause_above_c",
        {"pause_above_c": 80.0},
        {"temperature_c": 80.0},
        {"temperature_c": 76.0},
        {"temperature_c": 74.0},
    ),
    ("slow_above_c", {"slow_above_c": 70.0}, {"temperature_c": 71.0}, {"temperature_c": 66.0}, {"temperature_c": 64.0}),
    ("on_battery", {"on_battery": "pause"}, {"on_battery": True}, {"on_battery": True}, {"on_battery": False}),
    ("on_battery", {"on_battery": "slow"}, {"on_battery": True}, {"on_battery": True}, {"on_battery": False}),
    (
        "battery_above_percent",
        {"battery_above_percent": 30.0},
        {"on_battery": True, "battery_percent": 29.0},
        {"on_battery": True, "battery_percent": 34.0},
        {"on_battery": True, "battery_percent": 35.0},
    ),
    ("throttling", {"throttling": "pause"}, {"throttled": "hot"}, {"throttled": "hot"}, {"throttled": ""}),
    ("throttling", {"throttling": "slow"}, {"throttled": "hot"}, {"throttled": "hot"}, {"throttled": ""}),
    (
        "memory_pressure_percent",
        {"memory_pressure_percent": 40.0},
        {"memory_pressure_percent": 41.0},
        {"memory_pressure_percent": 25.0},
        {"memory_pressure_percent": 15.0},
    ),
    ("free_disk_mb", {"free_disk_mb": 100}, {"free_disk_mb": 99.0}, {"free_disk_mb": 110.0}, {"free_disk_mb": 130.0}),
    (
        "free_disk_mb",
        {},
        {"disk_trouble": "No space left on device"},
        {"disk_trouble": "Read-only"},
        {"disk_trouble": ""},
    ),
]


@pytest.mark.parametrize(("limit", "limits", "trips", "not_yet", "over"), SENSED)
def test_each_sensed_limit_trips_holds_with_a_margin_and_lets_go(
    limit: str, limits: dict[str, Any], trips: dict[str, Any], not_yet: dict[str, Any], over: dict[str, Any]
) -> None:
    it = governor(**limits)
    it.read(Readings(**over), at(0))
    assert it.held == ()
    assert it.budget().may_train
    it.read(Readings(**trips), at(1))
    assert it.budget().limit == limit
    slows = limit == "slow_above_c" or "slow" in limits.values()
    assert it.budget().may_train == slows
    assert it.budget().slow_factor == (SLOW if slows else 1.0)
    assert it.budget().since_ms == at(1).wall_ms
    it.read(Readings(**not_yet), at(2 * LEAST_HELD_S))
    assert it.budget().limit == limit, "no reading that is a little better ends it"
    assert it.budget().since_ms == at(1).wall_ms
    it.read(Readings(**over), at(3 * LEAST_HELD_S))
    assert it.held == ()
    assert it.budget().may_train


@pytest.mark.parametrize(("limit", "limits", "trips", "_not_yet", "over"), SENSED)
def test_what_trips_for_a_moment_holds_for_a_minute(
    limit: str, limits: dict[str, Any], trips: dict[str, Any], _not_yet: dict[str, Any], over: dict[str, Any]
) -> None:
    it = governor(**limits)
    states = []
    for second in range(0, 60, 2):  # a reading that jumps from one side to the other each time
        it.read(Readings(**(trips if second % 4 == 0 else over)), at(second))
        states.append(it.budget().limit)
    assert states == [limit] * 30


@pytest.mark.parametrize(("limit", "limits", "_trips", "_not_yet", "_over"), SENSED)
def test_what_is_not_measured_trips_nothing_and_is_named(
    limit: str, limits: dict[str, Any], _trips: dict[str, Any], _not_yet: dict[str, Any], _over: dict[str, Any]
) -> None:
    it = governor(**limits)
    it.read(Readings(), at(0))
    assert it.budget().may_train
    named = [each.split(":")[0] for each in it.not_measured()]
    is_named = bool(limits) and limit not in ("free_disk_mb", "throttling", "battery_above_percent")
    assert named == ([limit] if is_named else [])


def test_a_days_energy_that_nobody_knows_is_named() -> None:
    it = governor(joules_per_day=1_000.0)
    it.read(Readings(memory_pressure_percent=0.0), at(0))
    assert it.not_measured() == []
    it.read(Readings(memory_pressure_percent=0.0, knows_draw=False), at(1))
    assert [each.split(":")[0] for each in it.not_measured()] == ["energy_kj_per_day"]


def test_every_limit_that_there_is_has_a_test_that_trips_it() -> None:
    tripped = {limit for limit, *_ in SENSED} | {"quiet_hours", "upload_bytes_per_day", "joules_per_day", "duty_cycle"}
    assert tripped == {each.name for each in fields(GovernorLimits)}


def test_without_limits_nothing_holds_whatever_is_read() -> None:
    it = governor()
    readings = Readings(
        temperature_c=150.0, throttled="hot", on_battery=True, battery_percent=1.0, memory_pressure_percent=99.0
    )
    it.read(replace(readings, free_disk_mb=0.0), at(0))
    it.sent(10**12)
    it.trained(1e6, 1e9)
    it.look(at(1))
    assert it.held == ()
    assert it.may_send(10**12, at(1))
    assert it.send_bytes_left == math.inf
    assert it.deadline_s(at(1)) == math.inf


# --- by the clock ---------------------------------------------------------------------------------


def test_quiet_hours_begin_and_end_to_the_second_by_local_time() -> None:
    it = governor(quiet_hours=((22 * 60, 7 * 60),))
    it.read(Readings(utc_offset_s=7200), at(0))  # 14:00 there
    assert it.budget().may_train
    assert it.deadline_s(at(0)) == pytest.approx(at(8 * HOUR_S).monotonic_s)
    it.look(at(8 * HOUR_S - 1))
    assert it.budget().may_train
    it.look(at(8 * HOUR_S))
    assert it.budget().limit == "quiet_hours"
    assert it.budget().until_ms == at(17 * HOUR_S).wall_ms  # 07:00 there
    assert it.deadline_s(at(8 * HOUR_S)) == pytest.approx(at(17 * HOUR_S).monotonic_s)
    it.look(at(17 * HOUR_S))
    assert it.budget().may_train


def test_a_days_bytes_bound_models_until_midnight() -> None:
    it = governor(upload_bytes_per_day=1_000_000)
    it.look(at(0))
    assert it.may_send(400_000, at(0))
    assert it.may_send(400_000, at(0))
    assert not it.may_send(400_000, at(0)), "what is promised and has not left counts, too"
    it.sent(400_000)
    it.sent(400_000)
    assert it.send_bytes_left == 200_000
    assert not it.may_send(400_000, at(1))
    it.look(at(2))
    assert it.budget().limit == "upload_mb_per_day"
    assert it.budget().may_train, "what it learns it may learn"
    assert it.budget().until_ms == NOON_MS + 12 * 3_600_000
    assert not it.is_spent
    it.sent(200_000)  # presence, and what else is small
    assert it.is_spent
    it.look(at(12 * HOUR_S))
    assert it.held == ()
    assert it.may_send(400_000, at(12 * HOUR_S))


def test_a_promise_that_was_not_kept_is_given_back() -> None:
    it = governor(upload_bytes_per_day=1_000_000)
    it.look(at(0))
    assert it.may_send(900_000, at(0))
    assert not it.may_send(900_000, at(PROMISED_S - 1))
    assert it.may_send(900_000, at(PROMISED_S))


def test_a_promise_holds_while_parts_of_it_leave() -> None:
    it = governor(upload_bytes_per_day=1_000_000)
    it.look(at(0))
    assert it.may_send(900_000, at(0))
    for second in range(0, 120, 20):
        it.sent(120_000)  # a chunk now and then
        assert not it.may_send(200_000, at(second))
    it.sent(300)  # of presence: it shows nothing
    assert it.may_send(200_000, at(100 + PROMISED_S))


def test_an_asker_that_never_fetches_holds_no_bytes_back() -> None:
    it = governor(upload_bytes_per_day=100_000_000)
    it.look(at(0))
    for _ in range(20):
        assert it.may_give(40_000_000, at(0), is_member=True, at_once=4_000)
    assert it.may_send(99_000_000, at(0)), "what is asked for in vain is not ours to wait for"


def test_others_than_members_have_a_share_of_the_day() -> None:
    it = governor(upload_bytes_per_day=1_000_000)
    it.look(at(0))
    assert it.may_give(300_000, at(0), is_member=False)
    it.sent(300_000)
    assert not it.may_give(300_000, at(1), is_member=False)
    assert it.may_give(300_000, at(1), is_member=True)
    it.sent(300_000)
    it.look(at(2))
    assert it.held == (), "what is refused to others is no limit on what we send"
    after = reborn(it, at(3))
    assert not after.may_give(300_000, at(3), is_member=False)
    assert after.may_send(300_000, at(3))
    after.look(at(12 * HOUR_S))
    assert after.may_give(300_000, at(12 * HOUR_S), is_member=False)


def test_a_model_too_large_for_today_is_forgotten_once_one_of_its_size_may_leave() -> None:
    it = governor(upload_bytes_per_day=1_000_000)
    it.look(at(0))
    assert not it.may_send(2_000_000, at(0))
    it.look(at(1))
    assert it.budget().limit == "upload_mb_per_day"
    it.limits = GovernorLimits(upload_bytes_per_day=3_000_000)
    assert it.may_send(2_000_000, at(2))
    it.sent(2_000_000)
    it.look(at(3))
    assert it.held == ()


def test_a_days_joules_pause_training_until_midnight() -> None:
    it = governor(joules_per_day=5_000.0)
    it.look(at(0))
    it.trained(10.0, 4_999.0)
    it.look(at(1))
    assert it.budget().may_train
    it.trained(1.0, 2.0)
    it.look(at(2))
    assert it.budget().limit == "energy_kj_per_day"
    assert not it.budget().may_train
    assert it.budget().until_ms == NOON_MS + 12 * 3_600_000
    it.look(at(12 * HOUR_S))
    assert it.budget().may_train
    assert it.day.joules == 0


def test_a_duty_cycle_slows_down_and_a_slowing_limit_slows_that() -> None:
    it = governor(duty_cycle=0.5, slow_above_c=60.0)
    it.look(at(0))
    assert it.budget().slow_factor == 2.0
    it.read(Readings(temperature_c=65.0), at(1))
    assert it.budget().slow_factor == 2.0 * SLOW
    assert it.budget().interval_factor == SLOW


# --- the owner's word -----------------------------------------------------------------------------


def test_a_pause_for_a_while_ends_by_itself_and_one_without_end_when_it_is_resumed() -> None:
    it = governor()
    it.look(at(0))
    it.pause("", "", 2 * HOUR_S, at(0))
    assert it.budget().limit == "pause"
    assert it.budget().until_ms == at(2 * HOUR_S).wall_ms
    assert it.deadline_s(at(0)) == at(2 * HOUR_S).monotonic_s
    it.look(at(2 * HOUR_S))
    assert it.budget().may_train
    it.pause("", "", None, at(3 * HOUR_S))
    it.look(at(300 * HOUR_S))
    assert not it.budget().may_train
    assert it.budget().until_ms == 0
    assert it.resume("", at(300 * HOUR_S))
    assert it.budget().may_train
    assert not it.resume("", at(301 * HOUR_S))


def test_one_task_is_paused_and_the_others_train() -> None:
    it = governor()
    it.pause("a" * 64, "digits 1", None, at(0))
    assert not it.budget("a" * 64).may_train
    assert it.budget("b" * 64).may_train
    assert it.budget().may_train
    it.pause("", "", None, at(1))
    assert it.resume("a" * 64, at(2))
    assert not it.budget("a" * 64).may_train, "all are paused still"


def test_the_pause_of_all_can_end_alone() -> None:
    it = governor()
    it.pause("a" * 64, "digits 1", None, at(0))
    assert not it.resume("", at(1), keeps_single=True), "nothing was paused but the one"
    it.pause("", "", None, at(2))
    assert it.resume("", at(3), keeps_single=True)
    assert it.budget("b" * 64).may_train
    assert not it.budget("a" * 64).may_train, "it was paused by itself"
    assert it.resume("", at(4))
    assert it.budget("a" * 64).may_train


def test_resuming_ends_no_limit_but_the_owners() -> None:
    it = governor(quiet_hours=((11 * 60, 13 * 60),))
    it.look(at(0))
    it.pause("", "", None, at(0))
    assert [each.limit for each in it.held] == ["pause", "quiet_hours"]
    it.resume("", at(1))
    assert it.budget().limit == "quiet_hours"


@pytest.mark.parametrize("ahead_s", [-1e6, 1e6, -1e9, 1e9])
def test_a_clock_that_jumps_makes_a_pause_neither_longer_nor_shorter(ahead_s: float) -> None:
    it = governor()
    it.look(at(0))
    it.pause("", "", HOUR_S, at(0))
    it.look(at(10, ahead_s=ahead_s))
    assert not it.budget().may_train
    assert it.budget().until_ms == pytest.approx(at(HOUR_S, ahead_s=ahead_s).wall_ms, abs=10)
    it.look(at(HOUR_S, ahead_s=ahead_s))
    assert it.budget().may_train


# --- across a restart -----------------------------------------------------------------------------


def reborn(before: Governor, now: Moment) -> Governor:
    after = Governor(limits=before.limits)
    after.restore(before.to_save() or before._saved, now)
    return after


def test_counters_and_pauses_survive_a_restart() -> None:
    it = governor(joules_per_day=100.0)
    it.look(at(0))
    it.trained(5.0, 150.0)
    it.sent(12_345)
    it.pause("t" * 64, "digits 1", HOUR_S, at(0))
    it.pause("", "", None, at(0))
    boot = Moment(monotonic_s=3.0, wall_ms=at(600).wall_ms)
    after = reborn(it, boot)
    assert (after.day.bytes_sent, after.day.joules, after.day.training_s) == (12_345, 150.0, 5.0)
    assert {each.limit for each in after.held} == {"pause", "energy_kj_per_day"}
    assert after.budget().since_ms == at(0).wall_ms, "a pause is as old as it is"
    assert after.pauses.held["t" * 64].until_s == pytest.approx(3.0 + HOUR_S - 600)
    later = Moment(monotonic_s=3.0, wall_ms=at(2 * HOUR_S).wall_ms)
    assert set(reborn(it, later).pauses.held) == {""}, "the one for an hour is over"


def test_after_a_restart_with_a_clock_of_1970_a_pause_lasts_no_longer_than_it_was_to() -> None:
    it = governor()
    it.look(at(0))
    it.pause("", "", HOUR_S, at(0))
    boot = Moment(monotonic_s=2.0, wall_ms=5_000)
    after = reborn(it, boot)
    assert after.pauses.held[""].until_s == pytest.approx(2.0 + HOUR_S)


@pytest.mark.parametrize("offset_h", [-11, -5, 0, 5, 13])
def test_a_restart_in_the_evening_is_the_same_local_day(offset_h: int) -> None:
    it, readings = governor(upload_bytes_per_day=1_000_000), Readings(utc_offset_s=offset_h * 3600)
    evening = at((8 - offset_h) * HOUR_S)  # 20:00 there
    it.read(readings, evening)
    it.sent(990_000)
    after = reborn(it, Moment(monotonic_s=5.0, wall_ms=evening.wall_ms + 60_000))
    after.read(readings, Moment(monotonic_s=20.0, wall_ms=evening.wall_ms + 75_000))
    assert after.day.bytes_sent == 990_000
    after.look(Moment(monotonic_s=5.0 + 4 * HOUR_S, wall_ms=evening.wall_ms + 4 * 3_600_000))
    assert after.day.bytes_sent == 0, "local midnight"


def test_quiet_hours_are_local_from_the_start() -> None:
    it = governor(quiet_hours=((22 * 60, 7 * 60),))
    it.restore(None, at(0), utc_offset_s=11 * 3600)  # 23:00 there
    assert it.budget().limit == "quiet_hours"
    it = governor(quiet_hours=((11 * 60, 13 * 60),))
    it.restore(None, at(0), utc_offset_s=-5 * 3600)  # 07:00 there
    assert it.budget().may_train


def test_a_pause_outlives_a_restart_after_the_clock_was_set_back() -> None:
    it = governor()
    it.look(at(0))
    it.pause("", "", 8 * HOUR_S, at(0))
    it.look(at(50, ahead_s=-3e7))
    after = reborn(it, Moment(monotonic_s=1.0, wall_ms=at(110, ahead_s=-3e7).wall_ms))
    assert after.pauses.held[""].until_s == pytest.approx(1.0 + 8 * HOUR_S - 110, abs=1)
    woken_in_1970 = reborn(after, Moment(monotonic_s=1.0, wall_ms=5_000))
    again = reborn(woken_in_1970, Moment(monotonic_s=2.0, wall_ms=6_000))
    assert again.pauses.held[""].until_s == pytest.approx(2.0 + 8 * HOUR_S - 1), "no longer than it was to be"


@pytest.mark.parametrize(
    "saved",
    [
        None, "", "[]", "{", '{"day": 3, "pauses": []}', '{"pauses": {"": 7, "a": {"label": 1}}}', "[" * 100_000,
        json.dumps({"day": {"day": -1, "bytes": "x", "joules": math.nan, "training_s": True}}),
        json.dumps({"pauses": {"": {"label": "", "since_ms": 1.5, "until_ms": 2}}}),
    ],
)  # fmt: skip
def test_a_damaged_memory_is_a_fresh_start(saved: str | None) -> None:
    it = governor()
    it.restore(saved, at(0))
    assert it.held == ()
    assert (it.day.bytes_sent, it.day.joules, it.day.training_s) == (0, 0.0, 0.0)
