"""What is run: tasks with who has which of their samples, and arrangements of servers and gossip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_lab.robust import columns

SCENARIO: Final = Path(__file__).parent / "swarm.toml"
ROUND_S: Final = 0.5  # of all tasks
ROUNDS: Final = 120
TASKS: Final = {column.name: column for column in columns.COLUMNS.values()}
FLAP_ROUNDS: Final = 5  # a flapping server is there for so many rounds, and away for as many


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """One way to learn together. `present` and `events` are in thirds of the run."""

    name: str
    told: str
    changes: tuple[str, ...] = ()
    present: tuple[tuple[float, float], ...] = ()
    events: tuple[tuple[float, str], ...] = ()  # when the server goes, or comes back
    flaps: bool = False  # through the second third


_ALWAYS: Final = ((0.0, 3.0),)
ARRANGEMENTS: Final = {
    each.name: each
    for each in (
        Arrangement(
            name="server",
            told="server alone",
            changes=('task.merging={strategy = "follow-server"}',),
            present=_ALWAYS,
        ),
        Arrangement(name="gossip", told="gossip alone"),
        Arrangement(name="both", told="both", present=_ALWAYS),
        Arrangement(
            name="lost",
            told="both, the server lost at a third and back at two thirds",
            present=((0.0, 1.0), (2.0, 3.0)),
            events=((1.0, "loss"), (2.0, "return")),
        ),
        Arrangement(
            name="flapping",
            told=f"both, a server that goes and comes every {FLAP_ROUNDS} rounds of the second third",
            present=((0.0, 1.0), (2.0, 3.0)),
            events=((1.0, "flapping"), (2.0, "return")),
            flaps=True,
        ),
    )
}
FOR_SPEED: Final = ("server", "gossip", "both")


def present_s(arrangement: Arrangement, rounds: int) -> list[tuple[float, float]]:
    """The spans of virtual seconds at which the server is there; the last one has no end."""
    third_s = rounds * ROUND_S / 3
    spans = [(from_ * third_s, until * third_s) for from_, until in arrangement.present]
    if arrangement.flaps:
        each_s = FLAP_ROUNDS * ROUND_S
        at_s = third_s + each_s
        while at_s + 2 * each_s <= 2 * third_s:
            spans.insert(-1, (at_s, at_s + each_s))
            at_s += 2 * each_s
    if spans:
        spans[-1] = (spans[-1][0], float("inf"))
    return spans


def changes_of(task: str, arrangement: str, rounds: int) -> tuple[str, ...]:
    """All that one run lays over swarm.toml."""
    chosen = ARRANGEMENTS[arrangement]
    spans = ", ".join(f"[{from_s:g}, {until_s:g}]" for from_s, until_s in present_s(chosen, rounds))
    return (
        *TASKS[task].changes,
        *chosen.changes,
        f"scenario.duration_s={rounds * ROUND_S}",
        f"server.present=[{spans}]",
    )
