"""What is asked for again is asked for once, and given up when it has arrived or when too much is asked for."""

from __future__ import annotations

from grapevine_agent.core import effects as fx
from grapevine_agent.core.tasks.wanted import MOST_WANTED, Wanted


def test_what_is_wanted_is_asked_for_once_until_it_arrives() -> None:
    wanted = Wanted()
    assert wanted.arrived("a") == []
    assert wanted.want("a") == [fx.Subscribe(filter="a")]
    assert wanted.want("a") == []
    assert wanted.arrived("a") == [fx.Unsubscribe(filter="a")]
    assert wanted.arrived("a") == []
    assert wanted.want("a") == [fx.Subscribe(filter="a")]


def test_where_too_much_is_wanted_the_first_is_given_up() -> None:
    wanted = Wanted()
    for number in range(MOST_WANTED):
        assert wanted.want(str(number)) == [fx.Subscribe(filter=str(number))]
    assert wanted.want("more") == [fx.Subscribe(filter="more"), fx.Unsubscribe(filter="0")]
    assert wanted.arrived("0") == []
