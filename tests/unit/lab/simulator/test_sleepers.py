"""Nodes that sleep: which, when, and the same times for those who do not say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.settings import SleepPlan
from grapevine_lab.simulator.availability import AvailabilityPlan, absences, is_sleeper, read_availability, sleep_of
from grapevine_lab.simulator.clock import EPOCH_MS
from grapevine_proto.errors import ConfigError

PLAN = AvailabilityPlan(kind="sleep", share=0.5, online_s=60.0, every_s=600.0)


@pytest.mark.parametrize(("share", "num"), [(0.5, 10), (0.3, 6), (1.0, 20), (0.01, 0)])
def test_a_share_of_the_nodes_sleeps_spread_over_their_numbers(share: float, num: int) -> None:
    who = [node for node in range(20) if is_sleeper(replace(PLAN, share=share), node)]
    assert len(who) == num
    assert num < 2 or max(np.diff(who)) <= 20 // num + 1


def test_sleepers_are_told_as_an_owner_would_write_it() -> None:
    assert [sleep_of(PLAN, node) for node in range(4)] == [None, SleepPlan(online_s=60, every_s=600)] * 2
    assert sleep_of(replace(PLAN, announced=False), 1) is None
    assert sleep_of(AvailabilityPlan(), 1) is None
    assert absences(PLAN, 4, np.random.default_rng(0), 3600.0) == [[]] * 4


def test_those_who_do_not_say_so_are_away_at_the_same_times() -> None:
    found = absences(replace(PLAN, announced=False), 4, np.random.default_rng(0), 3600.0)
    assert found[0] == found[2] == []
    assert found[1] != found[3]
    first = 600 - EPOCH_MS / 1000 % 600  # the first window begins then
    assert found[1][0][0] == 60.0, "after its start it is there for as long as a window"
    assert first <= found[1][0][1] <= first + 6
    for (from_s, until_s), turn in zip(found[1][1:], range(9), strict=False):
        assert from_s == first + turn * 600 + 60
        assert first + (turn + 1) * 600 <= until_s <= first + (turn + 1) * 600 + 6


def test_a_window_that_leaves_no_time_to_sleep_is_refused() -> None:
    table = Table({"kind": "sleep", "online_s": 590, "every_s": 600}, source="s.toml", name="availability")
    with pytest.raises(ConfigError, match=r"availability.online_s = 590.*write 540 or less"):
        read_availability(table, Path())
