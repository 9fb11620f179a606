"""What must hold in a long run, and whether it did: bounds held against a ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from grapevine_lab.simulator.ledger import Day, Ledger
from grapevine_lab.simulator.sizes import BOUNDED, WHOLE
from grapevine_lab.simulator.standing import DAY_S

MB = 1e6
LEAST_ON_S = 21_600.0  # of a device whose writes are told by the day
LEAST_REST_DAYS = 10.0  # of devices, for their pace at rest to be told
LEAST_WINDOW_DAYS = 10  # of time without anything new, before and after, for growth to be told


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One of them, as it is shown. `holds` is None where the run was too short to tell."""

    name: str
    bound: float
    found: float
    unit: str
    holds: bool | None
    note: str = ""


def invariants_of(ledger: Ledger) -> tuple[Invariant, ...]:
    """All invariants of a run that is over, in the order in which they are told."""
    plan = ledger.plan
    settled = Day()
    for number, day in ledger.days.items():
        if number * DAY_S >= plan.settled_s:
            _add(settled, day)
    return (
        _at_most(
            "members of an approved task know each other within",
            plan.known_within_s / 3600,
            ledger.longest_unknown_s / 3600,
            "h",
            ledger.longest_unknown,
        ),
        _at_most(
            "and who the others say they are within",
            plan.known_within_s / 3600,
            ledger.longest_unannounced_s / 3600,
            "h",
            ledger.longest_unannounced,
        ),
        _at_most(
            "approved tasks are joined within",
            plan.joins_within_s / 3600,
            ledger.longest_unjoined_s / 3600,
            "h",
            ledger.longest_unjoined,
        ),
        _at_most(
            "rounds of tasks that are not approved",
            0,
            ledger.unapproved,
            "",
            ledger.unapproved_notes[0] if ledger.unapproved_notes else "",
        ),
        _share("updates sent to devices that are not there", plan.max_ghosts, settled.ghosts, settled.sends),
        _at_most(
            "and nobody sends to one that has been gone for",
            plan.forgotten_within_s / 3600,
            ledger.longest_gone_s / 3600,
            "h",
            ledger.longest_gone,
        ),
        _share("claims of honest members not believed", plan.max_disbelieved, settled.disbelieved, settled.taken),
        _finished(ledger, settled),
        _share("saves of models that had not changed", plan.max_same_saves, settled.same_saves, settled.saves),
        _written(ledger),
        *(_bounded(ledger, name) for name in BOUNDED),
        _growth(ledger),
    )


def as_json(invariants: Iterable[Invariant]) -> list[dict[str, Any]]:
    """For programs."""
    return [asdict(each) for each in invariants]


def _add(total: Day, day: Day) -> None:
    for name, number in vars(day).items():
        setattr(total, name, getattr(total, name) + number)


def _at_most(name: str, bound: float, found: float, unit: str, note: str = "") -> Invariant:
    return Invariant(name=name, bound=bound, found=found, unit=unit, holds=found <= bound, note=note)


def _share(name: str, bound: float, part: int, whole: int) -> Invariant:
    found = 100 * part / whole if whole else 0.0
    holds = found <= 100 * bound if whole else None
    return Invariant(name=name, bound=100 * bound, found=found, unit="%", holds=holds, note=f"{part:,} of {whole:,}")


def _finished(ledger: Ledger, settled: Day) -> Invariant:
    heartbeats = settled.rest_days * DAY_S / ledger.population.devices[0].settings.heartbeat_s
    found = settled.rest_sends / heartbeats if heartbeats else 0.0
    return Invariant(
        name="updates of finished tasks, a heartbeat and device",
        bound=ledger.plan.max_rest_sends,
        found=found,
        unit="",
        holds=found <= ledger.plan.max_rest_sends if settled.rest_days >= LEAST_REST_DAYS else None,
        note=f"{settled.rest_sends:,} in {settled.rest_days:,.0f} days of devices",
    )


def _written(ledger: Ledger) -> Invariant:
    of_each = {
        index: DAY_S * ledger.written[index] / on_s / MB
        for index, on_s in ledger.settled_on_s.items()
        if on_s >= LEAST_ON_S
    }
    worst = max(of_each, key=lambda index: of_each[index], default=-1)
    found = of_each.get(worst, 0.0)
    return Invariant(
        name="written, a day and device",
        bound=ledger.plan.max_written_mb,
        found=found,
        unit="MB",
        holds=found <= ledger.plan.max_written_mb if of_each else None,
        note=f"node {worst}" if of_each else "",
    )


def _bounded(ledger: Ledger, name: str) -> Invariant:
    """The day on which it was nearest to its bound."""
    rows = [row for row in ledger.sizes if row[1] == name]
    if not rows:
        return Invariant(name=f"size: {name}", bound=0, found=0, unit="", holds=None)
    day, _, most, allowed, _ = max(rows, key=lambda row: row[2] / row[3])
    return Invariant(
        name=f"size: {name}", bound=allowed, found=most, unit="", holds=most <= allowed, note=f"most on day {day}"
    )


def _growth(ledger: Ledger) -> Invariant:
    """How the mean core grows while nothing new comes: the last third of that time against the first."""
    rows = [(day, mean) for day, name, _, _, mean in ledger.sizes if name == WHOLE and day * DAY_S > ledger.newest_s]
    third = len(rows) // 3
    first, last = rows[:third], rows[-third:] if third else []
    long_enough = bool(third) and rows[-1][0] - rows[0][0] >= 2 * LEAST_WINDOW_DAYS
    found = sum(mean for _, mean in last) / max(1.0, sum(mean for _, mean in first)) if long_enough else 1.0
    return Invariant(
        name="growth of the whole core while nothing new comes",
        bound=ledger.plan.max_growth,
        found=found,
        unit="×",
        holds=found <= ledger.plan.max_growth if long_enough else None,
        note=f"from day {rows[0][0]} to day {rows[-1][0]}" if rows else "",
    )
