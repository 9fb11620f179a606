"""What the machine says of itself, from /sys and /proc. Every file may be missing, refuse, or hold anything.

    temperature      class/thermal/thermal_zone*/temp, and where there are none class/hwmon/*/temp*_input; the hottest
    throttling       the Raspberry Pi's firmware; its supply's alarm (rpi_volt); cooling devices that slow a processor
    power supplies   class/power_supply: mains that are there and give nothing, batteries that discharge
    memory           /proc/pressure/memory, the share of the last ten seconds in which somebody waited
    disk             free space where the state folder lies, and whether it may be written

Nothing here decides. The kernel's documents: Documentation/ABI/testing/sysfs-class-power, sysfs-class-thermal,
Documentation/hwmon/sysfs-interface.rst, Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_agent.config.machine import line_of, number_of, text_of, throttle_word
from grapevine_agent.core.governor.readings import Readings

COLDEST_C, HOTTEST_C = -60.0, 200.0  # what is beyond is no temperature, but a sensor that is broken
# Bits of the Raspberry Pi's `throttle_word`, now.
_BITS: Final = (
    (0, "weak supply"),
    (1, "its clock is capped"),
    (2, "it is throttled"),
    (3, "it is too warm"),
)
_PRESSURE: Final = re.compile(r"^some avg10=([0-9.]+) ", re.MULTILINE)


@dataclass(frozen=True)
class SensorFiles:
    """Where the machine's files are: `root` is "/" but in tests."""

    root: Path = Path("/")

    @property
    def sys(self) -> Path:
        """The kernel's view of devices."""
        return self.root / "sys"

    def readings(self, state_dir: Path, *, disk_trouble: str = "") -> Readings:
        """All that can be read now. `disk_trouble`: why models are not saved, where that is known. Never raises."""
        on_battery, percent = self._power()
        free_mb, why_not = _disk(state_dir)
        return Readings(
            temperature_c=max(self._temperatures(), default=None),
            throttled=self._throttled(),
            on_battery=on_battery,
            battery_percent=percent,
            memory_pressure_percent=self._pressure(),
            free_disk_mb=free_mb,
            disk_trouble=disk_trouble or why_not,
            utc_offset_s=utc_offset_s(),
        )

    def _temperatures(self) -> Iterator[float]:
        zones = list(_glob(self.sys / "class/thermal", "thermal_zone*/temp"))
        for path in zones or _glob(self.sys / "class/hwmon", "hwmon*/temp*_input"):
            thousandths = number_of(path)
            if thousandths is not None and COLDEST_C < thousandths / 1000 < HOTTEST_C:
                yield thousandths / 1000

    def _throttled(self) -> str:
        bits = throttle_word(self.root) or 0
        if said := [words for bit, words in _BITS if bits >> bit & 1]:
            return ", ".join(said)
        for path in _glob(self.sys / "class/hwmon", "hwmon*/in0_lcrit_alarm"):
            if line_of(path.parent / "name") == "rpi_volt" and number_of(path):
                return "weak supply"
        for path in _glob(self.sys / "class/thermal", "cooling_device*/type"):
            if "cpufreq" in line_of(path) and (number_of(path.parent / "cur_state") or 0) > 0:
                return "its processor is slowed down for heat"
        return ""

    def _power(self) -> tuple[bool | None, float | None]:
        """Whether it runs on a battery, and how full the emptiest is; None: nothing here says so.

        A device that has mains says so itself where it can; else a battery that discharges says it.
        """
        mains: list[bool] = []
        discharging: list[bool] = []
        percents: list[float] = []
        for kind_file in _glob(self.sys / "class/power_supply", "*/type"):
            supply, kind = kind_file.parent, line_of(kind_file)
            if line_of(supply / "scope") == "Device":
                continue  # of a mouse, or a keyboard
            if kind in ("Battery", "UPS"):
                if line_of(supply / "present") == "0":
                    continue
                discharging.append(line_of(supply / "status") == "Discharging")
                charge = number_of(supply / "capacity")
                if charge is not None and 0 <= charge <= 100:
                    percents.append(charge)
            elif (online := number_of(supply / "online")) is not None:  # Mains, USB, Wireless
                mains.append(online > 0)
        if any(discharging):
            return True, min(percents, default=None)
        if mains:
            return bool(discharging) and not any(mains), min(percents, default=None)
        return (False if discharging else None), min(percents, default=None)

    def _pressure(self) -> float | None:
        found = _PRESSURE.search(text_of(self.root / "proc/pressure/memory"))
        try:
            return float(found[1]) if found else None
        except ValueError:
            return None


def utc_offset_s() -> int:
    """Of local time, now."""
    return time.localtime().tm_gmtoff


def _disk(state_dir: Path) -> tuple[float | None, str]:
    """Free space for us in MB (10⁶ bytes), and why nothing can be written, if so."""
    try:
        found = os.statvfs(state_dir)
    except OSError as error:
        return None, f"{state_dir}: {error.strerror}"
    free_mb = found.f_bavail * found.f_frsize / 1e6
    if found.f_flag & os.ST_RDONLY:
        return free_mb, f"{state_dir} is on a disk that is read-only"
    if not os.access(state_dir, os.W_OK):
        return free_mb, f"{state_dir} may not be written"
    return free_mb, ""


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []
