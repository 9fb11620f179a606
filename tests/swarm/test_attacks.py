"""The short form of the table of attacks (docs/results/robust.md): what hostile members may cost, asserted.

python -m grapevine_lab.robust        the whole table, hours
"""

from __future__ import annotations

from functools import cache

import pytest

from grapevine_lab.robust.attacks import SHORT
from grapevine_lab.robust.runs import Asked, Found, run_one

ROUNDS = 40  # of 20 agents, 4 of them hostile; 4 of 10 digits each
AT_MOST_BELOW = 0.01  # of the accuracy with silent ones, the honest agents' mean

# Which rows of the short list are held to the target, and which are not, with what they cost in points beside silence
# without defences.
MET = ("nan",)
NOT_MET = {"sign-flip": 79.5, "age-flip": 79.4, "replay": 25.1, "inner-product": 2.6, "adaptive": 24.4}


@cache
def found(attack: str) -> Found:
    return run_one(Asked(column="digits-4", strategy="doubly-weighted", attack=attack, seed=0, rounds=ROUNDS))


def test_every_attack_of_the_short_list_is_either_met_or_said_to_be_not() -> None:
    assert sorted([*MET, *NOT_MET, "none", "silent"]) == sorted(SHORT)


@pytest.mark.parametrize("attack", MET)
def test_an_attack_costs_no_more_than_a_point_beside_silence(attack: str) -> None:
    assert found(attack).mean >= found("silent").mean - AT_MOST_BELOW


def test_honest_members_are_believed() -> None:
    refused, total = found("silent").refused("honest")
    assert total > 1_000
    assert refused <= 0.02 * total
