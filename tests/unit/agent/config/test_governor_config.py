"""`[governor]` of agent.toml, and what becomes of it beside a firmware profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.firmware import load_profile
from grapevine_agent.config.governor import GovernorConfig, governor_limits
from grapevine_agent.config.machine import Machine
from grapevine_agent.core.settings import GovernorLimits
from grapevine_proto.errors import ConfigError

PROFILE = load_profile("generic", Machine(cores=2, memory_mb=2_000))


def read(folder: Path, text: str, **environ: str) -> GovernorConfig:
    path = folder / "agent.toml"
    path.write_text(f"[governor]\n{text}\n")
    return load_config(path, {"HOME": str(folder), **environ}).governor


def test_everything_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        slow_above_c = 70
        pause_above_c = 80.5
        on_battery = "slow"
        battery_above_percent = 35
        throttling = "train"
        quiet_hours = ["22:00-07:00", "12:30-13:00", "20:00-24:00"]
        upload_mb_per_day = 50
        energy_kj_per_day = 12.5
        memory_pressure_percent = 25
        free_disk_mb = 200
        duty_cycle = 0.5
        """,
    )
    assert governor_limits(config, PROFILE) == GovernorLimits(
        slow_above_c=70.0,
        pause_above_c=80.5,
        on_battery="slow",
        battery_above_percent=35.0,
        throttling="train",
        quiet_hours=((1320, 420), (750, 780), (1200, 0)),
        upload_bytes_per_day=50 * 2**20,
        joules_per_day=12_500.0,
        memory_pressure_percent=25.0,
        free_disk_mb=200,
        duty_cycle=0.5,
    )


def test_the_environment_overrides_it(tmp_path: Path) -> None:
    named = {"GRAPEVINE_GOVERNOR_PAUSE_ABOVE_C": "77", "GRAPEVINE_GOVERNOR_QUIET_HOURS": "01:00-02:00, 3:00-04:00"}
    with pytest.raises(ConfigError, match="GRAPEVINE_GOVERNOR_QUIET_HOURS"):
        read(tmp_path, "pause_above_c = 90", **named)
    named["GRAPEVINE_GOVERNOR_QUIET_HOURS"] = "01:00-02:00,03:00-04:00"
    config = read(tmp_path, "pause_above_c = 90", **named)
    assert config.pause_above_c == 77.0
    assert config.quiet_hours == ((60, 120), (180, 240))


def test_the_profile_says_what_the_owner_does_not(tmp_path: Path) -> None:
    profile = replace(
        PROFILE, slow_above_c=65.0, pause_above_c=75.0, upload_mb_per_day=9, energy_kj_per_day=2.0, duty_cycle=0.25
    )
    limits = governor_limits(read(tmp_path, ""), profile)
    assert (limits.slow_above_c, limits.pause_above_c, limits.duty_cycle) == (65.0, 75.0, 0.25)
    assert (limits.upload_bytes_per_day, limits.joules_per_day) == (9 * 2**20, 2_000.0)
    none = governor_limits(read(tmp_path, "pause_above_c = 0\nupload_mb_per_day = 0\nslow_above_c = 0"), profile)
    assert (none.slow_above_c, none.pause_above_c, none.upload_bytes_per_day) == (0.0, 0.0, 0)
    lower = governor_limits(read(tmp_path, "pause_above_c = 60"), profile)
    assert (lower.slow_above_c, lower.pause_above_c) == (0.0, 60.0), "a profile's slowing is below no owner's pause"


def test_a_profile_without_words_for_it_limits_nothing_but_what_nobody_wants() -> None:
    limits = governor_limits(GovernorConfig(), PROFILE)
    assert limits == GovernorLimits(throttling="pause", battery_above_percent=20.0, memory_pressure_percent=40.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pause_above = 80", "did you mean 'pause_above_c'"),
        ("pause_above_c = 400", "governor.pause_above_c = 400: must be a number from 0 to 150"),
        ("slow_above_c = 80\npause_above_c = 80", "slow_above_c = 80: is not below pause_above_c = 80; write 70 or so"),
        ('on_battery = "stop"', 'must be one of "pause", "slow", "train"'),
        ("on_battery = true", 'write on_battery = "True"'),
        ('quiet_hours = "22:00-07:00"', 'must be a list of strings; write quiet_hours = ["22:00-07:00"]'),
        ('quiet_hours = ["22-7"]', 'write quiet_hours = ["22:00-07:00"]'),
        ('quiet_hours = ["24:00-07:00"]', 'write quiet_hours = ["22:00-07:00"]'),
        ('quiet_hours = ["22:00-24:30"]', 'write quiet_hours = ["22:00-07:00"]'),
        ('quiet_hours = ["00:00-24:00"]', "limits.can_train = false"),
        ("duty_cycle = 0", "from 0.01 to 1"),
        ("upload_mb_per_day = 1.5", "must be a whole number"),
        ("free_disk_mb = -1", "must be a whole number from 0"),
        ('power_sensor = "power1_input"', "/sys/class/hwmon/hwmon2/power1_input"),
        ("energy_kj_per_day = nan", "must be a number from 0"),
    ],
)
def test_mistakes_name_the_key_and_what_to_write(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert says in str(raised.value)
    assert "governor" in str(raised.value)
