"""The simulator's nodes have the governor of a device, and its sensors say what a scenario says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.swarm.simulations import PROTOCOL, prepared_of, scenario_of

from grapevine_lab.simulator.experiment import Run, begin
from grapevine_lab.simulator.run import run_seed
from grapevine_proto.errors import ConfigError

FOR_S = "scenario.duration_s=120"
FEW = ("scenario.rounds=0", FOR_S, "nodes.num=3", "nodes.step_s=0.02", "surroundings.look_every_s=2")


def ran(folder: Path, *changes: str, until_s: float = 120.0) -> Run:
    """A protocol run (rounds of a second or so, nobody really trains), until a virtual time."""
    run = begin(prepared_of(folder, PROTOCOL, *FEW, *changes), 0)
    run.world.run(until_s)
    return run


def versions(run: Run) -> list[int]:
    return [learner.model.version for _, learner in run.world.population.learners(run.task)]


def held(run: Run) -> dict[str, float]:
    assert run.world.sensing is not None
    return run.world.sensing.held_s()


LIMITS = {
    "pause_above_c": ("governor.pause_above_c=60", "surroundings.training_c=150", "surroundings.warm_s=5"),
    "slow_above_c": ("governor.slow_above_c=50", "surroundings.ambient=[[0,10]]"),
    "on_battery": ('governor.on_battery="pause"', "surroundings.battery_wh=5", "surroundings.mains=[[0,20]]"),
    "battery_above_percent": (
        "governor.battery_above_percent=90",
        "surroundings.battery_wh=0.5",
        "surroundings.mains=[[0,20]]",
    ),
    "throttling": ('governor.throttling="pause"', "surroundings.throttled=[[20,200]]"),
    "memory_pressure_percent": (
        "governor.memory_pressure_percent=40",
        "surroundings.memory_pressure=[[0,0],[20,80]]",
    ),
    "free_disk_mb": ("governor.free_disk_mb=100", "surroundings.free_disk_mb=[[0,500],[20,50]]"),
    "quiet_hours": ('governor.quiet_hours=["15:07-16:00"]',),  # it begins at 15:06:40
    "upload_mb_per_day": ("governor.upload_mb_per_day=1",),
    "energy_kj_per_day": ("governor.energy_kj_per_day=0.05",),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_each_limit_trips_in_the_simulator_too(tmp_path: Path, limit: str) -> None:
    free = ran(tmp_path, 'governor.throttling="train"')
    run = ran(tmp_path, *LIMITS[limit])
    assert list(held(run)) == [limit]
    assert 10 < held(run)[limit] <= 120
    if limit == "upload_mb_per_day":
        sent = [device.link.bytes_sent for device in run.world.devices[:3]]
        assert max(sent) < 1.15 * 2**20, "what is beyond a budget is small"
        assert min(device.link.bytes_sent for device in free.world.devices[:3]) > 1.5 * 2**20
    else:
        assert max(versions(run)) < 0.9 * min(versions(free))


def test_a_duty_cycle_is_kept_to(tmp_path: Path) -> None:
    run = ran(tmp_path, "governor.duty_cycle=0.25", "nodes.step_s=1")
    for device in run.world.devices[:3]:
        assert 0.15 < device.training_s / 120 < 0.27


def test_without_a_governor_nothing_is_otherwise(tmp_path: Path) -> None:
    """One that holds nothing changes no number of a run."""
    plain = run_seed(prepared_of(tmp_path, PROTOCOL, "nodes.num=4"), 0)
    governed = run_seed(prepared_of(tmp_path, PROTOCOL, "nodes.num=4", 'governor.throttling="train"'), 0)
    assert plain.measurements == governed.measurements
    assert governed.held_s == {}


def test_only_a_share_is_governed(tmp_path: Path) -> None:
    run = ran(tmp_path, 'governor.quiet_hours=["15:00-16:00"]', "surroundings.share=0.34", until_s=30)
    assert sorted(versions(run))[0] == 0
    assert sorted(versions(run))[1] > 5


def test_heat_follows_training_and_a_pause_cools(tmp_path: Path) -> None:
    run = ran(tmp_path, "governor.pause_above_c=70", "surroundings.training_c=100", "surroundings.warm_s=20",
              "nodes.step_s=0.5", until_s=600.0)  # fmt: skip
    assert run.world.sensing is not None
    assert all(60 < each.temperature_c < 80 for each in run.world.sensing.nodes.values())
    assert 100 < held(run)["pause_above_c"] < 500
    log = [line for line in run.world.devices[0].log if line.startswith("training")]
    assert len(log) > 4
    assert all("paused" in line for line in log[::2]) != all("paused" in line for line in log[1::2])


def test_a_run_that_was_interrupted_goes_on_as_if_it_was_not(tmp_path: Path) -> None:
    changes = ("governor.pause_above_c=60", "surroundings.training_c=150", "surroundings.warm_s=5", "nodes.num=3")
    prepared = prepared_of(tmp_path, PROTOCOL, *changes)
    whole = run_seed(prepared, 0)
    kept = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 0, keep=kept, stopping=lambda: True)
    again = run_seed(prepared, 0, keep=kept, resume=True)
    assert again.measurements == whole.measurements
    assert again.held_s == whole.held_s


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("governor.pause_abov_c=3", "did you mean 'pause_above_c'"),
        ('governor.quiet_hours=["25:00-26:00"]', "quiet_hours = ["),
        ('governor.power_sensor="/x"', "there are no sensors here"),
        ("surroundings.ambient=[[5,1],[4,2]]", "seconds must rise"),
        ("surroundings.mains=[[5,5]]", "spans of virtual seconds"),
        ("surroundings.free_disk_mb=[1]", "list of pairs"),
        ("surroundings.memory_pressure=[[0,101]]", "from 0 to 100"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(ConfigError, match=".") as raised:
        scenario_of(tmp_path, PROTOCOL, change)
    assert says in str(raised.value)
