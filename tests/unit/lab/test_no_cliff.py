"""Figures and tables of a server that comes and goes, of courses that can be checked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from grapevine_lab.no_cliff.__main__ import app
from grapevine_lab.no_cliff.cases import ARRANGEMENTS, changes_of, present_s
from grapevine_lab.no_cliff.falls import fall_at, reached
from grapevine_lab.no_cliff.runs import Asked, Found, by_agent, read
from grapevine_lab.no_cliff.table import tables
from grapevine_proto.errors import ConfigError


def test_a_fall_is_what_goes_below_the_mean_of_the_readings_before() -> None:
    metric = np.full((2, 60), 0.9)
    metric[0, 22], metric[1, 24] = 0.86, 0.88
    metric[0, 40] = 0.1  # later than fifteen rounds after
    fall = fall_at(metric, "loss", 20)
    assert fall.mean == pytest.approx(2.0)
    assert fall.agent == pytest.approx(4.0)
    assert fall_at(metric, "flapping", 20, until=45).agent == pytest.approx(80.0)
    assert fall_at(np.tile(np.linspace(0, 1, 60), (2, 1)), "loss", 20).mean < 0  # it only rose
    with pytest.raises(ValueError, match="round 3 of 60"):
        fall_at(metric, "loss", 3)


def test_a_value_is_reached_with_the_round_at_which_the_mean_is_there_first() -> None:
    metric = np.array([[0.1, 0.8, 0.9], [0.1, 0.4, 0.9]])
    time_s, traffic = np.array([[0.0, 1, 2], [0.5, 1.5, 2.5]]), np.array([[0, 1e6, 2e6], [0, 2e6, 5e6]])
    found = reached(metric, time_s, traffic, 0.85)
    assert (found.rounds, found.seconds, found.megabytes) == (2, 2.25, 7.0)
    assert reached(metric, time_s, traffic, 0.95).rounds == math.inf


def test_readings_are_laid_out_as_far_as_every_agent_got() -> None:
    table = by_agent(np.array([0, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 2]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert table.tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_a_server_is_there_as_its_arrangement_says() -> None:
    assert present_s(ARRANGEMENTS["gossip"], 60) == []
    assert present_s(ARRANGEMENTS["both"], 60) == [(0, math.inf)]
    assert present_s(ARRANGEMENTS["lost"], 60) == [(0, 10), (20, math.inf)]
    assert present_s(ARRANGEMENTS["flapping"], 60) == [(0, 10), (12.5, 15), (20, math.inf)]
    assert present_s(ARRANGEMENTS["flapping"], 120) == [(0, 20), (22.5, 25), (27.5, 30), (32.5, 35), (40, math.inf)]
    assert "server.present=[[0, 10], [20, inf]]" in changes_of("digits-4", "lost", 60)


def run_of(arrangement: str, *, final: float, dip: float = 0.0, seed: int = 0) -> Found:
    """Thirty rounds: at once at `final`, and a dip of one agent of two after the loss."""
    metric = np.full((2, 30), final)
    metric[:, 0] = 0.1
    metric[1, 12] -= dip
    return Found(
        asked=Asked(task="digits-4", arrangement=arrangement, seed=seed, rounds=30),
        metric=metric.tolist(),
        time_s=np.tile(np.arange(30) / 2, (2, 1)).tolist(),
        traffic=np.tile(np.arange(30) * 1e6, (2, 1)).tolist(),
        megabytes_between_members=3.5,
        wall_s=1.0,
    )


def test_tables_say_whether_the_targets_are_met_and_what_each_way_costs() -> None:
    found = [run_of(name, final=0.9) for name in ("server", "gossip", "both")]
    found += [run_of("lost", final=0.9, dip=dip, seed=k) for k, dip in enumerate((0.006, 0.03))]
    falls, course, speed = map(str, tables(found))
    row = next(line for line in falls.splitlines() if "| loss |" in line)
    assert "| 0.30 (0.30 to 1.50) | 0.60 (0.60 to 3.00) | 1 of 2 |" in row
    assert "0.900 (0.90)" in course
    assert (
        speed.count("| 1 | 0.900 (0.900 to 0.900) | 1.0 (1.0 to 1.0) | 0.5 (0.5 to 0.5) | 2.0 (2.0 to 2.0) | 3.5 |")
        == 3
    )
    assert "never" in str(tables([run_of("server", final=0.2), *found[1:3]])[-1])
    assert len(tables(found[:1])) == 1, "nothing fell, and there is nothing to compare with"


def test_a_run_that_is_kept_is_read_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    import json
    from dataclasses import asdict

    found = run_of("lost", final=0.9)
    path = found.asked.path(tmp_path)
    assert read(found.asked, tmp_path) is None
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(found)))
    assert read(found.asked, tmp_path) == found
    assert read(Asked(task="digits-4", arrangement="lost", seed=0, rounds=60), tmp_path) is None  # of other rounds
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"lost-0\.json.*delete it"):
        read(found.asked, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["--quick", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "cannot be written (File exists); give another folder" in result.output
