"""How far a server's model may be from its member's: as far as members are from each other, and not much further."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from grapevine_agent.core.learning.server_check import (
    DOUBTED,
    FAR,
    FRESH_ROUNDS,
    RECENT_ROUNDS,
    WAIT_ROUNDS,
    ServerCheck,
    check_date,
)
from grapevine_agent.core.moment import Moment
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector

OWN = np.zeros(4, np.float32)
ROUND_S = 0.5


def at(monotonic_s: float, suspended_s: float = 0.0) -> Moment:
    return Moment(monotonic_s=monotonic_s, wall_ms=0, suspended_s=suspended_s)


def model(distance: float) -> Vector:
    return np.asarray([distance, 0, 0, 0], np.float32)


def heard(*distances: float, is_on: bool = True) -> ServerCheck:
    """A check that has heard of updates, all at the beginning."""
    check = ServerCheck(rng=np.random.default_rng(0), round_interval_s=ROUND_S, is_on=is_on)
    for distance in distances:
        check.note("ben", model(distance), distance, at(0))
    return check


def believes(check: ServerCheck, distance: float, now: Moment, *, has_voice: bool = False) -> bool:
    return check.believes("sam", OWN, model(distance), now, has_voice=has_voice)


def test_a_model_is_believed_up_to_a_multiple_of_the_usual_distance_and_no_further() -> None:
    check = heard(1, 2, 3, 2)
    assert believes(check, FAR * 2 - 0.01, at(1))
    with pytest.raises(WireError, match=r"sam is 2\.51 times as far .* from ours; at most 2\.5 times") as refused:
        believes(check, FAR * 2 + 0.02, at(1))
    assert refused.value.reason == "server-far-away"


def test_members_that_agree_between_their_rounds_count_as_far_apart_as_a_round_leads() -> None:
    check = heard(0.1, 0.1, 0.2)
    with pytest.raises(WireError):
        believes(check, FAR, at(1))
    check.trained(OWN, model(2))
    assert believes(check, FAR * 2 - 0.01, at(1))
    with pytest.raises(WireError):
        believes(check, FAR * 2 + 0.02, at(1))


def test_one_update_that_is_far_away_makes_no_room_for_a_server_that_is() -> None:
    with pytest.raises(WireError):
        believes(heard(1, 1, 1, 1000), 10, at(1))


@pytest.mark.parametrize(
    ("distances", "now"),
    [
        ((), at(1)),
        ((1, 1), at(1)),
        ((0, 0, 0, 0), at(1)),  # equal models say nothing
        ((1, 1, 1), at(RECENT_ROUNDS * ROUND_S + 1)),
        ((1, 1, 1), at(1, suspended_s=RECENT_ROUNDS * ROUND_S)),  # a night with the lid closed
    ],
)
def test_where_there_is_no_telling_a_voice_is_kept_and_a_first_one_waits(
    distances: tuple[float, ...], now: Moment
) -> None:
    assert believes(heard(*distances), 1000, now, has_voice=True)
    assert not believes(heard(*distances), 1000, now)


def test_a_first_model_that_waited_is_judged_by_what_was_heard_meanwhile() -> None:
    check = heard(1, 1)
    assert not believes(check, 1000, at(1))
    check.note("ben", model(1), 1, at(1))
    assert believes(check, 2, at(1))
    with pytest.raises(WireError):
        believes(check, 1000, at(1))


@pytest.mark.parametrize("why", [{"was_refused": True}, {"others": [model(3)]}])
def test_who_was_refused_or_is_not_needed_is_not_believed_for_want_of_members(why: dict[str, Any]) -> None:
    check, long_s = heard(), WAIT_ROUNDS * ROUND_S
    for now in (at(1), at(long_s + 1), at(10 * long_s)):
        assert not check.believes("sam", OWN, model(1000), now, has_voice=False, **why)
    assert check.believes("sam", OWN, model(1000), at(DOUBTED * long_s + 1), has_voice=False, **why)


def test_a_server_that_is_about_as_far_as_another_one_need_not_wait() -> None:
    assert heard().believes("sam", OWN, model(6), at(1), has_voice=False, others=[model(3)])


def test_who_hears_nobody_for_some_rounds_believes_the_server() -> None:
    check = heard()
    assert not believes(check, 1000, at(1))
    assert not believes(check, 1000, at(WAIT_ROUNDS * ROUND_S + 0.9))
    assert believes(check, 1000, at(WAIT_ROUNDS * ROUND_S + 1))


def test_who_was_drawn_to_a_server_sees_that_it_is_far_from_all_others() -> None:
    check = heard()
    drawn = np.asarray([0, 9, 0, 0], np.float32)
    for number, sender in enumerate(("ada", "ben", "cy")):
        away = np.asarray([number, 0, 0, 0], np.float32)
        check.note(sender, away, float(np.linalg.norm(away - drawn)), at(1))
    with pytest.raises(WireError, match=r"9\.06 times as far .* from each other"):
        check.believes("sam", drawn, drawn, at(1), has_voice=True)
    assert check.believes("sam", drawn, np.asarray([1, 0, 0, 0], np.float32), at(1), has_voice=True)


def test_where_members_were_long_ago_says_nothing_of_a_server_that_has_moved_on_with_all_of_them() -> None:
    check = heard()
    for number, sender in enumerate(("ada", "ben", "cy")):
        check.note(sender, model(number / 10), 1.0, at(1))
    moved, late = model(9), at(1 + FRESH_ROUNDS * ROUND_S + 0.1)
    with pytest.raises(WireError, match="from each other"):
        check.believes("sam", moved, moved, at(1), has_voice=True)
    assert check.believes("sam", moved, moved, late, has_voice=True)


def test_a_refused_server_that_is_no_further_than_members_were_is_believed_where_nobody_is_heard() -> None:
    check, late = heard(1, 2, 2, 3), at(1 + RECENT_ROUNDS * ROUND_S)
    with pytest.raises(WireError):
        believes(check, 100, at(1))
    assert not check.believes("sam", OWN, model(2.1), late, has_voice=False, was_refused=True)
    assert check.believes("sam", OWN, model(1.9), late, has_voice=False, was_refused=True)
    check.forget()
    assert not check.believes("sam", OWN, model(1.9), late, has_voice=False, was_refused=True)


def test_another_model_of_ours_is_held_against_what_is_heard_from_then_on() -> None:
    check = heard(1, 1, 1)
    check.forget()
    assert believes(check, 1000, at(1), has_voice=True)


def test_a_task_that_clips_nothing_refuses_no_server() -> None:
    assert believes(heard(1, 1, 1, is_on=False), 1000, at(1))


HOUR_MS = 3_600_000
MADE_MS = 1_750_000_000_000


@pytest.mark.parametrize("ahead_hours", [-1000, 0, 1, 23])
def test_a_servers_clock_may_be_wrong_by_less_than_a_day(ahead_hours: int) -> None:
    check_date("sam", MADE_MS + ahead_hours * HOUR_MS, MADE_MS, MADE_MS)


def test_a_word_from_the_future_is_refused_and_dated() -> None:
    with pytest.raises(WireError, match="server sam, dated 100 hours ahead") as refused:
        check_date("sam", MADE_MS + 100 * HOUR_MS, MADE_MS, MADE_MS)
    assert refused.value.reason == "from-the-future"


def test_a_board_whose_own_clock_stands_in_1970_refuses_no_server_for_its_date() -> None:
    check_date("sam", MADE_MS + 100 * HOUR_MS, MADE_MS, 1_000)
