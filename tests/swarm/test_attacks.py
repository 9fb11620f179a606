"""The short form of the table of attacks (docs/results/robust.md): what hostile members may cost, asserted.

python -m grapevine_lab.robust        the whole table, hours
"""

from __future__ import annotations

from functools import cache

import pytest

from grapevine_lab.robust.attacks import SHORT
from grapevine_lab.robust.runs import Asked, Found, run_one

pytestmark = pytest.mark.timeout(600)  # whoever comes first makes two whole runs, on whatever machine

ROUNDS = 40  # of 20 agents, 4 of them hostile; 4 of 10 digits each
AT_MOST_BELOW = 0.01  # of the accuracy with silent ones, the honest agents' mean

# Which rows of the short list are held to the target, and which are not, with what they may cost in points beside
# silence: more than was measured (2.9 and 9.0).
MET = ("nan", "sign-flip", "age-flip", "replay")
NOT_MET = {"inner-product": 5.0, "adaptive": 12.0}


@cache
def found(attack: str) -> Found:
    return run_one(Asked(column="digits-4", strategy="doubly-weighted", attack=attack, seed=0, rounds=ROUNDS))


def test_every_attack_of_the_short_list_is_either_met_or_said_to_be_not() -> None:
    assert sorted([*MET, *NOT_MET, "none", "silent"]) == sorted(SHORT)


@pytest.mark.parametrize("attack", MET)
def test_an_attack_costs_no_more_than_a_point_beside_silence(attack: str) -> None:
    assert found(attack).mean >= found("silent").mean - AT_MOST_BELOW


@pytest.mark.parametrize("attack", NOT_MET)
def test_an_attack_that_pulls_gently_costs_no_more_than_is_said(attack: str) -> None:
    assert found(attack).mean >= found("silent").mean - NOT_MET[attack] / 100


def test_honest_members_are_believed() -> None:
    refused, total = found("silent").refused("honest")
    assert total > 1_000
    assert refused <= 0.02 * total
