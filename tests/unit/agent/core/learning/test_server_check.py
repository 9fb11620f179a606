"""How far a server's model may be from its member's: as far as members are from each other, and not much further."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.server_check import FAR, RECENT_ROUNDS, ServerCheck, check_date
from grapevine_agent.core.moment import Moment
from grapevine_proto.errors import WireError

OWN = np.zeros(4, np.float32)
ROUND_S = 0.5


def at(monotonic_s: float, suspended_s: float = 0.0) -> Moment:
    return Moment(monotonic_s=monotonic_s, wall_ms=0, suspended_s=suspended_s)


def model(distance: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray([distance, 0, 0, 0], np.float32)


def heard(*distances: float, is_on: bool = True) -> ServerCheck:
    """A check that has heard of updates, all at the beginning."""
    check = ServerCheck(round_interval_s=ROUND_S, is_on=is_on)
    for distance in distances:
        check.note(distance, at(0))
    return check


def test_a_model_is_believed_up_to_a_multiple_of_the_usual_distance_and_no_further() -> None:
    check = heard(1, 2, 3, 2)
    check.check("sam", OWN, model(FAR * 2 - 0.01), at(1))
    with pytest.raises(WireError, match=r"sam is 2\.51 times as far .* at most 2\.5 times") as refused:
        check.check("sam", OWN, model(FAR * 2 + 0.02), at(1))
    assert refused.value.reason == "far-away"


def test_one_update_that_is_far_away_makes_no_room_for_a_server_that_is() -> None:
    with pytest.raises(WireError):
        heard(1, 1, 1, 1000).check("sam", OWN, model(10), at(1))


def test_who_has_heard_nobody_lately_cannot_tell() -> None:
    later_s = RECENT_ROUNDS * ROUND_S + 1
    heard().check("sam", OWN, model(1000), at(1))
    heard(1, 1).check("sam", OWN, model(1000), at(1))
    heard(1, 1, 1).check("sam", OWN, model(1000), at(later_s))
    heard(1, 1, 1).check("sam", OWN, model(1000), at(1, suspended_s=later_s))  # a night with the lid closed
    forgotten = heard(1, 1, 1)
    forgotten.forget()
    forgotten.check("sam", OWN, model(1000), at(1))


def test_updates_that_are_equal_to_our_model_say_nothing() -> None:
    heard(0, 0, 0, 0).check("sam", OWN, model(1), at(1))


def test_a_task_that_clips_nothing_refuses_no_server() -> None:
    heard(1, 1, 1, is_on=False).check("sam", OWN, model(1000), at(1))


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
