"""When a task's model goes to disk: when it has changed, and no more often than the owner lets it.

Two things bound what a kill or a power cut can cost, and what saving costs a memory card:

    save_every_s       no model is saved more often: so much of a task's training is lost at most, and
    bytes_per_day      all tasks together write so much: where their models are large, each is saved more seldom

`SaveBudget.interval_s` is what follows from the two, and what `status` tells. A model that has not changed is not
written; that merging equal models moves its last digits is no change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.effects import SaveModel
from grapevine_agent.core.learning.rest import MOVES, has_moved

DAY_S: Final = 86_400.0
FILE_BYTES: Final = 8 * 1024  # of a saved model beside its numbers: header, whole blocks, the folder's entry
_ROUNDS_ONLY = frozenset(("round", "window", "num_released"))  # counters that move in a task in which nothing happens


@dataclass(kw_only=True)
class SaveBudget:
    """What all tasks of an agent may write of their models."""

    save_every_s: float
    bytes_per_day: float = math.inf
    _sizes: dict[str, int] = field(default_factory=dict)

    @property
    def interval_s(self) -> float:
        """Each task's model is saved so often at most: what a kill costs of its training."""
        return max(self.save_every_s, DAY_S * sum(self._sizes.values()) / self.bytes_per_day)

    def enter(self, task: str, num_bytes: int) -> None:
        """From now on a model of this size is saved, too."""
        self._sizes[task] = num_bytes

    def leave(self, task: str) -> None:
        """A task's model is saved no more."""
        self._sizes.pop(task, None)


@dataclass(kw_only=True)
class Keeper:
    """Decides for one task. `next_s` (monotonic) is when to look whether its model has changed."""

    budget: SaveBudget
    kept: SaveModel | None = None  # what is on disk, or on its way there
    next_s: float = 0.0

    def due(self, model: SaveModel, now_s: float) -> list[SaveModel]:
        """What is to be saved at this look: the model, or nothing."""
        self.budget.enter(model.task, _num_bytes(model))
        self.next_s = now_s + self.budget.interval_s
        return self.if_changed(model)

    def if_changed(self, model: SaveModel) -> list[SaveModel]:
        """The model, unless what is kept is the same."""
        if self.kept is not None and _is_same(self.kept, model):
            return []
        self.kept = model
        return [model]


def _num_bytes(model: SaveModel) -> int:
    return FILE_BYTES + sum(vector.nbytes for vector in model.vectors.values())


def _is_same(one: SaveModel, other: SaveModel) -> bool:
    if _told(one.counters) != _told(other.counters) or one.vectors.keys() != other.vectors.keys():
        return False
    return not any(has_moved(vector, other.vectors[name], MOVES) for name, vector in one.vectors.items())


def _told(counters: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in counters.items() if name not in _ROUNDS_ONLY}
