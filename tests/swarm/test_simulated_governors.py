"""The simulator's nodes have the governor of a device, and its sensors say what a scenario says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.swarm.simulations import PROTOCOL, prepared_of, scenario_of

from grapevine_lab.simulator.experiment import Prepared, Run, begin
from grapevine_lab.simulator.run import run_seed
from grapevine_proto.errors import ConfigError

FEW = ("scenario.rounds=0", "scenario.duration_s=60", "nodes.num=3", "nodes.step_s=0.02", "surroundings.look_every_s=2")
NO_LIMIT = 'governor.throttling="train"'  # as nothing is read that the others could be held against


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The task, built once: no governor changes it."""
    return prepared_of(tmp_path_factory.mktemp("built"), PROTOCOL)


def changed(built: Prepared, folder: Path, *changes: str) -> Prepared:
    return replace(built, scenario=scenario_of(folder, PROTOCOL, *changes))


def ran(built: Prepared, folder: Path, *changes: str, until_s: float = 60.0) -> Run:
    """A protocol run (rounds of a second or so, nobody really trains), until a virtual time."""
    run = begin(changed(built, folder, *FEW, *changes), 0)
    run.world.run(until_s)
    return run


@pytest.fixture(scope="module")
def free(built: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ran(built, tmp_path_factory.mktemp("free"), NO_LIMIT)


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
        "surroundings.battery_wh=0.1",
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
def test_each_limit_trips_in_the_simulator_too(built: Prepared, free: Run, tmp_path: Path, limit: str) -> None:
    run = ran(built, tmp_path, *LIMITS[limit])
    assert list(held(run)) == [limit]
    assert 5 < held(run)[limit] <= 60
    if limit == "upload_mb_per_day":
        sent = [device.link.bytes_sent for device in run.world.devices]
        assert max(sent) < 1.15 * 2**20, "what is beyond a budget is small"
        assert min(device.link.bytes_sent for device in free.world.devices) > 1.3 * 2**20
    else:
        assert max(versions(run)) < 0.9 * min(versions(free))


def test_a_duty_cycle_is_kept_to(built: Prepared, tmp_path: Path) -> None:
    run = ran(built, tmp_path, "governor.duty_cycle=0.25", "nodes.step_s=0.5")
    for device in run.world.devices:
        assert 0.1 < device.training_s / 60 < 0.27


def test_a_governor_that_holds_nothing_changes_no_number_of_a_run(built: Prepared, tmp_path: Path) -> None:
    plain = run_seed(changed(built, tmp_path, "nodes.num=4"), 0)
    governed = run_seed(changed(built, tmp_path, "nodes.num=4", NO_LIMIT), 0)
    assert plain.measurements == governed.measurements
    assert governed.held_s == {}


def test_only_a_share_is_governed(built: Prepared, tmp_path: Path) -> None:
    run = ran(built, tmp_path, 'governor.quiet_hours=["15:00-16:00"]', "surroundings.share=0.34", until_s=20)
    first, second, _ = sorted(versions(run))
    assert first == 0
    assert second > 5


def test_heat_follows_training_and_a_pause_cools(built: Prepared, tmp_path: Path) -> None:
    hot = ("governor.pause_above_c=70", "surroundings.training_c=100", "surroundings.warm_s=20", "nodes.step_s=0.1")
    run = ran(built, tmp_path, *hot, until_s=300.0)
    assert run.world.sensing is not None
    assert all(45 < each.temperature_c < 75 for each in run.world.sensing.nodes.values())
    assert 30 < held(run)["pause_above_c"] < 270
    log = [
        line.split(":")[0] for line in (each.text for each in run.world.devices[0].log) if line.startswith("training")
    ]
    assert log[:4] == ["training is paused", "training goes on"] * 2


def test_a_run_that_was_interrupted_goes_on_as_if_it_was_not(
    built: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, kept = changed(built, tmp_path, *FEW, *LIMITS["pause_above_c"]), tmp_path / "checkpoint"
    whole = run_seed(prepared, 0)
    assert whole.held_s["pause_above_c"] > 0
    monkeypatch.setattr("grapevine_lab.simulator.run.LOOK_EVERY_S", 0.0)
    looks = iter([*[False] * 20, True])
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 0, keep=kept, stopping=lambda: next(looks))
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
    with pytest.raises(ConfigError, match=r"\w") as raised:
        scenario_of(tmp_path, PROTOCOL, change)
    assert says in str(raised.value)
