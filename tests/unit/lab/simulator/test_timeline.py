"""Timelines of faults and words: read strictly, and drawn the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.swarm.simulations import PROTOCOL, scenario_of

from grapevine_lab.simulator.timeline import Fault, comes_at_s, happenings
from grapevine_proto.errors import ConfigError

DAY_S = 86_400.0


def test_what_happens_again_and_again_does_so_about_as_often_as_the_scenario_says() -> None:
    fault = Fault(kind="off", every_s=DAY_S, for_s=(60.0, 600.0), at_s=DAY_S, until_s=101 * DAY_S)
    found = happenings([fault], 20, 3, 1e9)
    assert 1_800 < len(found) < 2_200  # 20 nodes, 100 days
    assert all(DAY_S <= each.at_s < 101 * DAY_S and 60.0 <= each.for_s <= 600.0 for each in found)
    assert {each.node for each in found} == set(range(20))
    assert [each.at_s for each in found] == sorted(each.at_s for each in found)


def test_another_fault_or_node_changes_nothing_of_the_others() -> None:
    first = Fault(kind="off", every_s=DAY_S, for_s=(1.0, 9.0))
    other = Fault(kind="clock", every_s=DAY_S, ahead_s=(-9.0, 9.0))
    alone = happenings([first], 3, 0, 30 * DAY_S)
    assert alone == tuple(each for each in happenings([first, other], 3, 0, 30 * DAY_S) if each.fault is first)
    assert alone == tuple(each for each in happenings([first], 5, 0, 30 * DAY_S) if each.node < 3)
    assert alone != happenings([first], 3, 1, 30 * DAY_S)


def test_what_happens_once_happens_at_its_time_and_a_broker_is_nobodys() -> None:
    once = Fault(kind="leaves", nodes=(4,), at_s=7.0)
    broker = Fault(kind="broker", at_s=3.0, for_s=(2.0, 2.0), empties=True)
    found = happenings([once, broker], 9, 0, 100.0)
    assert [(each.at_s, each.node, each.for_s) for each in found] == [(3.0, -1, 2.0), (7.0, 4, 0.0)]
    assert happenings([once, broker], 9, 0, 2.0) == ()


def test_a_node_that_comes_later_is_not_there_before() -> None:
    faults = [Fault(kind="comes", nodes=(2, 3), at_s=50.0), Fault(kind="off", nodes=(1,), at_s=9.0)]
    assert [comes_at_s(faults, node) for node in range(4)] == [0.0, 0.0, 50.0, 50.0]


WRONG = [
    ("faults=[{ kind = 'earthquake' }]", "broker"),
    ("faults=[{ kind = 'of' }]", "did you mean 'off'"),
    ("faults=[{ kind = 'off', nodes = [8] }]", "from 0 to 7"),
    ("faults=[{ kind = 'off', nodes = [true] }]", "nodes"),
    ("faults=[{ kind = 'off', for_s = [9, 3] }]", "the smaller one first"),
    ("faults=[{ kind = 'off', for_s = [3] }]", "the smaller one first"),
    ("faults=[{ kind = 'off', at_s = 9, until_s = 3 }]", "until_s"),
    ("faults=[{ kind = 'off', ppm = 3 }]", "unknown key"),
    ("faults=[{ kind = 'broker', nodes = [1] }]", "unknown key"),
    ("faults=[{ kind = 'leaves', for_s = 9 }]", "unknown key"),
    ("words=[{ kind = 'publish', node = 0, task = 'a' }]", "reviewers"),
    ("life={ max_ghosts = 0.1 }", "reviewers"),
    ("review={ approvals = 1 }", "reviewers"),
    ("review={ reviewers = [9] }", "from 0 to 7"),
]


@pytest.mark.parametrize(("change", "named"), WRONG, ids=[change for change, _ in WRONG])
def test_what_is_wrong_is_said_with_its_remedy(tmp_path: Path, change: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        scenario_of(tmp_path, PROTOCOL, change)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("[{ kind = 'approve', node = 1, task = 'a' }]", "published above"),
        (
            "[{ kind = 'publish', node = 0, task = 'a' }, { kind = 'publish', node = 0, task = 'a' }]",
            "a name of its own",
        ),
        ("[{ kind = 'publish', node = 0, task = 'b', continues = 'a' }]", "continues"),
        ("[{ kind = 'publish', node = 9, task = 'b' }]", "node"),
    ],
)
def test_words_are_about_tasks_that_were_published_above(tmp_path: Path, words: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        scenario_of(tmp_path, PROTOCOL, "review={ reviewers = [1, 2] }", f"words={words}")
