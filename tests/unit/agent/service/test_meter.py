"""Meters made of files, on a clock of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.meter import Meter, find_sensors


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def write(root: Path, name: str, text: object) -> None:
    path = root / "sys" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def meter(root: Path, clock: Clock) -> Meter:
    sensors = find_sensors(root)
    assert sensors is not None
    return Meter(sensors, clock=clock)


def rapl(root: Path, energy_uj: int, number: int = 0, name: str = "package-0") -> None:
    zone = f"class/powercap/intel-rapl:{number}"
    write(root, f"{zone}/name", name)
    write(root, f"{zone}/max_energy_range_uj", 1_000_000_000)
    write(root, f"{zone}/energy_uj", energy_uj)


def test_where_nothing_measures_there_is_no_meter(tmp_path: Path) -> None:
    assert find_sensors(tmp_path) is None
    write(tmp_path, "class/hwmon/hwmon0/name", "coretemp")
    write(tmp_path, "class/hwmon/hwmon0/temp1_input", 40_000)
    assert find_sensors(tmp_path) is None
    assert find_sensors(tmp_path, named=tmp_path / "nothing") is None


@pytest.mark.parametrize("name", ["amdgpu", "nvme", "corsairpsu_fan", "k10temp"])
def test_what_measures_a_part_is_no_meter_unless_the_owner_names_it(tmp_path: Path, name: str) -> None:
    write(tmp_path, "class/hwmon/hwmon0/name", name)
    write(tmp_path, "class/hwmon/hwmon0/power1_average", 40_000_000)
    write(tmp_path, "class/hwmon/hwmon0/energy1_input", 40_000_000)
    assert find_sensors(tmp_path) is None
    assert find_sensors(tmp_path, named=tmp_path / "sys/class/hwmon/hwmon0/power1_average") is not None
    rapl(tmp_path, 0)
    sensors = find_sensors(tmp_path)
    assert sensors is not None
    assert sensors.name == "RAPL package-0"


def test_rapl_counts_packages_and_not_what_is_in_them(tmp_path: Path) -> None:
    clock = Clock()
    rapl(tmp_path, 0)
    rapl(tmp_path, 500_000_000, 1, "package-1")
    write(tmp_path, "class/powercap/intel-rapl:0:0/name", "core")
    write(tmp_path, "class/powercap/intel-rapl:0:0/energy_uj", 7)
    it = meter(tmp_path, clock)
    assert it.name == "RAPL package-0"
    began = it.begin()
    clock.now_s += 10
    rapl(tmp_path, 30_000_000)
    rapl(tmp_path, 520_000_000, 1, "package-1")
    assert it.end(began) == pytest.approx(50.0)


def test_a_counter_that_turned_over_is_no_loss(tmp_path: Path) -> None:
    clock = Clock()
    rapl(tmp_path, 990_000_000)
    it = meter(tmp_path, clock)
    began = it.begin()
    clock.now_s += 10
    rapl(tmp_path, 20_000_000)
    assert it.end(began) == pytest.approx(30.0)


def test_the_whole_device_is_preferred_to_its_packages(tmp_path: Path) -> None:
    rapl(tmp_path, 0)
    rapl(tmp_path, 0, 1, "psys")
    sensors = find_sensors(tmp_path)
    assert sensors is not None
    assert (sensors.name, len(sensors.parts)) == ("RAPL psys", 1)


def test_an_ina219_shows_microwatts_that_are_summed_over_time(tmp_path: Path) -> None:
    clock = Clock()
    rapl(tmp_path, 0)  # which is not the whole device
    write(tmp_path, "class/hwmon/hwmon1/name", "ina219")
    write(tmp_path, "class/hwmon/hwmon1/power1_input", 5_000_000)
    it = meter(tmp_path, clock)
    assert it.name == "ina219"
    began = it.begin()
    clock.now_s += 10
    write(tmp_path, "class/hwmon/hwmon1/power1_input", 7_000_000)
    it.look()
    clock.now_s += 10
    assert it.end(began) == pytest.approx(120.0)


def test_an_ina3221_gives_volts_and_amperes_and_its_input_says_it_all(tmp_path: Path) -> None:
    clock, chip = Clock(), "class/hwmon/hwmon0"
    write(tmp_path, f"{chip}/name", "ina3221")
    for number, label, volts, amperes in ((1, "VDD_IN", 5_000, 2_000), (2, "VDD_CPU", 5_000, 700)):
        write(tmp_path, f"{chip}/in{number}_label", label)
        write(tmp_path, f"{chip}/in{number}_input", volts)
        write(tmp_path, f"{chip}/curr{number}_input", amperes)
    it = meter(tmp_path, clock)
    began = it.begin()
    clock.now_s += 3
    assert it.end(began) == pytest.approx(30.0)


def test_a_jetsons_sensor_shows_milliwatts(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path, "bus/iio/devices/iio:device0/name", "ina3221x")
    write(tmp_path, "bus/iio/devices/iio:device0/in_power0_input", 4_000)
    it = meter(tmp_path, clock)
    began = it.begin()
    clock.now_s += 2
    assert it.end(began) == pytest.approx(8.0)


def test_steps_at_the_same_time_share_what_is_drawn(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path, "class/hwmon/hwmon0/name", "power_meter")
    write(tmp_path, "class/hwmon/hwmon0/power1_average", 10_000_000)
    it = meter(tmp_path, clock)
    first = it.begin()
    clock.now_s += 10
    second = it.begin()
    clock.now_s += 10
    one = it.end(first)
    clock.now_s += 10
    two = it.end(second)
    assert one == pytest.approx(150.0)
    assert two == pytest.approx(150.0)


def test_a_sensor_that_fails_meanwhile_says_nothing_and_then_it_measures_again(tmp_path: Path) -> None:
    clock = Clock()
    rapl(tmp_path, 0)
    it = meter(tmp_path, clock)
    began = it.begin()
    rapl(tmp_path, "")  # type: ignore[arg-type]
    clock.now_s += 5
    it.look()
    rapl(tmp_path, 50_000_000)
    clock.now_s += 5
    assert it.end(began) is None
    began = it.begin()
    clock.now_s += 1
    rapl(tmp_path, 53_000_000)
    assert it.end(began) == pytest.approx(3.0)


def test_nonsense_is_bounded(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path, "class/hwmon/hwmon0/name", "ina219")
    write(tmp_path, "class/hwmon/hwmon0/power1_input", 10**17)
    it = meter(tmp_path, clock)
    began = it.begin()
    clock.now_s += 1
    joules = it.end(began)
    assert joules is not None
    assert joules <= 10_000.0


def test_the_owner_names_another_sensor(tmp_path: Path) -> None:
    write(tmp_path, "class/hwmon/hwmon5/power3_input", 2_000_000)
    sensors = find_sensors(tmp_path, named=tmp_path / "sys/class/hwmon/hwmon5/power3_input")
    assert sensors is not None
    clock = Clock()
    it = Meter(sensors, clock=clock)
    began = it.begin()
    clock.now_s += 4
    assert it.end(began) == pytest.approx(8.0)


async def test_a_named_sensor_that_is_gone_is_said_and_does_not_keep_the_agent_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[governor]\npower_sensor = "{tmp_path / "power1"}"\n'
    )
    with assembled(load_config(path, {})) as service:
        assert service.governor.meter is None
    assert "power_sensor" in caplog.text
    assert "modelled by the profile" in caplog.text
