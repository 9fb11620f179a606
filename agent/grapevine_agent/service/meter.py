"""What the device draws, as far as something in it measures that: joules, counted while it trains.

    INA sensors            class/hwmon/*/name = ina…: power*_input in µW; of an ina3221, volts times amperes
    INA sensors (IIO)      bus/iio/devices/*/in_power*_input in mW, as a Jetson has them
    RAPL                   class/powercap/intel-rapl:N/energy_uj, which counts; "psys" is all of it, else packages
    ACPI power meters      class/hwmon/*/name = power_meter: power*_input or power*_average in µW

The first of these that can be read is the meter; `[governor] power_sensor` names one instead. Other sensors of hwmon
measure a part of the device, such as a graphics card, and are taken only where the owner names them. What counts is
read as a difference, and a counter that has turned over is known by `max_energy_range_uj`. What shows watts is taken as
constant between two readings, which are some seconds apart: each quarter of a minute, and where a step begins and ends.

Several steps at a time share what is drawn: each gets its part of every stretch, so all of them make the whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_agent.config.machine import line_of, number_of

LARGEST_W: Final = 10_000.0  # what draws more is no device of ours, but a sensor that is broken


@dataclass(frozen=True, kw_only=True)
class Counter:
    """Counts microjoules, and turns over at `wraps_uj`."""

    path: Path
    wraps_uj: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """Shows a power: microwatts are `scale` times the number in `path`, times that in `times` where there is one."""

    path: Path
    scale: float = 1.0
    times: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """What makes up the meter: their sum. `name` is what a status shows."""

    name: str
    parts: tuple[Counter | Gauge, ...]


def find_sensors(root: Path = Path("/"), *, named: Path | None = None) -> Sensors | None:
    """The sensors of this device, or the one that its owner named; None where there is none that can be read."""
    if named is not None:
        part: Counter | Gauge = Counter(path=named) if "energy" in named.name else Gauge(path=named)
        return Sensors(name=str(named), parts=(part,)) if number_of(named) is not None else None
    hwmon = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    for find in (_ina, _iio, _rapl, _acpi):
        found = find(root / "sys", hwmon)
        if found is not None and all(number_of(part.path) is not None for part in found.parts):
            return found
    return None


def _ina(_sys: Path, hwmon: list[Path]) -> Sensors | None:
    for chip in hwmon:
        name = line_of(chip / "name")
        if not name.startswith("ina"):
            continue
        parts: list[Counter | Gauge] = [Gauge(path=path) for path in sorted(chip.glob("power*_input"))]
        if not parts:  # millivolts times milliamperes are microwatts
            volts = sorted(chip.glob("in[1-3]_input"))
            pairs = [(path, chip / f"curr{path.name[2]}_input") for path in volts]
            parts = [Gauge(path=path, times=current) for path, current in pairs if current.exists()]
        if parts:
            return Sensors(name=name, parts=tuple(_whole(chip, parts)))
    return None


def _whole(chip: Path, parts: list[Counter | Gauge]) -> list[Counter | Gauge]:
    """Of channels that are labelled, the one at the device's input says it all."""
    inputs = [
        part for part in parts if "IN" in line_of(chip / f"{part.path.name.split('_')[0]}_label").upper().split("_")
    ]
    return inputs or parts


def _iio(sys: Path, _hwmon: list[Path]) -> Sensors | None:
    for device in sorted((sys / "bus/iio/devices").glob("iio:device*")):
        if "ina" in line_of(device / "name"):
            paths = sorted(device.glob("in_power*_input"))
            if paths:  # the first channel is the device's input
                return Sensors(name=line_of(device / "name"), parts=(Gauge(path=paths[0], scale=1000.0),))
    return None


def _rapl(sys: Path, _hwmon: list[Path]) -> Sensors | None:
    zones = [zone for zone in sorted((sys / "class/powercap").glob("*-rapl:*")) if zone.name.count(":") == 1]
    names = {zone: line_of(zone / "name") for zone in zones}
    chosen = [zone for zone in zones if names[zone] == "psys"] or [
        zone for zone in zones if names[zone].startswith("package")
    ]
    counters = [
        Counter(path=zone / "energy_uj", wraps_uj=number_of(zone / "max_energy_range_uj") or 0.0) for zone in chosen
    ]
    return Sensors(name=f"RAPL {names[chosen[0]]}", parts=tuple(counters)) if chosen else None


def _acpi(_sys: Path, hwmon: list[Path]) -> Sensors | None:
    for chip in hwmon:
        if line_of(chip / "name") != "power_meter":
            continue
        powers = sorted(chip.glob("power*_input")) or sorted(chip.glob("power*_average"))
        if powers:
            return Sensors(name=line_of(chip / "name"), parts=tuple(Gauge(path=path) for path in powers))
    return None


class Meter:
    """Joules by `Sensors`. Any thread may call. Reading them takes some milliseconds where they hang on a slow bus."""

    def __init__(self, sensors: Sensors, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = sensors.name
        self._parts = sensors.parts
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[Path, float] = {}  # of each counter
        self._watts = 0.0  # of the gauges, at the last reading
        self._read_s = clock()
        self._num_active = 0
        self._share_j = 0.0  # what one that was active all the time would have got
        self._num_failed = 0  # readings: what was drawn meanwhile nobody knows
        self._read()

    def begin(self) -> tuple[float, int]:
        """A step begins; what `end` wants to be given."""
        with self._lock:
            self._count()
            self._num_active += 1
            return self._share_j, self._num_failed

    def end(self, began: tuple[float, int]) -> float | None:
        """A step is over; its joules, None where the meter failed meanwhile."""
        with self._lock:
            self._count()
            self._num_active -= 1
            return None if self._num_failed > began[1] else self._share_j - began[0]

    def look(self) -> None:
        """Read it in between: watts change, and counters turn over."""
        with self._lock:
            if self._num_active:
                self._count()

    def _count(self) -> None:
        joules = self._read()
        if self._num_active:
            self._share_j += joules / self._num_active

    def _read(self) -> float:
        """Joules since the last reading."""
        now_s = self._clock()
        passed_s, self._read_s = max(0.0, now_s - self._read_s), now_s
        joules = passed_s * self._watts
        self._watts = 0.0
        for part in self._parts:
            found = number_of(part.path)
            if found is None:
                self._num_failed += 1
            elif isinstance(part, Gauge):
                by = number_of(part.times) if part.times is not None else 1.0
                self._watts += min(LARGEST_W, max(0.0, found * part.scale * (by or 0.0) / 1e6))
            else:
                last, self._last[part.path] = self._last.get(part.path, found), found
                passed_uj = found - last if found >= last else found - last + part.wraps_uj
                joules += min(LARGEST_W * passed_s, max(0.0, passed_uj / 1e6))
        return joules
