"""The parts of `judging`, with models of a few hundred numbers. What it measures is measured by `make bench`."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_agent.core.events import Quarantined
from grapevine_lab.bench.judging import A_ROUND, STRATEGIES, Member, measure
from grapevine_lab.bench.server_members import updates_of


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_judges_takes_all_updates_whole_and_ends_with_the_same_model(strategy: str) -> None:
    plain, judging = (Member.of(strategy, updates_of(300), judges=judges) for judges in (False, True))
    for member in (plain, judging):
        opening_s, merge_s = member.seconds(12)
        assert opening_s > 0
        assert merge_s > 0
    assert np.array_equal(plain.merging.model.parameters, judging.merging.model.parameters)
    assert not any(isinstance(event, Quarantined) for event in judging.merging.take_told())
    assert len(list(judging.merging.guard._crowd.senders())) > A_ROUND


def test_there_are_three_figures_of_each_strategy() -> None:
    found = measure(300, 2, 3)
    assert len(found) == 3 * len(STRATEGIES)
    assert {each.unit for each in found} == {"", "µs"}
