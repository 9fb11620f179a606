"""Whom a tick of the send clock chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from grapevine_agent.core.learning.gossip import UNPROVED_AT_LEAST, SendClock, Targets

EVERYBODY = [f"p{number}" for number in range(10)]
USEFUL, OTHERS = EVERYBODY[:2], EVERYBODY[2:]


def picked(lacking: Sequence[str], num: int = 2_000, everybody: Sequence[str] = EVERYBODY) -> Counter[str | None]:
    clock, targets = SendClock(np.random.default_rng(0)), Targets(everybody=everybody, useful=USEFUL)
    return Counter(clock.pick(targets, lambda peers: [p for p in peers if p in lacking]) for _ in range(num))


@pytest.mark.parametrize("lacking", [USEFUL, OTHERS, ["p1"], ["p7"]])
def test_a_tick_goes_to_somebody_while_anybody_lacks_the_model(lacking: Sequence[str]) -> None:
    assert set(picked(lacking)) == set(lacking)


def test_half_of_the_ticks_go_to_those_who_were_of_use() -> None:
    counts = picked(EVERYBODY)
    assert sum(counts[peer] for peer in USEFUL) == pytest.approx(1_000, rel=0.1)


def test_a_crowd_that_is_not_believed_gets_no_more_than_its_half_where_useful_ones_have_the_model() -> None:
    crowd = [f"x{number}" for number in range(UNPROVED_AT_LEAST + 1)]
    counts = picked(crowd, everybody=[*USEFUL, *crowd])
    assert counts[None] == pytest.approx(1_000, rel=0.1)
    assert set(picked(USEFUL, everybody=[*USEFUL, *crowd])) == set(USEFUL)


def test_where_nobody_lacks_it_nothing_is_sent() -> None:
    assert set(picked([])) == {None}
