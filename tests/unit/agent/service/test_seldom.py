"""One line a minute of what comes each round."""

from __future__ import annotations

from grapevine_agent.service.seldom import EVERY_S, Seldom


def test_each_thing_is_said_once_a_minute() -> None:
    seldom = Seldom()
    said = [(what, now_s) for now_s in range(0, 150, 5) for what in "ab" if seldom.may_say(what, float(now_s))]
    assert said == [(what, now_s) for now_s in (0, 60, 120) for what in "ab"]


def test_what_is_remembered_is_bounded() -> None:
    seldom = Seldom()
    assert all(seldom.may_say(str(number), 0.0) for number in range(5_000))
    assert len(seldom._said_s) == 1_000
    assert seldom.may_say("4999", EVERY_S)
