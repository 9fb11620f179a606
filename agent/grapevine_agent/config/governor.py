"""`[governor]` of agent.toml: when this device trains, and what it may use of a day.

What is not written is as the firmware profile has it, and where that says nothing as `DEFAULTS` have it. A 0 that is
written is no limit, whatever the profile says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.governor.times import Span
from grapevine_agent.core.settings import GovernorLimits, Obeys
from grapevine_proto.application import DAY_MINUTES

if TYPE_CHECKING:
    from grapevine_agent.config.firmware import FirmwareProfile

OBEYS: Final = ("pause", "slow", "train")
HOTTEST_C: Final = 150.0
LEAST_DUTY: Final = 0.01
MOST_KJ: Final = 1e6  # a day: 12 kW all the time
_SPAN: Final = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_MB: Final = 1 << 20
# Of a device of which nothing is known: what nobody wants, whatever it is.
DEFAULTS: Final = GovernorLimits(throttling="pause", battery_above_percent=20.0, memory_pressure_percent=40.0)


@dataclass(frozen=True, kw_only=True)
class GovernorConfig:
    """`[governor]`; None keeps the profile's value."""

    slow_above_c: float | None = None
    pause_above_c: float | None = None
    upload_mb_per_day: int | None = None
    energy_kj_per_day: float | None = None
    duty_cycle: float | None = None
    on_battery: Obeys = DEFAULTS.on_battery
    battery_above_percent: float = DEFAULTS.battery_above_percent
    throttling: Obeys = DEFAULTS.throttling
    memory_pressure_percent: float = DEFAULTS.memory_pressure_percent
    free_disk_mb: int = DEFAULTS.free_disk_mb
    quiet_hours: tuple[Span, ...] = ()  # minutes since local midnight
    power_sensor: str = ""  # the file of the sensor that measures what the device draws; empty: what is found


def read_governor(table: Table) -> GovernorConfig:
    """Read `[governor]`. Raises `ConfigError`, naming the key and what to write."""
    slow_c = _optional(table, "slow_above_c", high=HOTTEST_C)
    pause_c = _optional(table, "pause_above_c", high=HOTTEST_C)
    if slow_c and pause_c and slow_c >= pause_c:
        table.wrong(
            "slow_above_c",
            f"is not below pause_above_c = {pause_c:g}; write {pause_c - 10:g} or so",
            beside=("pause_above_c",),
        )
    duty = _optional(table, "duty_cycle", high=1.0)
    if duty is not None and duty < LEAST_DUTY:
        table.wrong(
            "duty_cycle", f"must be a number from {LEAST_DUTY:g} to 1; to train nothing write limits.can_train = false"
        )
    sensor = table.text("power_sensor", "")
    if sensor and not sensor.startswith("/"):
        table.wrong("power_sensor", 'names a file; write something like "/sys/class/hwmon/hwmon2/power1_input"')
    return GovernorConfig(
        slow_above_c=slow_c,
        pause_above_c=pause_c,
        upload_mb_per_day=table.optional_integer("upload_mb_per_day", low=0, high=1 << 30),
        energy_kj_per_day=_optional(table, "energy_kj_per_day", high=MOST_KJ),
        duty_cycle=duty,
        on_battery=cast(Obeys, table.text("on_battery", DEFAULTS.on_battery, choices=OBEYS)),
        battery_above_percent=table.number(
            "battery_above_percent", DEFAULTS.battery_above_percent, low=0.0, high=100.0
        ),
        throttling=cast(Obeys, table.text("throttling", DEFAULTS.throttling, choices=OBEYS)),
        memory_pressure_percent=table.number(
            "memory_pressure_percent", DEFAULTS.memory_pressure_percent, low=0.0, high=100.0
        ),
        free_disk_mb=table.integer("free_disk_mb", DEFAULTS.free_disk_mb, low=0, high=1 << 30),
        quiet_hours=read_quiet_hours(table),
        power_sensor=sensor,
    )


def read_quiet_hours(table: Table) -> tuple[Span, ...]:
    """`quiet_hours`, as minutes since local midnight. Raises `ConfigError`."""
    spans: list[Span] = []
    for text in table.texts("quiet_hours", hint='"22:00-07:00"'):
        found = _SPAN.fullmatch(text.replace(" ", ""))
        start, until = (
            (60 * int(found[1]) + int(found[2]), 60 * int(found[3]) + int(found[4])) if found else (DAY_MINUTES, 0)
        )
        if start >= DAY_MINUTES or until > DAY_MINUTES:
            form = 'from and until, in local time; write quiet_hours = ["22:00-07:00"]'
            table.wrong("quiet_hours", f"{text!r} is no span of hours: {form}")
        elif start == until % DAY_MINUTES:
            table.wrong(
                "quiet_hours", f"{text!r} leaves nothing to train in; to train nothing: limits.can_train = false"
            )
        else:
            spans.append((start, until % DAY_MINUTES))
    return tuple(spans)


def governor_limits(config: GovernorConfig, profile: FirmwareProfile) -> GovernorLimits:
    """The owner's word over the profile's, as the core is told."""
    pause_c = _either(config.pause_above_c, profile.pause_above_c)
    slow_c = _either(config.slow_above_c, profile.slow_above_c)
    return GovernorLimits(
        # Of two that were written in different files the lower one pauses: slowing down above it has no meaning.
        slow_above_c=slow_c if not pause_c or slow_c < pause_c else 0.0,
        pause_above_c=pause_c,
        on_battery=config.on_battery,
        battery_above_percent=config.battery_above_percent,
        throttling=config.throttling,
        memory_pressure_percent=config.memory_pressure_percent,
        free_disk_mb=config.free_disk_mb,
        quiet_hours=config.quiet_hours,
        upload_bytes_per_day=int(_either(config.upload_mb_per_day, profile.upload_mb_per_day)) * _MB,
        joules_per_day=1000.0 * _either(config.energy_kj_per_day, profile.energy_kj_per_day),
        duty_cycle=_either(config.duty_cycle, profile.duty_cycle) or 1.0,
    )


def _either(written: float | None, of_profile: float) -> float:
    return of_profile if written is None else written


def _optional(table: Table, key: str, *, high: float) -> float | None:
    """A number from 0, or None where nothing is written."""
    if table.anything(key) is None:
        return None
    return table.number(key, 0.0, low=0.0, high=high)
