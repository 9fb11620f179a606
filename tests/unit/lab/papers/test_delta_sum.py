"""The runs of the Delta Sum paper: every one is a scenario that can be read, and the arithmetic behind the claims."""

from __future__ import annotations

import numpy as np
import pytest

from grapevine_lab.papers.delta_sum.analysis import fit, smaller_by
from grapevine_lab.papers.delta_sum.plan import PARTS, SIZES, Part, settings
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.scenario import read_scenario


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("part", PARTS)
def test_every_run_is_a_scenario_of_its_own(part: Part, size: str) -> None:
    runs = settings(part, SIZES[size])
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        scenario = read_scenario(find_scenario("delta-sum"), changes=run.changes())
        assert scenario.nodes.num == run.num_nodes
        assert scenario.partition.kind == "delta-sum"
        assert scenario.rounds == run.size.rounds + run.size.merging_rounds
        assert scenario.task.merging["strategy"] == run.strategy.removesuffix("-bounded")


def test_the_full_size_is_the_papers() -> None:
    full = SIZES["full"]
    assert (full.rounds, full.merging_rounds, full.window, full.num_samples) == (200, 35, 20, 60_000)
    assert [full.num_samples // n for n in full.nodes] == [6000, 2400, 1200]


def test_a_fit_tells_a_straight_line_from_a_logarithm() -> None:
    nodes = np.array([10.0, 18, 25, 35, 50])
    straight = fit(nodes, 0.99 - 0.0003 * nodes)
    assert straight.better == "linear"
    assert straight.linear_slope == pytest.approx(-0.0003)
    curved = fit(nodes, 0.99 - 0.003 * np.log(nodes))
    assert curved.better == "logarithmic"
    assert curved.log_slope == pytest.approx(-0.003)
    with pytest.raises(ValueError, match="three"):
        fit(nodes[:2], nodes[:2])


def test_a_drop_is_compared_as_the_paper_does() -> None:
    assert smaller_by(0.005, 0.012) == pytest.approx(0.58, abs=0.01)  # 99.1 to 98.6 against 99.1 to 97.9
