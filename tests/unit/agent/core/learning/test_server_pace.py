"""How often a server publishes, and for how long a member's update speaks for it."""

from __future__ import annotations

import pytest

from grapevine_agent.core.learning.server_pace import FORGET_INTERVALS, MAX_MEMBERS, ServerPace


def test_a_few_models_are_made_in_a_round_of_a_minute() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=60.0)
    assert pace.publish_every_s == 20
    assert pace.forget_s >= 2 * 60


def test_rounds_that_are_shorter_than_heartbeats_change_nothing() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=0.25)
    assert (pace.publish_every_s, pace.forget_s) == (1.0, FORGET_INTERVALS)


def test_a_strategy_of_rounds_publishes_once_a_round() -> None:
    assert ServerPace(heartbeat_s=1.0, round_interval_s=60.0, in_rounds=True).publish_every_s == 60


def test_rounds_are_as_long_as_members_need() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=1.0)
    for k in range(30):
        for version in range(3):
            pace.hear(f"{k}", version + 1, 90.0 * version + k)
    assert pace.round_s == 90
    assert pace.publish_every_s == 30


def test_lost_updates_do_not_make_rounds_longer() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=1.0)
    pace.hear("k", 1, 0.0)
    pace.hear("k", 4, 90.0)
    assert pace.round_s == 30


def test_a_slow_member_is_waited_for_and_a_liar_not_for_ever() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=60.0)
    for peer, round_s in (("k", 60.0), ("l", 60.0), ("slow", 180.0)):
        pace.hear(peer, 1, 0.0)
        pace.hear(peer, 2, round_s)
    assert pace.round_s == 60
    assert pace.forget_s >= 2 * 180
    pace.hear("liar", 1, 0.0)
    for peer, round_s in (("k", 60.0), ("l", 60.0), ("slow", 180.0)):
        pace.hear(peer, 2 + int(999_900 / round_s), round_s + 999_900)
    pace.hear("liar", 2, 1_000_100)
    assert pace.round_s == 60
    assert pace.forget_s == pytest.approx(3 * 4 * 60)


def test_one_fast_member_does_not_set_the_pace() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=1.0)
    for peer, round_s in (("k", 60.0), ("l", 60.0), ("fast", 2.0)):
        pace.hear(peer, 1, 0.0)
        pace.hear(peer, 2, round_s)
    assert pace.round_s == 60


def test_slow_members_who_left_do_not_set_the_pace_for_ever() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=1.0)
    for k in range(10):
        pace.hear(f"slow{k}", 1, 0.0)
        pace.hear(f"slow{k}", 2, 600.0)

    def hear_the_fast(until_s: int) -> None:
        for second in range(600, until_s, 5):
            for k in range(3):
                pace.hear(f"fast{k}", second, float(second))

    hear_the_fast(2_390)
    assert pace.round_s == 600
    hear_the_fast(2_500)
    assert (pace.round_s, pace.publish_every_s, pace.forget_s) == (1.0, 1.0, FORGET_INTERVALS)


def test_members_that_are_remembered_are_bounded() -> None:
    pace = ServerPace(heartbeat_s=1.0, round_interval_s=1.0)
    for k in range(2 * MAX_MEMBERS):
        pace.hear(f"{k}", 1, 0.0)
        pace.hear(f"{k}", 2, 5.0)
    assert len(pace._heard) == len(pace._rounds_s) == MAX_MEMBERS
