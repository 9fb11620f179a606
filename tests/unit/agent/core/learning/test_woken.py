"""A peer that slept gets the newest model from a few, within what is sent, and nothing twice."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.learning.answering import MOST_OWED
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.told import DOUBT_HEARTBEATS, Told
from grapevine_agent.core.learning.woken import MOST_WAITING, Woken


@pytest.mark.parametrize(("num_members", "expected"), [(1, 1.0), (3, 3.0), (10, 5.3), (100, 7.6), (5_000, 11.5)])
def test_a_few_of_many_members_send(num_members: int, expected: float) -> None:
    rng, woken = np.random.default_rng(0), Woken()
    found = np.mean([sum(woken.draws(num_members, rng) for _ in range(num_members)) for _ in range(400)])
    assert found == pytest.approx(expected, rel=0.1)


def test_so_many_are_sent_to_ahead_of_the_clock_and_ticks_pay_for_them() -> None:
    woken = Woken()
    for _ in range(MOST_OWED):
        assert woken.may_send
        woken.sent_ahead()
    assert not woken.may_send
    ticks = [woken.takes_tick() for _ in range(10)]
    assert sum(ticks) == MOST_OWED
    assert woken.may_send


def test_those_who_wait_are_bounded_and_taken_in_turn() -> None:
    woken = Woken()
    for number in range(100_000):
        woken.add(str(number))
    found = []
    while (peer := woken.take()) is not None:
        found.append(peer)
    assert found == [str(number) for number in range(MOST_WAITING)]


def test_what_was_sent_just_before_a_sleep_may_not_have_come() -> None:
    told = Told(heartbeat_s=1.0, counts_windows=False)
    model = ModelState.initial(np.ones(4, np.float32), np.zeros(0, np.float32))
    everybody = [("a", 1), ("b", 1), ("c", 1)]
    told.sent(model, "a", 1, 0.0)
    told.sent(model, "b", 1, 10.0)
    told.sent(model, "c", 1, 10.0)
    told.doubt(10.0 + DOUBT_HEARTBEATS / 2, "a")
    assert told.lacking(model, everybody, 12.0) == [], "long before"
    told.doubt(10.0 + DOUBT_HEARTBEATS / 2, "b")
    assert told.lacking(model, everybody, 12.0) == ["b"]
    told.doubt(10.0 + DOUBT_HEARTBEATS / 2)
    assert told.lacking(model, everybody, 12.0) == ["b", "c"], "we are the one who sleeps"
