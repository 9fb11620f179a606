"""The limits that sensors are held against, one function each: pure, and with a margin so that none flaps.

A limit is named by its key in `[governor]`, so that whoever reads that it holds knows what to change. One that holds
goes on to hold until its reading is better by a margin: `held` says which do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from grapevine_agent.core.events import Does
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.settings import GovernorLimits

MARGIN_C: Final = 5.0
MARGIN_PERCENT: Final = 5.0  # of a battery
MEMORY_SHARE: Final = 0.5  # of the limit, below which waiting for memory must fall
DISK_SHARE: Final = 1.25  # of the limit, to which free space must grow


@dataclass(frozen=True, kw_only=True)
class Found:
    """A limit that holds: what it does, and why in words."""

    limit: str
    does: Does
    why: str
    until_ms: int = 0  # by the wall clock; 0: nobody knows
    since_ms: int = 0  # where that was not now; 0: it is found now


def _disk(limits: GovernorLimits, readings: Readings, held: Collection[str]) -> Iterator[Found]:
    if readings.disk_trouble:
        yield Found(limit="free_disk_mb", does="pause", why=f"models cannot be saved: {readings.disk_trouble}")
        return
    least = limits.free_disk_mb * (DISK_SHARE if "free_disk_mb" in held else 1.0)
    if readings.free_disk_mb is not None and readings.free_disk_mb < least:
        why = f"{readings.free_disk_mb:,.0f} MB are free on the disk, of {least:,.0f} MB that must be"
        yield Found(limit="free_disk_mb", does="pause", why=why)


def _memory(limits: GovernorLimits, readings: Readings, held: Collection[str]) -> Iterator[Found]:
    most = limits.memory_pressure_percent
    is_held = "memory_pressure_percent" in held
    found = readings.memory_pressure_percent
    if most and found is not None and found >= most * (MEMORY_SHARE if is_held else 1.0):
        why = f"somebody waits for memory {found:.0f} % of the time, {most:g} % is the limit"
        yield Found(limit="memory_pressure_percent", does="pause", why=why)


def _throttling(limits: GovernorLimits, readings: Readings, _held: Collection[str]) -> Iterator[Found]:
    if readings.throttled and limits.throttling != "train":
        yield Found(limit="throttling", does=limits.throttling, why=f"the board throttles: {readings.throttled}")


def _heat(limits: GovernorLimits, readings: Readings, held: Collection[str]) -> Iterator[Found]:
    found = readings.temperature_c
    if found is None:
        return
    for limit, does, above in (
        ("pause_above_c", "pause", limits.pause_above_c),
        ("slow_above_c", "slow", limits.slow_above_c),
    ):
        if above and found >= above - (MARGIN_C if limit in held else 0.0):
            below = f", until it is below {above - MARGIN_C:g} °C" if limit in held else ""
            yield Found(limit=limit, does=does, why=f"it is {found:.0f} °C hot, {above:g} °C is the limit{below}")  # type: ignore[arg-type]


def _battery(limits: GovernorLimits, readings: Readings, held: Collection[str]) -> Iterator[Found]:
    if not readings.on_battery:
        return
    if limits.on_battery != "train":
        yield Found(limit="on_battery", does=limits.on_battery, why="it runs on its battery")
    least = limits.battery_above_percent
    charge = readings.battery_percent
    if least and charge is not None:
        wanted = least + (MARGIN_PERCENT if "battery_above_percent" in held else 0.0)
        if charge < wanted:
            why = f"its battery is at {charge:.0f} %, {wanted:g} % or mains are wanted"
            yield Found(limit="battery_above_percent", does="pause", why=why)


_RULES: Final[tuple[Callable[[GovernorLimits, Readings, Collection[str]], Iterator[Found]], ...]] = (
    _disk,
    _memory,
    _throttling,
    _heat,
    _battery,
)


def sensed(limits: GovernorLimits, readings: Readings, held: Collection[str]) -> list[Found]:
    """The limits that the readings trip, where those in `held` do already; the most urgent first."""
    return [found for rule in _RULES for found in rule(limits, readings, held)]


def not_measured(limits: GovernorLimits, readings: Readings) -> list[tuple[str, str]]:
    """The limits that nothing on this device can be held against, each with what is missing."""
    missing = {
        "pause_above_c": (bool(limits.pause_above_c), readings.temperature_c, "no thermal sensor is found"),
        "slow_above_c": (bool(limits.slow_above_c), readings.temperature_c, "no thermal sensor is found"),
        "memory_pressure_percent": (
            bool(limits.memory_pressure_percent),
            readings.memory_pressure_percent,
            "the kernel gives no /proc/pressure/memory; start it with psi=1",
        ),
        "energy_kj_per_day": (
            bool(limits.joules_per_day),
            readings.knows_draw or None,
            "nothing measures what the device draws, and its profile does not say",
        ),
        "on_battery": (limits.on_battery != "train", readings.on_battery, "no power supply tells of itself"),
    }
    return [(key, why) for key, (is_set, found, why) in missing.items() if is_set and found is None]
