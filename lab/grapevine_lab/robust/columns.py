"""The columns of the table: a task, and who has which of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_lab.robust.attacks import NUM_NODES, Attack

_HERE: Final = Path(__file__).parent
SCENARIO: Final = _HERE / "swarm.toml"
ROUND_S: Final = 0.5  # of both tasks
ROUNDS: Final = 60
STRATEGIES: Final = ("doubly-weighted", "age-weighted")  # the whole table, unless others are named


@dataclass(frozen=True, kw_only=True)
class Column:
    """One task with its partition. `changes` are laid over swarm.toml."""

    name: str
    told: str
    changes: tuple[str, ...]


def _digits(num_classes: int, step: int) -> tuple[str, ...]:
    partition = f'partition={{kind = "classes", classes_per_node = {num_classes}, class_step = {step}}}'
    return ('task={name = "digits"}', 'data={name = "digits"}', partition)


_WRITERS: Final = (
    f"task={{path = '{_HERE / 'pixels'}'}}",
    'data={name = "mnist-by-writer"}',
    'partition={kind = "by-writer"}',
    "measure.test_samples=1000",
)
COLUMNS: Final = {
    column.name: column
    for column in (
        Column(name="digits-4", told="digits, 4 of 10 classes each", changes=_digits(4, 2)),
        Column(name="digits-2", told="digits, 2 of 10 classes each", changes=_digits(2, 1)),
        Column(name="mnist-by-writer", told="MNIST by writer", changes=_WRITERS),
    )
}


def changes_of(column: Column, strategy: str, attack: Attack, rounds: int) -> tuple[str, ...]:
    """All that one run lays over swarm.toml."""
    return (
        *column.changes,
        f"scenario.rounds={rounds}",
        f"nodes.num={NUM_NODES}",
        f'task.merging={{strategy = "{strategy}"}}',
        *attack.change(rounds * ROUND_S),
    )
