"""The Delta Sum paper's claim, in its quick form: no difference at few nodes, a smaller drop at many."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from grapevine_lab.papers.delta_sum.plan import SIZES, Setting, Strategy
from grapevine_lab.papers.delta_sum.runs import run
from grapevine_lab.papers.delta_sum.traffic import federated, gossip

QUICK = SIZES["quick"]
FEW, MANY = QUICK.nodes
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delta-sum")


@cache
def accuracies(folder: Path, strategy: Strategy, num_nodes: int) -> list[float]:
    """After the last round, of the median node, seed by seed."""
    settings = [Setting(strategy=strategy, num_nodes=num_nodes, size=QUICK, seed=seed) for seed in SEEDS]
    return [run(setting, folder).final()[0] for setting in settings]


def test_among_few_nodes_delta_sum_is_as_good_as_averaging(folder: Path) -> None:
    for summed, averaged in zip(accuracies(folder, "delta-sum", FEW), accuracies(folder, "average", FEW), strict=True):
        assert averaged > 0.93
        assert summed == pytest.approx(averaged, abs=0.015)


def test_delta_sum_loses_less_than_averaging_when_there_are_many_nodes(folder: Path) -> None:
    for seed in range(len(SEEDS)):
        drop = {
            strategy: accuracies(folder, strategy, FEW)[seed] - accuracies(folder, strategy, MANY)[seed]
            for strategy in ("average", "delta-sum")
        }
        assert 0 < drop["delta-sum"] < drop["average"] - 0.005


def test_gossip_sends_several_times_what_federated_averaging_sends() -> None:
    gossips, federates = gossip(12, 4), federated(12, sync_rounds=20)
    assert gossips.neighbours == 4
    # A change to each neighbour every epoch, and a base every 20; one model up every epoch, one down every 20.
    assert gossips.models == pytest.approx(4 * (1 + 1 / 20), rel=0.05)
    assert federates.models == pytest.approx(1 + 1 / 20, rel=0.05)
