"""Whole simulations: they learn, they repeat to the bit, and they go on after a break as if there had been none."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.swarm.simulations import LEARNING, PROTOCOL, outcome_of, prepared_of, scenario_of, written

from grapevine_lab.simulator.run import run_seed
from grapevine_proto.errors import ConfigError, GrapevineError


def simulate(path: Path, out: Path, *arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "grapevine_agent", "simulate", str(path), "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )


def test_nodes_learn_together_what_none_could_alone(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, LEARNING, "scenario.rounds=40")
    readings = outcome.measurements.readings
    final = readings.column("round") == 40
    for kind in (0, 1, 2):  # working, merged, released
        metric = readings.column("metric")[final & (readings.column("model") == kind)]
        if kind:
            assert len(metric) == 5
            assert metric.min() > 0.85
            assert np.median(metric) > 0.9
    alone = outcome_of(tmp_path, LEARNING, "scenario.rounds=40", "task.merging.sends_per_round=0")
    metric = alone.measurements.readings.column("metric")[alone.measurements.readings.column("round") == 40]
    assert metric.max() < 0.6


def test_a_run_repeats_to_the_bit_whatever_the_hash_seed(tmp_path: Path) -> None:
    path = written(tmp_path, LEARNING)
    for k in (1, 2):
        done = simulate(path, tmp_path / str(k), "--quick", "--seeds", "2", "--json", hash_seed=str(k))
        assert done.returncode == 0, done.stderr
    for name in ("models.csv", "nodes.csv", "plots/metric.svg"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert len((tmp_path / "1" / "models.csv").read_text().splitlines()) > 50


@pytest.mark.parametrize("how", ["plain", "stacked"])
def test_a_run_that_is_broken_off_goes_on_to_the_same_bits(tmp_path: Path, how: str) -> None:
    changes = (f"nodes.trainer={how}", "task.training.optimiser={ name = 'adam', learning_rate = 0.01 }", "nodes.num=3")
    prepared = prepared_of(tmp_path, LEARNING, *changes)
    whole = run_seed(prepared, 7)
    looks = iter([False] * 3 + [True] + [False] * 10**6)
    kept = tmp_path / "kept"
    from grapevine_lab.simulator import run as module

    before = module.LOOK_EVERY_S
    module.LOOK_EVERY_S = 0.0
    try:
        with pytest.raises(KeyboardInterrupt):
            run_seed(prepared, 7, keep=kept, stopping=lambda: next(looks))
    finally:
        module.LOOK_EVERY_S = before
    again = run_seed(prepared, 7, keep=kept, resume=True)
    assert again.num_events == whole.num_events
    assert again.measurements == whole.measurements


def test_other_seeds_are_other_runs(tmp_path: Path) -> None:
    prepared = prepared_of(tmp_path, PROTOCOL)
    one, other = run_seed(prepared, 0), run_seed(prepared, 1)
    assert (
        one.measurements.samples.column("staleness").tolist() != other.measurements.samples.column("staleness").tolist()
    )


def test_a_server_comes_and_goes(tmp_path: Path) -> None:
    outcome = outcome_of(
        tmp_path,
        LEARNING,
        "server.present=[[2, 6]]",
        "scenario.rounds=0",
        "scenario.duration_s=10",
        "server.heartbeat_s=0.5",
    )
    samples = outcome.measurements.samples
    states = {
        (int(time_s), int(state))
        for time_s, state in zip(samples.column("time_s"), samples.column("server"), strict=True)
    }
    assert (1, 0) in states  # unknown
    assert (5, 1) in states  # reachable
    assert not {state for time_s, state in states if time_s >= 8} & {0, 1}


def test_federated_learning_in_rounds_is_the_server_alone(tmp_path: Path) -> None:
    outcome = outcome_of(
        tmp_path,
        LEARNING,
        "scenario.mode=rounds",
        "scenario.rounds=30",
        "task.merging.strategy=follow-server",
        "task.merging.server_strategy=fedavg",
        "task.merging.gossip_share_with_server=0",
        "task.merging.clip=0",
        "server.present=[[0, inf]]",
    )
    readings = outcome.measurements.readings
    merged = readings.column("metric")[(readings.column("round") == 30) & (readings.column("model") == 1)]
    assert np.ptp(merged) == 0  # everybody has the same model
    assert merged.min() > 0.85


def test_a_checkpoint_that_names_anything_else_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    prepared = prepared_of(tmp_path, PROTOCOL)
    kept = tmp_path / "kept"
    run_seed(prepared, 0, keep=kept)
    head = b"\n".join(kept.read_bytes().split(b"\n")[:2]) + b"\n"
    kept.write_bytes(head + pickle.dumps({"world": Hostile()}))
    with pytest.raises(ConfigError, match="system"):
        run_seed(prepared, 0, keep=kept, resume=True)
    assert not (tmp_path / "pwned").exists()
    for damaged in (b"", b"garbage", head, head + b"\x80\x05garbage", head[:30]):
        kept.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"checkpoint|damaged"):
            run_seed(prepared, 0, keep=kept, resume=True)


def test_a_checkpoint_of_another_scenario_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run_seed(prepared_of(tmp_path, PROTOCOL), 0, keep=kept)
    with pytest.raises(ConfigError, match="another scenario"):
        run_seed(prepared_of(tmp_path, PROTOCOL, "network.latency_s=0.5"), 0, keep=kept, resume=True)
    with pytest.raises(ConfigError, match="another seed"):
        run_seed(prepared_of(tmp_path, PROTOCOL), 1, keep=kept, resume=True)


IMPOSSIBLE = [
    ("topology.kind=moebius", "moebius"),
    ("topology.kind=watts-strogats", "watts-strogatz"),
    ("partition.kind=iid\nx", "iid"),
    ("nodes.num=5000", "5000"),
    ("nodes.nmu=5", "num"),
    ("task.name=digit", "digits"),
    ("task.merging.strategy=delta-summ", "delta-sum"),
    ("task.merging.strateggy=average", "strategy"),
    ("task.training.optimiser={ name = 'adamw2' }", "adam"),
    ("data.name=mnits", "mnist"),
    ("data.name=linear-regression", "linear-regression"),
    ("partition={ kind = 'by-writer' }", "needs a writer"),
    ("nodes.profile=raspberry-pi-4", "raspberry-pi-4b"),
    ("scenario.rounds=0", "duration_s"),
    ("scenrio.rounds=3", "scenario"),
    ("rounds=3", "nodes.num"),
    ("server.present=[[9, 3]]", "present"),
    ("network.cut=[{ from_s = 3, until_s = 9, groups = 5 }]", "groups"),
    ("measure.models=['merged', 'best']", "best"),
    ("availability.kind=sometimes", "availability.kind"),
]


@pytest.mark.parametrize(("change", "named"), IMPOSSIBLE, ids=[change for change, _ in IMPOSSIBLE])
def test_what_is_impossible_is_said_before_anything_runs(tmp_path: Path, change: str, named: str) -> None:
    with pytest.raises(GrapevineError, match=named):
        prepared_of(tmp_path, LEARNING, change)


def test_another_kind_takes_the_other_keys_of_its_table_away(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, LEARNING, "partition.kind=iid", "topology.kind=ring")
    assert (scenario.partition.kind, scenario.topology.kind) == ("iid", "ring")


def test_the_command_says_what_went_wrong_and_leaves_nothing(tmp_path: Path) -> None:
    done = simulate(written(tmp_path, LEARNING), tmp_path / "out", "--set", "topology.kind=rign")
    assert done.returncode == 1
    assert "did you mean 'ring'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert simulate(tmp_path / "none.toml", tmp_path / "out").returncode == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    done = simulate(written(tmp_path, PROTOCOL), tmp_path / "mine")
    assert done.returncode == 1
    assert "not a simulation's" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
