"""Sensors in a folder that stands for a machine's /sys and /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.service.sensors import SensorFiles


class Box:
    """A machine of files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: object) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())

    def supply(self, name: str, **files: object) -> None:
        for key, text in files.items():
            self.write(f"sys/class/power_supply/{name}/{key}", text)

    def read(self) -> Readings:
        return SensorFiles(self.root).readings(self.root)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_machine_that_says_nothing_is_held_against_nothing(box: Box) -> None:
    readings = box.read()
    assert (readings.temperature_c, readings.on_battery, readings.battery_percent) == (None, None, None)
    assert (readings.throttled, readings.memory_pressure_percent, readings.disk_trouble) == ("", None, "")
    assert readings.free_disk_mb is not None
    assert readings.free_disk_mb > 0


def test_the_hottest_zone_counts_and_a_broken_one_does_not(box: Box) -> None:
    for number, text in enumerate((45_123, 61_250, 999_999, -273_000, "hot", "")):
        box.write(f"sys/class/thermal/thermal_zone{number}/temp", text)
    assert box.read().temperature_c == 61.25


def test_without_zones_hwmon_tells_how_warm_it_is(box: Box) -> None:
    box.write("sys/class/hwmon/hwmon0/temp1_input", 52_000)
    assert box.read().temperature_c == 52.0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("0x0", ""),
        ("50000", ""),
        ("50005", "weak supply, it is throttled"),
        ("8", "it is too warm"),
        ("x", ""),
    ],
)
def test_the_raspberry_pis_firmware_says_that_it_throttles_now(box: Box, said: str, why: str) -> None:
    box.write("sys/devices/platform/soc/soc:firmware/get_throttled", said)
    assert box.read().throttled == why


def test_an_alarm_of_the_supply_and_a_cooled_processor_are_throttling(box: Box) -> None:
    box.write("sys/class/thermal/cooling_device0/type", "pwm-fan")
    box.write("sys/class/thermal/cooling_device0/cur_state", 3)
    box.write("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0")
    box.write("sys/class/thermal/cooling_device1/cur_state", 0)
    assert box.read().throttled == ""
    box.write("sys/class/thermal/cooling_device1/cur_state", 2)
    assert box.read().throttled == "its processor is slowed down for heat"
    box.write("sys/class/hwmon/hwmon1/name", "rpi_volt")
    box.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", 1)
    assert box.read().throttled == "weak supply"


def test_a_hat_with_a_battery_that_discharges_is_on_battery(box: Box) -> None:
    box.supply("ups", type="Battery", status="Discharging", capacity=41, present=1)
    assert (box.read().on_battery, box.read().battery_percent) == (True, 41.0)
    box.supply("ups", status="Charging")
    assert box.read().on_battery is False


def test_mains_that_give_nothing_leave_the_battery(box: Box) -> None:
    box.supply("AC", type="Mains", online=0)
    assert box.read().on_battery is False, "without a battery it would be off"
    box.supply("BAT0", type="Battery", status="Unknown", capacity=90)
    assert box.read().on_battery is True
    box.supply("AC", online=1)
    assert box.read().on_battery is False


def test_the_battery_of_a_mouse_and_one_that_is_not_there_are_none(box: Box) -> None:
    box.supply("hid", type="Battery", scope="Device", status="Discharging", capacity=3)
    box.supply("BAT1", type="Battery", present=0, status="Discharging", capacity=0)
    assert (box.read().on_battery, box.read().battery_percent) == (None, None)


def test_pressure_is_that_of_the_last_ten_seconds(box: Box) -> None:
    text = "some avg10=12.34 avg60=1.00 avg300=0.00 total=7\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1"
    box.write("proc/pressure/memory", text)
    assert box.read().memory_pressure_percent == 12.34


def test_a_state_folder_that_cannot_be_written_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = SensorFiles(tmp_path).readings(tmp_path / "gone")
    assert "No such file" in gone.disk_trouble
    assert gone.free_disk_mb is None
    assert SensorFiles(tmp_path).readings(tmp_path, disk_trouble="full").disk_trouble == "full"
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    assert "may not be written" in SensorFiles(tmp_path).readings(tmp_path).disk_trouble


FILES = (
    "sys/class/thermal/thermal_zone0/temp", "sys/class/thermal/cooling_device0/type",
    "sys/class/thermal/cooling_device0/cur_state", "sys/class/power_supply/b/type", "sys/class/power_supply/b/status",
    "sys/class/power_supply/b/capacity", "sys/class/power_supply/b/online", "proc/pressure/memory",
    "sys/devices/platform/soc/soc:firmware/get_throttled", "sys/class/hwmon/hwmon0/name",
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(contents=st.lists(st.binary(max_size=60), min_size=len(FILES), max_size=len(FILES)))
def test_whatever_the_files_hold_it_is_read(box: Box, contents: list[bytes]) -> None:
    for name, content in zip(FILES, contents, strict=True):
        box.write(name, content)
    box.read()
