"""What nodes' governors are filled with: how hot it is, what mains there are, how much disk and memory is left.

    [governor]       the owner's limits, with the keys of agent.toml
    [surroundings]   what the sensors say, as courses over virtual time

Heat follows training: a node settles at `idle_c`, or while it trains all the time at `training_c`, both above `ambient`
by what a course says, and gets there as e^(-t/warm_s) does. A battery is emptied by what the node draws (its profile's
watts, as everywhere in the simulator) while there are no mains, and filled with `charge_w` while there are.

A course is a list of [second, value]; each value holds from its second on. The governor is the agent's own.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from grapevine_agent.config.firmware import FirmwareProfile
from grapevine_agent.config.governor import GovernorConfig, governor_limits, read_governor
from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.governor.readings import Readings
from grapevine_agent.core.settings import GovernorLimits
from grapevine_lab.simulator.device import Device

Course: TypeAlias = tuple[tuple[float, float], ...]
Spans: TypeAlias = tuple[tuple[float, float], ...]

LOOK_EVERY_S = 15.0  # as a device does
WH_J = 3600.0


@dataclass(frozen=True, kw_only=True)
class SurroundingsPlan:
    """See the module's docstring. Times in virtual seconds."""

    look_every_s: float = LOOK_EVERY_S
    share: float = 1.0  # of the nodes that have a governor
    idle_c: float = 45.0
    training_c: float = 70.0
    warm_s: float = 120.0
    ambient: Course = ()  # °C that are added
    mains: Spans = ((0.0, math.inf),)
    battery_wh: float = 0.0  # 0: none
    charge_w: float = 10.0
    memory_pressure: Course = ()
    free_disk_mb: Course = ()
    throttled: Spans = ()
    utc_offset_s: int = 0


def read_surroundings(table: Table) -> SurroundingsPlan:
    """Read `[surroundings]`. Raises ConfigError."""
    default = SurroundingsPlan()
    plan = SurroundingsPlan(
        look_every_s=table.number("look_every_s", default.look_every_s, low=0.1, high=1e6),
        share=table.number("share", default.share, low=0.01, high=1.0),
        idle_c=table.number("idle_c", default.idle_c, low=-50.0, high=150.0),
        training_c=table.number("training_c", default.training_c, low=-50.0, high=150.0),
        warm_s=table.number("warm_s", default.warm_s, low=0.1, high=1e6),
        ambient=_pairs(table, "ambient", low=-100.0, high=100.0),
        mains=_spans(table, "mains", default.mains),
        battery_wh=table.number("battery_wh", default.battery_wh, low=0.0, high=1e6),
        charge_w=table.number("charge_w", default.charge_w, low=0.0, high=1e4),
        memory_pressure=_pairs(table, "memory_pressure", low=0.0, high=100.0),
        free_disk_mb=_pairs(table, "free_disk_mb", low=0.0, high=1e9),
        throttled=_spans(table, "throttled", ()),
        utc_offset_s=table.integer("utc_offset_s", 0, low=-86_400, high=86_400),
    )
    table.finish()
    return plan


def read_limits(table: Table) -> GovernorConfig:
    """Read `[governor]`, which has the keys of agent.toml. Raises ConfigError."""
    config = read_governor(table)
    table.finish()
    if config.power_sensor:
        raise table.error("power_sensor", "there are no sensors here: energy is the profile's; leave it out")
    return config


def is_governed(plan: SurroundingsPlan, node: int) -> bool:
    """Whether a node is one of those that have a governor: they are spread evenly over the numbers."""
    return int((node + 1) * plan.share) > int(node * plan.share)


@dataclass(kw_only=True)
class Surroundings:
    """What one node's sensors say, and how it comes to that."""

    plan: SurroundingsPlan
    temperature_c: float
    charge_j: float
    _at_s: float = 0.0
    _trained_s: float = 0.0
    _drawn_j: float = 0.0
    held_s: dict[str, float] = field(default_factory=dict)  # for how long each limit held

    @classmethod
    def begin(cls, plan: SurroundingsPlan) -> Surroundings:
        """As cold as it is, with a full battery."""
        return cls(
            plan=plan, temperature_c=plan.idle_c + (at(plan.ambient, 0.0) or 0.0), charge_j=plan.battery_wh * WH_J
        )

    def look(self, device: Device, now_s: float) -> Readings:
        """What is read now. What the node did since the last look has heated it, and emptied its battery."""
        plan, passed_s = self.plan, now_s - self._at_s
        trained_s, drawn_j = device.training_until(now_s), device.joules(now_s)
        if passed_s > 0:
            busy = min(1.0, max(0.0, trained_s - self._trained_s) / passed_s)
            settles_c = plan.idle_c + busy * (plan.training_c - plan.idle_c) + (at(plan.ambient, now_s) or 0.0)
            self.temperature_c += (settles_c - self.temperature_c) * -math.expm1(-passed_s / plan.warm_s)
            has_mains = within(plan.mains, now_s)
            drawn_j = 0.0 if math.isnan(drawn_j) else drawn_j
            gained_j = plan.charge_w * passed_s if has_mains else self._drawn_j - drawn_j
            self.charge_j = min(plan.battery_wh * WH_J, max(0.0, self.charge_j + gained_j))
            self._note(device, passed_s)
            self._at_s, self._trained_s, self._drawn_j = now_s, trained_s, drawn_j
        has_battery = plan.battery_wh > 0
        return Readings(
            temperature_c=self.temperature_c,
            throttled="it is said so" if within(plan.throttled, now_s) else "",
            on_battery=not within(plan.mains, now_s) if has_battery else None,
            battery_percent=100.0 * self.charge_j / (plan.battery_wh * WH_J) if has_battery else None,
            memory_pressure_percent=at(plan.memory_pressure, now_s),
            free_disk_mb=at(plan.free_disk_mb, now_s),
            utc_offset_s=plan.utc_offset_s,
        )

    def _note(self, device: Device, passed_s: float) -> None:
        if device.core is not None:
            for held in device.core.governing.governor.held:
                self.held_s[held.limit] = self.held_s.get(held.limit, 0.0) + passed_s


def at(course: Course, now_s: float) -> float | None:
    """A course's value at a time; None before its first."""
    place = bisect_right([second for second, _ in course], now_s)
    return course[place - 1][1] if place else None


def within(spans: Spans, now_s: float) -> bool:
    """Whether a time lies in one of the spans."""
    return any(start <= now_s < end for start, end in spans)


def limits_of(config: GovernorConfig | None, profile: FirmwareProfile) -> GovernorLimits:
    """As cores are told; without `[governor]` there are none, not even the profile's."""
    return governor_limits(config, profile) if config is not None else GovernorLimits()


def _pairs(table: Table, key: str, *, low: float, high: float) -> Course:
    course = _numbers(table, key)
    if any(not low <= value <= high for _, value in course):
        raise table.error(key, f"values must be from {low:g} to {high:g}")
    if any(later <= earlier for (earlier, _), (later, _) in pairwise(course)):
        raise table.error(key, "seconds must rise; write them in their order")
    return course


def _spans(table: Table, key: str, default: Spans) -> Spans:
    spans = _numbers(table, key) if table.anything(key) is not None else default
    if any(start >= end for start, end in spans):
        raise table.error(key, f"must be spans of virtual seconds; write {key} = [[0, 3600], [7200, inf]]")
    return spans


def _numbers(table: Table, key: str) -> Course:
    written = table.anything(key)
    if written is None:
        return ()
    is_pairs = isinstance(written, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in pair)
        for pair in written
    )
    if not is_pairs:
        raise table.error(key, f"must be a list of pairs, seconds first; write {key} = [[0, 10], [3600, 25]]")
    assert isinstance(written, list)
    return tuple((float(first), float(second)) for first, second in written)
