"""What a device's sensors say at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Readings:
    """None, or an empty text: this device does not say. No limit is held against what is not known."""

    temperature_c: float | None = None  # of its hottest zone
    throttled: str = ""  # why the board slows itself down, if it does
    on_battery: bool | None = None
    battery_percent: float | None = None  # of the emptiest battery
    memory_pressure_percent: float | None = None  # of the last ten seconds, somebody waited for memory
    free_disk_mb: float | None = None  # where the state folder lies
    disk_trouble: str = ""  # why models are not saved there, if so
    knows_draw: bool = True  # something measures what it draws, or its profile says so
    utc_offset_s: int = 0  # of local time
