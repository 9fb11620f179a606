"""The token account: its two functions by hand, and that it never sends more than it was granted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.core.learning.gossip import SEND_RATE_POLICIES
from grapevine_agent.core.learning.tokens import CAPACITY, RESERVE, TokenAccount, proactive, reactive


@pytest.mark.parametrize(("tokens", "probability"), [(0, 0), (9, 0), (10, 0), (11, 0.1), (15, 0.5), (20, 1), (25, 1)])
def test_the_fuller_the_account_the_likelier_a_tick_sends(tokens: int, probability: float) -> None:
    assert proactive(tokens) == pytest.approx(probability)


@pytest.mark.parametrize(("tokens", "sends"), [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2)])
def test_news_is_worth_more_sends_where_there_are_many_tokens(tokens: int, sends: int) -> None:
    assert reactive(tokens) == sends


@given(st.integers(0, 1000), st.integers(1, 100))
def test_no_more_is_spent_than_there_is(tokens: int, reserve: int) -> None:
    assert 0 <= reactive(tokens, reserve=reserve) <= tokens


# What happens to an account: a tick with or without somebody who lacks the model; an update that was of use.
events = st.lists(st.sampled_from(["tick", "nobody", "news"]), max_size=400)


@given(events, st.integers(0, 2**32 - 1))
def test_in_any_stretch_of_time_there_are_at_most_c_more_sends_than_ticks(happened: list[str], seed: int) -> None:
    account, rng = TokenAccount(), np.random.default_rng(seed)
    ahead = [0]  # sends less ticks, so far
    for event in happened:
        sends = 0
        if event == "news":
            for _ in range(reactive(account.tokens)):
                account.spend()
                sends += 1
        elif account.tick(rng):
            if event == "nobody":
                account.put_by()
            else:
                sends = 1
        assert 0 <= account.tokens <= CAPACITY
        ahead.append(ahead[-1] + sends - (event != "news"))
    lowest = 0
    for number in ahead:
        lowest = min(lowest, number)
        assert number - lowest <= CAPACITY
    assert max(ahead) <= 0, "nothing is granted before the first tick"


def test_without_news_it_fills_up_to_where_it_sends_at_every_tick() -> None:
    account, rng = TokenAccount(), np.random.default_rng(0)
    sent = [account.tick(rng) for _ in range(2000)]
    assert not any(sent[:RESERVE])
    assert account.tokens == CAPACITY
    assert all(sent[-1000:])


def test_ticks_come_as_with_log_n() -> None:
    for n in (1, 2, 10, 1000):
        assert SEND_RATE_POLICIES["token-account"](n) == SEND_RATE_POLICIES["log-n"](n)
