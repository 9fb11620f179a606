"""What a trainer could not do: counted in a row and by kind, until the task is given up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_agent.core.effects import Notify

MAX_FAILURES = 3  # in a row and of one kind, before the task is given up
RETRY_TRAINING_S = 5.0

Kind: TypeAlias = Literal["training", "evaluation"]


@dataclass(kw_only=True)
class Failures:
    """Of one task, whose name is for people."""

    name: str
    given_up: str = ""  # why the task is over
    _in_a_row: Counter[Kind] = field(default_factory=Counter)

    def add(self, kind: Kind, error: str) -> Notify:
        """The trainer could not do what it was asked for. A task of which one kind of work always fails ends."""
        self._in_a_row[kind] += 1
        if (num := self._in_a_row[kind]) >= MAX_FAILURES:
            self.given_up = f"{kind} failed {num} times in a row: {error}"
        return Notify(text=f"{self.name}: {self.given_up or f'{kind} failed: {error}'}", level="warning")

    def end(self, kind: Kind) -> None:
        """It could."""
        self._in_a_row[kind] = 0

    @property
    def is_last_chance(self) -> bool:
        """Whether one more failure to train ends the task."""
        return self._in_a_row["training"] == MAX_FAILURES - 1

    @property
    def retry_after_s(self) -> float:
        """How long to wait before training again: longer after each failure."""
        return RETRY_TRAINING_S * self._in_a_row["training"]
