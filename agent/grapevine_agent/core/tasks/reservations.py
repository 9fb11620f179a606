"""Who holds what of the device: memory, cores and disk, reserved when a task is joined and free again when it ends.

A task whose initial weights nobody has holds nothing after a while, until they come (see `task_life`).

Two tasks that each fit do not fit together. So what a task needs is held against what the others have left. A task
that waits for room is asked about again as soon as one of them ends.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Final

from grapevine_agent.core.settings import DeviceLimits, Needs

_UNITS: Final = {"memory_mb": "MB of memory", "cores": "cores", "disk_mb": "MB of disk"}
MOST_NAMED: Final = 4  # holders in a refusal


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a joined task holds."""

    name: str
    needs: Needs


@dataclass(kw_only=True)
class Reservations:
    """See the module's docstring."""

    limits: DeviceLimits
    holdings: dict[str, Holding] = field(default_factory=dict)  # by task, in the order in which they were joined

    def take(self, task: str, name: str, needs: Needs) -> None:
        """A task is joined."""
        self.holdings[task] = Holding(name=name, needs=needs)

    def give_back(self, task: str) -> None:
        """It is not, any more."""
        self.holdings.pop(task, None)

    def holds(self, task: str) -> bool:
        """Whether a task holds anything."""
        return task in self.holdings

    def renew(self, task: str, needs: Needs) -> None:
        """A joined task needs something else than before, as its samples have become more: it gets what is free."""
        held = self.holdings.get(task)
        if held is not None and held.needs != needs and not self.why_no_room(task, needs):
            self.take(task, held.name, needs)

    def free(self, what: str, *, beside: Collection[str] = ()) -> int:
        """What is left of one of them; what the tasks in `beside` hold counts as free."""
        limit: int = getattr(self.limits, what)
        held: int = sum(getattr(each.needs, what) for task, each in self.holdings.items() if task not in beside)
        return limit - held

    def room_mb(self, task: str) -> int:
        """The memory that a task's trainer may take: its own, and what nobody holds."""
        return max(0, self.free("memory_mb", beside=(task,)))

    def why_no_room(self, task: str, needs: Needs, *, giving_way: Collection[str] = ()) -> str:
        """Why a task does not fit beside the others, which hold what, and the remedy; empty if it does.

        `giving_way`: tasks that end when this one begins.
        """
        beside = (task, *giving_way)
        return "; ".join(
            reason for each in fields(Needs) if (reason := self._reason(each.name, getattr(needs, each.name), beside))
        )

    def _reason(self, what: str, needed: int, beside: Collection[str]) -> str:
        limit, free = getattr(self.limits, what), self.free(what, beside=beside)
        if needed <= max(0, free):
            return ""
        about = "" if what == "cores" else "about "
        holders = [
            (getattr(each.needs, what), each.name)
            for task, each in self.holdings.items()
            if task not in beside and getattr(each.needs, what)
        ]
        if needed > limit and not holders:
            return f"needs {about}{needed:,} {_UNITS[what]}, and {limit:,} may be used"
        holders.sort(reverse=True)
        named = ", ".join(f"`{name}` holds {held:,}" for held, name in holders[:MOST_NAMED])
        more = f" and {len(holders) - MOST_NAMED} more" if len(holders) > MOST_NAMED else ""
        return (
            f"needs {about}{needed:,} {_UNITS[what]}, {max(0, free):,} of {limit:,} are free: {named}{more}; "
            "leaving one of them makes room (grapevine leave)"
        )
